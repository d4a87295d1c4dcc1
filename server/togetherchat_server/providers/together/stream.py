"""Together's chunks as the events of our stream.

Owns the law written at `ChatService.StreamComplete`. Knows no bytes and no time: it is fed
chunks as they come and asked for events when somebody can take them.

The theory. A chunk is a bundle of fragments for some choices, and reality is loose about all
of it: the role comes in each chunk or once; a finish reason comes, goes back to null and comes
again; usage comes at the top of the last chunk, in a chunk of its own without choices, inside
a choice, or never; the fragments of a tool call carry its id once, always, as "" or not, and
its index or not. So nothing is concluded early: finish reasons and usage are kept, the last
one wins, and they are told when the end is known.

What was fed since the last `take` is merged where that loses nothing: fragments that are
neighbours, of the same choice, in the order thinking, text, tool calls, which is the order in
which one delta is read. Thinking in another spelling starts a new delta, since one delta
names one spelling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, logprobs, response_parts, schema

_REASONING: Final = 0
_TEXT: Final = 1
_TOOLS: Final = 2


@final
class ChatStreamTranslator:
    """Feed it chunks, take events; then say how the stream ended and take the last ones."""

    def __init__(self, *, caller_brought_key: bool = False, secrets: tuple[Secret, ...] = ()) -> None:
        """The two arguments are for the errors that a stream may carry, see `failures`."""
        self.started = False
        """Whether a chunk has come: from then on the answer is partly known."""
        self.pieces = 0
        """Fragments with content, about one a token."""
        self._caller_brought_key = caller_brought_key
        self._secrets = secrets
        self._choices: dict[int, _Choice] = {}
        self._usage: schema.Usage | None = None
        self._choice_usage: schema.Usage | None = None
        self._remarks: dict[str, None] = {}
        self._ready: list[service.StreamCompleteResponse] = []
        self._drafts: list[_Draft] = []

    @property
    def usage(self) -> chat.Usage:
        """What is known so far: the provider's count, else `pieces` as an estimate."""
        return response_parts.usage(self._usage, self._choice_usage, pieces=self.pieces)

    def feed(self, chunk: schema.Chunk) -> None:
        """Take in one chunk.

        Raises:
            ServiceError: the chunk is an error. What came before it can still be taken.
        """
        if chunk.error is not None:
            raise errors.from_stream_error(
                chunk.error, caller_brought_key=self._caller_brought_key, secrets=self._secrets
            )
        if not self.started:
            self._start(chunk)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.warnings is not None:
            self._remarks |= dict.fromkeys(response_parts.remarks(chunk.warnings))
        for place, fragment in enumerate(chunk.choices or ()):
            self._feed_choice(place if fragment.index is None else fragment.index, fragment)

    def take(self) -> list[service.StreamCompleteResponse]:
        """The events since the last take."""
        events = self._ready
        for draft in self._drafts:
            event = service.StreamCompleteResponse()
            draft.write_to(event.delta)
            events.append(event)
        self._ready, self._drafts = [], []
        return events

    def finish(self, *, done: bool, attempts: int) -> None:
        """The stream ended; `done` says that `[DONE]` came first. The rest can be taken then.

        Raises:
            ServiceError: UPSTREAM_TRUNCATED where the answer is not whole,
                UPSTREAM_MALFORMED_RESPONSE where it ended in order and had no choice.
        """
        if done and not self._choices:
            raise ServiceError(
                Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's stream has no choice in it"
            )
        if not done and not self._every_choice_finished():
            raise ServiceError(Reason.UPSTREAM_TRUNCATED, "the provider's stream ended before the answer did")
        self._ready = self.take()
        finished = (self._choices[index].finished(index) for index in sorted(self._choices))
        self._ready.extend(service.StreamCompleteResponse(choice_finished=choice) for choice in finished)
        warnings = [chat.Warning(message=remark) for remark in self._remarks]
        completed = service.Completed(usage=self.usage, warnings=warnings, attempts=attempts)
        self._ready.append(service.StreamCompleteResponse(completed=completed))

    def _every_choice_finished(self) -> bool:
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def _start(self, chunk: schema.Chunk) -> None:
        started = service.Started(
            id=chunk.id,
            model=chunk.model,
            create_time=response_parts.create_time(chunk.created),
            system_fingerprint=chunk.system_fingerprint,
        )
        self._ready.append(service.StreamCompleteResponse(started=started))
        self.started = True

    def _feed_choice(self, index: int, fragment: schema.ChunkChoice) -> None:
        delta = fragment.delta
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
            raw_role = fragment.role if delta is None else delta.role or fragment.role
            self._draft(index, _REASONING).role = response_parts.role(raw_role)
        choice.note(fragment)
        if fragment.usage is not None:
            self._choice_usage = fragment.usage
        if delta is not None:
            self._feed_delta(index, choice, delta)
        if fragment.logprobs is not None:
            self._feed_logprobs(index, fragment)

    def _feed_delta(self, index: int, choice: "_Choice", delta: schema.Message) -> None:
        reasoning, reasoning_key = response_parts.reasoning(delta)
        if reasoning:
            draft = self._draft(index, _REASONING, reasoning_key=reasoning_key)
            draft.reasoning.append(reasoning)
        if delta.content:
            self._draft(index, _TEXT).text.append(delta.content)
        calls = choice.tool_fragments(delta.tool_calls) if delta.tool_calls else []
        if calls:
            self._draft(index, _TOOLS).add_tools(calls)
        if reasoning or delta.content or calls:
            self.pieces += 1

    def _feed_logprobs(self, index: int, fragment: schema.ChunkChoice) -> None:
        tokens = logprobs.of_fragment(fragment)
        if tokens:
            last = self._drafts[-1] if self._drafts else None
            rank = last.rank if last is not None and last.choice_index == index else _REASONING
            self._draft(index, rank).logprobs.extend(tokens)

    def _draft(self, index: int, rank: int, *, reasoning_key: str = "") -> "_Draft":
        """The delta that a fragment of this rank goes into: the last one if it may, else a new one."""
        last = self._drafts[-1] if self._drafts else None
        if last is not None and last.accepts(index, rank, reasoning_key):
            last.rank = rank
            last.reasoning_key = reasoning_key or last.reasoning_key
            return last
        draft = _Draft(choice_index=index, rank=rank, reasoning_key=reasoning_key)
        self._drafts.append(draft)
        return draft


