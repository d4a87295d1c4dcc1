"""Translates Together's chunks to the events of `ChatService.StreamComplete`.

Keeps the stream guarantees written at that method. Knows no bytes and no time: chunks are fed as
they arrive, and events are popped when they can be sent.

The theory. A chunk is a bundle of fragments for some choices, and engines differ in all of it: the
role comes in each chunk or once; a finish reason comes, returns to null and comes again; usage comes
at the top of the last chunk, in a chunk of its own without choices, inside a choice, or never; the
fragments of a tool call carry its id once, always, as "" or not, and its index or not. So nothing is
concluded early: finish reasons and usage are kept, the last one wins, and both are reported when the
end is known. A failure inside a choice is the failure of the completion.

Fragments fed since the last `pop_events` are merged where that loses nothing: adjacent fragments of the
same choice, in the order reasoning, text, refusal, tool calls, which is the order in which a client reads one
delta. Reasoning from another field starts a new delta, since one delta names one field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, logprobs, lost_text, response_parts, schema
from togetherchat_server.providers.together.error_body import ErrorBody
from togetherchat_server.providers.together.split_characters import CharacterJoiner
from togetherchat_server.providers.together.stream_tool_calls import ToolCallFragment, ToolCallTracker

_ReasoningField: TypeAlias = "chat.ReasoningField.ValueType"
_UNSPECIFIED: Final = chat.REASONING_FIELD_UNSPECIFIED

_REASONING: Final = 0
_TEXT: Final = 1
_REFUSAL: Final = 2
_TOOLS: Final = 3


@final
class ChatStreamTranslator:
    """Feed chunks and pop events; call `finish` when the stream has ended and pop the last events."""

    def __init__(
        self, *, caller_brought_key: bool = False, call_id: str = "", secrets: tuple[Secret, ...] = ()
    ) -> None:
        """`call_id` is the completion's id if the provider sends none. The two other arguments are for
        errors inside the stream, see `errors`.
        """
        self.started = False
        """Whether the first event is known. A first chunk may have neither an id nor content: the event
        then waits for a chunk that has.
        """
        self.deltas = 0
        """Fragments with content, about one per token."""
        self._caller_brought_key = caller_brought_key
        self._call_id = call_id
        self._secrets = secrets
        self._head = service.Started()
        self._choices: dict[int, _ChoiceState] = {}
        self._usage: schema.ResponseUsage | None = None
        self._choice_usage: schema.ResponseUsage | None = None
        self._warnings: dict[str, None] = {}
        self._ready: list[service.StreamCompleteResponse] = []
        self._drafts: list[_Draft] = []

    @property
    def usage(self) -> chat.Usage:
        """Usage so far: the provider's count, else `deltas` as an estimate."""
        return response_parts.usage(self._usage, self._choice_usage, deltas=self.deltas)

    def feed(self, chunk: schema.Chunk) -> None:
        """Translate one chunk.

        Raises:
            ServiceError: the chunk, or a choice in it, is an error. Earlier events can still be popped.
        """
        if chunk.error is not None:
            raise self._failure(chunk.error)
        if not self.started:
            self._read_head(chunk)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.warnings is not None:
            self._warnings |= dict.fromkeys(response_parts.warnings(chunk.warnings))
        for position, fragment in enumerate(chunk.choices or ()):
            if fragment.error is not None or fragment.finish_reason == schema.ERROR_FINISH_REASON:
                raise self._failure(fragment.error or ErrorBody())
            self._feed_choice(position if fragment.index is None else fragment.index, fragment)
        if not self.started and (self._head.id or self.deltas):
            self._start()

    def pop_events(self) -> list[service.StreamCompleteResponse]:
        """Return the events since the last call."""
        if not self.started:
            return []
        events = self._ready
        for draft in self._drafts:
            event = service.StreamCompleteResponse()
            draft.write_to(event.delta)
            events.append(event)
        self._ready, self._drafts = [], []
        return events

    def finish(self, *, done: bool, attempts: int) -> None:
        """End the stream; `done` is whether `[DONE]` was received. The last events can then be popped.

        Raises:
            ServiceError: UPSTREAM_TRUNCATED if a choice is incomplete,
                UPSTREAM_MALFORMED_RESPONSE if the stream ended properly without a choice.
        """
        if done and not self._choices:
            raise ServiceError(Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's stream has no choices")
        if not done and not self._every_choice_finished():
            raise ServiceError(
                Reason.UPSTREAM_TRUNCATED, "the provider's stream ended before the completion did"
            )
        if not self.started:
            self._start()
        for index, choice in self._choices.items():
            self._flush_characters(index, choice)
        self._ready = self.pop_events()
        finished = (self._choices[index].finished(index) for index in sorted(self._choices))
        self._ready.extend(service.StreamCompleteResponse(choice_finished=choice) for choice in finished)
        usage = self.usage
        lost = [index for index, choice in sorted(self._choices.items()) if choice.is_lost(usage)]
        texts = dict.fromkeys([*self._warnings, *lost_text.warnings_of(lost)])
        warnings = [chat.Warning(message=text) for text in texts]
        completed = service.Completed(usage=usage, warnings=warnings, attempts=attempts)
        self._ready.append(service.StreamCompleteResponse(completed=completed))

    def _failure(self, error: ErrorBody) -> ServiceError:
        return errors.from_stream_error(
            error, caller_brought_key=self._caller_brought_key, secrets=self._secrets
        )

    def _every_choice_finished(self) -> bool:
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def _read_head(self, chunk: schema.Chunk) -> None:
        """Keep what the first chunks know of the completion. The first value of each field counts."""
        first = service.Started(
            id=chunk.id,
            model=chunk.model,
            create_time=response_parts.create_time(chunk.created),
            system_fingerprint=chunk.system_fingerprint,
        )
        first.MergeFrom(self._head)
        self._head = first

    def _start(self) -> None:
        self._head.id = self._completion_id
        self._ready.append(service.StreamCompleteResponse(started=self._head))
        self.started = True

    @property
    def _completion_id(self) -> str:
        return self._head.id or self._call_id

    def _feed_choice(self, index: int, fragment: schema.ChunkChoice) -> None:
        delta = fragment.delta
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _ChoiceState()
            raw_role = fragment.role if delta is None else delta.role or fragment.role
            self._draft(index, _REASONING).role = response_parts.role(raw_role)
        choice.update(fragment)
        if fragment.usage is not None:
            self._choice_usage = fragment.usage
        token = "" if delta is None else self._feed_delta(index, choice, delta)
        if fragment.logprobs is not None:
            tokens = logprobs.from_chunk(fragment, text=token, join=choice.tokens.feed)
            self._feed_logprobs(index, tokens)

    def _feed_delta(self, index: int, choice: "_ChoiceState", delta: schema.ResponseMessage) -> str:
        """Translate one delta. Returns its text, which is the token of a log probability."""
        reasoning, reasoning_field = response_parts.reasoning(delta)
        text, refusal = response_parts.text(delta), response_parts.refusal(delta)
        calls: list[ToolCallFragment] = []
        if fragments := response_parts.tool_calls(delta):
            make_id = partial(response_parts.tool_call_id, self._completion_id, index)
            calls = choice.tool_calls.new_fragments(fragments, make_id)
        if reasoning or text or refusal or calls:
            self.deltas += 1
        choice.has_reasoning |= bool(reasoning)
        choice.has_output |= bool(text or refusal or calls)
        if reasoning:
            choice.reasoning_field = reasoning_field
            reasoning = choice.reasoning.feed(reasoning)
            if reasoning:
                self._draft(index, _REASONING, reasoning_field=reasoning_field).reasoning.append(reasoning)
        if text:
            text = choice.text.feed(text)
            if text:
                self._draft(index, _TEXT).text.append(text)
        if refusal:
            refusal = choice.refusal.feed(refusal)
            if refusal:
                self._draft(index, _REFUSAL).refusal.append(refusal)
        if calls:
            self._draft(index, _TOOLS).add_tool_calls(calls)
        return text or reasoning or refusal or ""

    def _flush_characters(self, index: int, choice: "_ChoiceState") -> None:
        """Add what stands for half a character at the end of a text."""
        if rest := choice.reasoning.flush():
            self._draft(index, _REASONING, reasoning_field=choice.reasoning_field).reasoning.append(rest)
        if rest := choice.text.flush():
            self._draft(index, _TEXT).text.append(rest)
        if rest := choice.refusal.flush():
            self._draft(index, _REFUSAL).refusal.append(rest)
        if calls := choice.tool_calls.flush():
            self._draft(index, _TOOLS).add_tool_calls(calls)

    def _feed_logprobs(self, index: int, tokens: Sequence[chat.TokenLogprob]) -> None:
        if tokens:
            last = self._drafts[-1] if self._drafts else None
            rank = last.rank if last is not None and last.choice_index == index else _REASONING
            self._draft(index, rank).logprobs.extend(tokens)

    def _draft(self, index: int, rank: int, *, reasoning_field: _ReasoningField = _UNSPECIFIED) -> "_Draft":
        """The draft for a fragment of this rank: the last one if it accepts the fragment, else a new one."""
        last = self._drafts[-1] if self._drafts else None
        if last is not None and last.accepts(index, rank, reasoning_field):
            last.rank = rank
            last.reasoning_field = reasoning_field or last.reasoning_field
            return last
        draft = _Draft(choice_index=index, rank=rank, reasoning_field=reasoning_field)
        self._drafts.append(draft)
        return draft


@final
@dataclass(slots=True, kw_only=True)
class _Draft:
    """A delta under construction: its fragments are joined once, when it is popped."""

    choice_index: int
    rank: int
    reasoning_field: _ReasoningField
    role: chat.Role.ValueType = chat.ROLE_UNSPECIFIED
    reasoning: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallFragment] = field(default_factory=list[ToolCallFragment])
    logprobs: list[chat.TokenLogprob] = field(default_factory=list)

    def accepts(self, index: int, rank: int, reasoning_field: _ReasoningField) -> bool:
        return (
            self.choice_index == index
            and self.rank <= rank
            and (not reasoning_field or not self.reasoning_field or self.reasoning_field == reasoning_field)
        )

    def add_tool_calls(self, fragments: Sequence[ToolCallFragment]) -> None:
        """Join arguments to those of the same call; a fragment with a name or an id starts a new entry."""
        for fragment in fragments:
            last = self.tool_calls[-1] if self.tool_calls else None
            if last is not None and last.index == fragment.index and not (fragment.id or fragment.name):
                last.arguments.extend(fragment.arguments)
            else:
                self.tool_calls.append(fragment)

    def write_to(self, delta: service.Delta) -> None:
        """Set only the fields that have a value: a third of the time of a constructor with every field."""
        delta.choice_index = self.choice_index
        if self.role:
            delta.role = self.role
        if self.text:
            delta.text = "".join(self.text)
        if self.reasoning:
            delta.reasoning = "".join(self.reasoning)
            delta.reasoning_field = self.reasoning_field
        if self.refusal:
            delta.refusal = "".join(self.refusal)
        if self.tool_calls:
            delta.tool_calls.extend(call.delta() for call in self.tool_calls)
        if self.logprobs:
            delta.logprobs.tokens.extend(self.logprobs)


