"""Folds the events of a stream into the answer that Complete would have given.

Part of the contract, written by hand: the client gathers its streams with it, and the service
answers Complete with it where the answer is long. Pure: no channel, no clock. The law it
follows is written at `ChatService.StreamComplete`: text is appended to text, a tool call's
arguments to the arguments of the call with the same index, each choice by itself, and an event
that is not known is none.
"""

from dataclasses import dataclass, field

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service


@dataclass(slots=True)
class _ToolCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Choice:
    """Pieces of one choice. Lists, for appending to a protobuf string copies it every time."""

    role: "chat.Role.ValueType" = chat.ROLE_ASSISTANT
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    reasoning_key: str = ""
    tool_calls: dict[int, _ToolCall] = field(default_factory=dict[int, _ToolCall])
    logprobs: chat.Logprobs | None = None
    finished: service.ChoiceFinished | None = None


class Accumulator:
    """Takes events one by one; `response()` is the answer as far as it has come."""

    def __init__(self) -> None:
        self._started = service.Started()
        self._choices: dict[int, _Choice] = {}
        self._completed: service.Completed | None = None
        self._empty = True

    @property
    def whole(self) -> bool:
        """Whether the last event came: nothing is missing."""
        return self._completed is not None

    @property
    def empty(self) -> bool:
        """Whether no event that is known came."""
        return self._empty

    def add(self, event: service.StreamCompleteResponse) -> None:
        """Take the next event. One that this version does not know changes nothing."""
        match event.WhichOneof("event"):
            case "started":
                self._started = event.started
            case "delta":
                _add_delta(self._choice(event.delta.choice_index), event.delta)
            case "choice_finished":
                self._choice(event.choice_finished.choice_index).finished = event.choice_finished
            case "completed":
                self._completed = event.completed
            case None:
                return
        self._empty = False

    def response(self) -> service.CompleteResponse:
        """The answer; of a stream that is not `whole`, the part that came."""
        started = self._started
        response = service.CompleteResponse(
            id=started.id,
            model=started.model,
            create_time=started.create_time if started.HasField("create_time") else None,
            system_fingerprint=started.system_fingerprint,
            choices=[_fold(index, choice) for index, choice in sorted(self._choices.items())],
        )
        if self._completed is not None:
            _complete(response, self._completed)
        return response

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())


def _add_delta(choice: _Choice, delta: service.Delta) -> None:
    choice.role = delta.role or choice.role
    choice.reasoning_key = delta.reasoning_key or choice.reasoning_key
    if delta.text:
        choice.text.append(delta.text)
    if delta.reasoning:
        choice.reasoning.append(delta.reasoning)
    for piece in delta.tool_calls:
        _add_piece(choice.tool_calls.setdefault(piece.index, _ToolCall()), piece)
    if delta.HasField("logprobs"):
        choice.logprobs = choice.logprobs or chat.Logprobs()
        choice.logprobs.tokens.extend(delta.logprobs.tokens)


def _add_piece(call: _ToolCall, piece: service.ToolCallDelta) -> None:
    call.id = piece.id or call.id
    call.name = piece.name or call.name
    call.arguments.append(piece.arguments)


def _fold(index: int, choice: _Choice) -> chat.Choice:
    text = "".join(choice.text)
    folded = chat.Choice(
        index=index,
        message=chat.Message(
            role=choice.role,
            content=[chat.ContentPart(text=text)] if text else [],
            tool_calls=[_fold_call(call) for _, call in sorted(choice.tool_calls.items())],
            reasoning="".join(choice.reasoning),
            reasoning_key=choice.reasoning_key,
        ),
        logprobs=choice.logprobs,
    )
    if choice.finished is not None:
        _finish(folded, choice.finished)
    return folded


def _fold_call(call: _ToolCall) -> chat.ToolCall:
    function = chat.FunctionCall(name=call.name, arguments="".join(call.arguments))
    return chat.ToolCall(id=call.id, function=function)


def _finish(folded: chat.Choice, finished: service.ChoiceFinished) -> None:
    folded.finish_reason = finished.finish_reason
    folded.finish_reason_raw = finished.finish_reason_raw
    if finished.HasField("seed"):
        folded.seed = finished.seed


def _complete(response: service.CompleteResponse, completed: service.Completed) -> None:
    if completed.HasField("usage"):
        response.usage.CopyFrom(completed.usage)
    response.warnings.extend(completed.warnings)
    response.attempts = completed.attempts