@final
@dataclass(slots=True, kw_only=True)
class _Draft:
    """A delta in the making: pieces are joined once, when it is taken."""

    choice_index: int
    rank: int
    reasoning_key: str
    role: chat.Role.ValueType = chat.ROLE_UNSPECIFIED
    reasoning: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    tools: "list[_ToolFragment]" = field(default_factory=list)
    logprobs: list[chat.TokenLogprob] = field(default_factory=list)

    def accepts(self, index: int, rank: int, reasoning_key: str) -> bool:
        return (
            self.choice_index == index
            and self.rank <= rank
            and (not reasoning_key or not self.reasoning_key or self.reasoning_key == reasoning_key)
        )

    def add_tools(self, fragments: "Sequence[_ToolFragment]") -> None:
        """Join arguments to those of the same call; a fragment with a name or an id opens a new piece."""
        for fragment in fragments:
            last = self.tools[-1] if self.tools else None
            if last is not None and last.index == fragment.index and not (fragment.id or fragment.name):
                last.arguments.extend(fragment.arguments)
            else:
                self.tools.append(fragment)

    def write_to(self, delta: service.Delta) -> None:
        """Set what there is: a third of the time of a constructor given everything, once a token."""
        delta.choice_index = self.choice_index
        if self.role:
            delta.role = self.role
        if self.text:
            delta.text = "".join(self.text)
        if self.reasoning:
            delta.reasoning = "".join(self.reasoning)
            delta.reasoning_key = self.reasoning_key
        if self.tools:
            delta.tool_calls.extend(tool.delta() for tool in self.tools)
        if self.logprobs:
            delta.logprobs.tokens.extend(self.logprobs)


@final
@dataclass(slots=True, kw_only=True)
class _ToolFragment:
    """A piece of a tool call, with what is new in it alone."""

    index: int
    id: str
    name: str
    arguments: list[str]

    def delta(self) -> service.ToolCallDelta:
        return service.ToolCallDelta(
            index=self.index, id=self.id, name=self.name, arguments="".join(self.arguments)
        )


