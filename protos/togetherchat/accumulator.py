"""Accumulates the events of a stream into the response that Complete would have returned.

Part of the contract, written by hand. The client accumulates its streams with this module, and
the service uses it where Complete reads a stream from the provider. Pure: no channel, no clock.

The rules are the stream guarantees at `ChatService.StreamComplete`. Text is appended to text, and
a tool call's arguments to the arguments of the call with the same index. Choices are independent
of each other. Unknown events are ignored.
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
    """Deltas of one choice, in lists: appending to a protobuf string copies the string each time."""

    role: "chat.Role.ValueType" = chat.ROLE_ASSISTANT
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    reasoning_field: "chat.ReasoningField.ValueType" = chat.REASONING_FIELD_UNSPECIFIED
    tool_calls: dict[int, _ToolCall] = field(default_factory=dict[int, _ToolCall])
    logprobs: chat.Logprobs | None = None
    finished: service.ChoiceFinished | None = None


class Accumulator:
    """Accumulates the events of one stream. `response()` has everything added so far."""

    def __init__(self) -> None:
        self._started = service.Started()
        self._choices: dict[int, _Choice] = {}
        self._completed: service.Completed | None = None
        self._empty = True

    @property
    def whole(self) -> bool:
        """Whether `completed` was added: the response is whole."""
        return self._completed is not None

    @property
    def empty(self) -> bool:
        """Whether no known event was added."""
        return self._empty

    def add(self, event: service.StreamCompleteResponse) -> None:
        """Add the next event. An event that this version does not know is ignored."""
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
        """The response so far; partial until the stream is `whole`."""
        started = self._started
        response = service.CompleteResponse(
            id=started.id,
            model=started.model,
            create_time=started.create_time if started.HasField("create_time") else None,
            system_fingerprint=started.system_fingerprint,
            choices=[_to_choice(index, choice) for index, choice in sorted(self._choices.items())],
        )
        if self._completed is not None:
            _add_completed(response, self._completed)
        return response

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())


def _add_delta(choice: _Choice, delta: service.Delta) -> None:
    choice.role = delta.role or choice.role
    choice.reasoning_field = delta.reasoning_field or choice.reasoning_field
    if delta.text:
        choice.text.append(delta.text)
    if delta.reasoning:
        choice.reasoning.append(delta.reasoning)
    if delta.refusal:
        choice.refusal.append(delta.refusal)
    for call in delta.tool_calls:
        _add_tool_call_delta(choice.tool_calls.setdefault(call.index, _ToolCall()), call)
    if delta.HasField("logprobs"):
        choice.logprobs = choice.logprobs or chat.Logprobs()
        choice.logprobs.tokens.extend(delta.logprobs.tokens)


def _add_tool_call_delta(call: _ToolCall, delta: service.ToolCallDelta) -> None:
    call.id = delta.id or call.id
    call.name = delta.name or call.name
    call.arguments.append(delta.arguments)


def _to_choice(index: int, choice: _Choice) -> chat.Choice:
    text = "".join(choice.text)
    result = chat.Choice(
        index=index,
        message=chat.Message(
            role=choice.role,
            content=[chat.ContentPart(text=text)] if text else [],
            tool_calls=[_to_tool_call(call) for _, call in sorted(choice.tool_calls.items())],
            reasoning="".join(choice.reasoning),
            reasoning_field=choice.reasoning_field,
            refusal="".join(choice.refusal),
        ),
        logprobs=choice.logprobs,
    )
    if choice.finished is not None:
        _add_finished(result, choice.finished)
    return result


def _to_tool_call(call: _ToolCall) -> chat.ToolCall:
    function = chat.FunctionCall(name=call.name, arguments="".join(call.arguments))
    return chat.ToolCall(id=call.id, function=function)


def _add_finished(choice: chat.Choice, finished: service.ChoiceFinished) -> None:
    choice.finish_reason = finished.finish_reason
    choice.finish_reason_raw = finished.finish_reason_raw
    if finished.HasField("seed"):
        choice.seed = finished.seed


def _add_completed(response: service.CompleteResponse, completed: service.Completed) -> None:
    if completed.HasField("usage"):
        response.usage.CopyFrom(completed.usage)
    response.warnings.extend(completed.warnings)
    response.attempts = completed.attempts
    if completed.HasField("timings"):
        response.timings.CopyFrom(completed.timings)