@final
@dataclass(slots=True)
class _ChoiceState:
    """The state of one choice until the stream ends."""

    finish_reason: str = ""
    seed: int | None = None
    tool_calls: ToolCallTracker = field(default_factory=ToolCallTracker)
    has_reasoning: bool = False
    has_output: bool = False
    """Whether text, a refusal or a tool call was received."""
    reasoning_field: _ReasoningField = _UNSPECIFIED
    reasoning: CharacterJoiner = field(default_factory=CharacterJoiner)
    text: CharacterJoiner = field(default_factory=CharacterJoiner)
    refusal: CharacterJoiner = field(default_factory=CharacterJoiner)
    tokens: CharacterJoiner = field(default_factory=CharacterJoiner)
    """Of the tokens beside log probabilities, where they are not the text itself."""

    def update(self, fragment: schema.ChunkChoice) -> None:
        """Keep the last finish reason that is set: with two tool calls it returns to null in between."""
        self.finish_reason = fragment.finish_reason or self.finish_reason
        if fragment.seed is not None:
            self.seed = fragment.seed

    def is_lost(self, usage: chat.Usage) -> bool:
        """Return whether reasoning used up the tokens before any output."""
        return lost_text.is_lost(
            finish_reason=response_parts.finish_reason(self.finish_reason, calls_tools=bool(self.tool_calls)),
            has_output=self.has_output,
            has_reasoning=self.has_reasoning,
            usage=usage,
        )

    def finished(self, index: int) -> service.ChoiceFinished:
        return service.ChoiceFinished(
            choice_index=index,
            finish_reason=response_parts.finish_reason(self.finish_reason, calls_tools=bool(self.tool_calls)),
            finish_reason_raw=self.finish_reason,
            seed=self.seed,
        )