@final
@dataclass(slots=True)
class _Call:
    """What has been told of a tool call."""

    id: str = ""
    name: str = ""


@final
@dataclass(slots=True)
class _Choice:
    """What is remembered of a choice until the end."""

    finish_reason: str = ""
    seed: int | None = None
    calls: dict[int, _Call] = field(default_factory=dict)
    last_call: int = 0

    def note(self, fragment: schema.ChunkChoice) -> None:
        """Keep the last finish reason that is one: on two tool calls it flickers back to null."""
        self.finish_reason = fragment.finish_reason or self.finish_reason
        if fragment.seed is not None:
            self.seed = fragment.seed

    def finished(self, index: int) -> service.ChoiceFinished:
        return service.ChoiceFinished(
            choice_index=index,
            finish_reason=response_parts.finish_reason(self.finish_reason),
            finish_reason_raw=self.finish_reason,
            seed=self.seed,
        )

    def tool_fragments(self, fragments: Sequence[schema.ToolCall]) -> list[_ToolFragment]:
        """What is new: a call's first fragment always, later ones where they add something."""
        news: list[_ToolFragment] = []
        for place, fragment in enumerate(fragments):
            index = self._call_index(fragment, place, alone=len(fragments) == 1)
            first = index not in self.calls
            new = self._news(index, fragment)
            if first or new.id or new.name or new.arguments:
                news.append(new)
        return news

    def _call_index(self, fragment: schema.ToolCall, place: int, *, alone: bool) -> int:
        """Which call a fragment belongs to: its index decides, whatever its id says.

        Without an index: a known id names its call, a new one opens the next, and a fragment
        without either goes on with the last call, or stands for its place among several.
        """
        if fragment.index is not None:
            index = fragment.index
        elif fragment.id:
            known = (number for number, call in self.calls.items() if call.id == fragment.id)
            index = next(known, max(self.calls, default=-1) + 1)
        else:
            index = self.last_call if alone else place
        self.last_call = index
        return index

    def _news(self, index: int, fragment: schema.ToolCall) -> _ToolFragment:
        call = self.calls.setdefault(index, _Call())
        function = fragment.function or schema.Function()
        news = _ToolFragment(
            index=index,
            id="" if call.id else fragment.id,
            name="" if call.name else function.name,
            arguments=[function.arguments] if function.arguments else [],
        )
        call.id, call.name = call.id or fragment.id, call.name or function.name
        return news


def events_from(response: service.CompleteResponse) -> list[service.StreamCompleteResponse]:
    """A whole answer as a stream of it: for a provider that answers `stream: true` with plain JSON."""
    started = service.Started(
        id=response.id,
        model=response.model,
        create_time=response.create_time if response.HasField("create_time") else None,
        system_fingerprint=response.system_fingerprint,
    )
    completed = service.Completed(
        usage=response.usage, warnings=response.warnings, attempts=response.attempts
    )
    return [
        service.StreamCompleteResponse(started=started),
        *(service.StreamCompleteResponse(delta=_whole(choice)) for choice in response.choices),
        *(service.StreamCompleteResponse(choice_finished=_end(choice)) for choice in response.choices),
        service.StreamCompleteResponse(completed=completed),
    ]


def _whole(choice: chat.Choice) -> service.Delta:
    message = choice.message
    calls = (
        service.ToolCallDelta(
            index=index, id=call.id, name=call.function.name, arguments=call.function.arguments
        )
        for index, call in enumerate(message.tool_calls)
    )
    return service.Delta(
        choice_index=choice.index,
        role=message.role,
        text="".join(part.text for part in message.content),
        reasoning=message.reasoning,
        reasoning_key=message.reasoning_key,
        tool_calls=calls,
        logprobs=choice.logprobs if choice.HasField("logprobs") else None,
    )


def _end(choice: chat.Choice) -> service.ChoiceFinished:
    return service.ChoiceFinished(
        choice_index=choice.index,
        finish_reason=choice.finish_reason,
        finish_reason_raw=choice.finish_reason_raw,
        seed=choice.seed if choice.HasField("seed") else None,
    )
