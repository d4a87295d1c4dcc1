"""Assigns the fragments of a stream to the tool calls of a choice, and numbers the calls.

The theory. A fragment has an index, an id and a name, or any part of these. Engines repeat ids and names
or leave them out, send every call with index 0, open a call with one index and continue it with another,
or send whole calls without index and id. So no part alone identifies a call:

- A fragment with a name may open a call, even if its index is known: with another id, with another
  name, or with arguments that begin after complete ones.
- The same id stays one call, and so does another id without a name.
- A fragment without id and name continues the call with its index, else the last call that has either.

Calls are numbered in the order in which they open, whatever the provider's indexes are. Only what is
new in a fragment is passed on. A call without an id gets one at once, because its first delta needs it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import orjson

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.split_characters import CharacterJoiner

PARSED_CHARACTERS_MAX: Final = 65_536
"""Longer arguments are not parsed to see whether they are complete: their last character decides."""


@final
@dataclass(slots=True, kw_only=True)
class ToolCallFragment:
    """A fragment of a tool call. Fields that an earlier fragment has set are empty."""

    index: int
    id: str
    name: str
    arguments: list[str]

    def delta(self) -> service.ToolCallDelta:
        return service.ToolCallDelta(
            index=self.index, id=self.id, name=self.name, arguments="".join(self.arguments)
        )


@final
@dataclass(slots=True, kw_only=True)
class _OpenCall:
    """A tool call, with what its fragments have carried so far."""

    number: int
    opened_index: int | None
    """The provider's index in the first fragment."""
    id: str
    """The provider's id; empty if the first fragment had none."""
    name: str = ""
    joiner: CharacterJoiner = field(default_factory=CharacterJoiner)
    _arguments: list[str] = field(default_factory=list[str])
    _characters: int = 0

    def add_arguments(self, text: str) -> None:
        self._characters += len(text)
        if self._characters <= PARSED_CHARACTERS_MAX:
            self._arguments.append(text)
        else:
            self._arguments = [text]

    def is_another(self, fragment: schema.ResponseToolCall) -> bool:
        """Return whether a fragment that could continue this call opens another one."""
        function = fragment.function
        if function is None or not function.name or (fragment.id and fragment.id == self.id):
            return False
        if (fragment.id and self.id) or (self.name and function.name != self.name):
            return True
        # No object begins where another has ended, so these are the arguments of another call.
        return (function.arguments or "").lstrip().startswith("{") and self.is_complete()

    def is_complete(self) -> bool:
        """Return whether the arguments are a complete JSON object."""
        if not (self._arguments and self._arguments[-1].rstrip().endswith("}")):
            return False
        if self._characters > PARSED_CHARACTERS_MAX:
            return True
        try:
            orjson.loads("".join(self._arguments))
        except orjson.JSONDecodeError:
            return False
        return True


@final
class ToolCallTracker:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int, _OpenCall] = {}
        self._by_id: dict[str, _OpenCall] = {}
        self._last: _OpenCall | None = None
        self._shift = 0
        """How much a fragment's index is below the index with which its call opened."""
        self._batch: list[_OpenCall] = []
        """The calls of the last fragments that came together."""

    def __bool__(self) -> bool:
        return bool(self._calls)

    def new_fragments(
        self, fragments: Sequence[schema.ResponseToolCall], make_id: Callable[[int], str]
    ) -> list[ToolCallFragment]:
        """Return the first fragment of each call, and later ones that add something.

        `make_id` returns the id of the call with a number, for a call whose first fragment has no id.
        """
        new: list[ToolCallFragment] = []
        batch: list[_OpenCall] = []
        for position, fragment in enumerate(fragments):
            call = self._continued(fragment, position, len(fragments), batch)
            if call is None:
                call = self._open(fragment)
                added = _added(call, fragment, call_id=call.id or make_id(call.number))
            else:
                added = _added(call, fragment, call_id="")
            self._learn(call, fragment)
            if added.id or added.name or added.arguments:
                new.append(added)
            self._last = call
            batch.append(call)
        self._batch = batch
        return new

    def flush(self) -> list[ToolCallFragment]:
        """Return fragments for the half characters at the end of arguments."""
        rests = ((call.number, call.joiner.flush()) for call in self._calls)
        return [
            ToolCallFragment(index=number, id="", name="", arguments=[rest]) for number, rest in rests if rest
        ]

    def _learn(self, call: _OpenCall, fragment: schema.ResponseToolCall) -> None:
        """Remember an index or an id that came after the first fragment."""
        if fragment.index is not None and call.opened_index is None:
            self._by_index.setdefault(fragment.index, call)
        if fragment.id and not call.id:
            call.id = fragment.id
            self._by_id.setdefault(fragment.id, call)

    def _continued(
        self, fragment: schema.ResponseToolCall, position: int, together: int, batch: Sequence[_OpenCall]
    ) -> _OpenCall | None:
        """Return the call that a fragment continues; None if it opens one."""
        if fragment.index is not None:
            call = self._with_index(fragment, fragment.index)
        elif fragment.id:
            call = self._with_id(fragment)
        elif together == 1:
            call = self._last
        else:
            call = self._at(position, together)
            if call in batch and _name(fragment):
                return None
        return None if call is None or call.is_another(fragment) else call

    def _with_id(self, fragment: schema.ResponseToolCall) -> _OpenCall | None:
        call, last = self._by_id.get(fragment.id), self._last
        comes_late = call is None and last is not None and not last.id and not _name(fragment)
        return last if comes_late else call

    def _with_index(self, fragment: schema.ResponseToolCall, index: int) -> _OpenCall | None:
        known = self._by_index.get(index)
        same_id = self._by_id.get(fragment.id) if fragment.id else None
        if same_id is not None and (known is None or known.id != fragment.id):
            # The id decides. Engines that give several calls the same id give each its own index.
            opens = known is None and _name(fragment) and same_id.is_complete()
            return None if opens else same_id
        if fragment.id or _name(fragment):
            return known
        return self._with_index_alone(index)

    def _with_index_alone(self, index: int) -> _OpenCall | None:
        """Return the call of a fragment without id and name, whose index may differ from its call's."""
        call = self._by_index.get(index + self._shift)
        last = self._last
        if call is None and last is not None and (last.id or last.name):
            if last.opened_index is not None:
                self._shift = last.opened_index - index
            return last
        return call

    def _at(self, position: int, together: int) -> _OpenCall | None:
        """Return the call at a position among fragments without index and id that came together."""
        calls = self._batch if len(self._batch) == together else self._calls
        return calls[position] if position < len(calls) else None

    def _open(self, fragment: schema.ResponseToolCall) -> _OpenCall:
        call = _OpenCall(number=len(self._calls), opened_index=fragment.index, id=fragment.id)
        self._calls.append(call)
        if fragment.id:
            self._by_id[fragment.id] = call
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        return call


def _name(fragment: schema.ResponseToolCall) -> str:
    return "" if fragment.function is None else fragment.function.name


def _added(call: _OpenCall, fragment: schema.ResponseToolCall, *, call_id: str) -> ToolCallFragment:
    """Return what a fragment adds to its call; `call_id` is empty unless it opens the call."""
    function = fragment.function or schema.ResponseFunction()
    arguments = call.joiner.feed(function.arguments) if function.arguments else ""
    added = ToolCallFragment(
        index=call.number,
        id=call_id,
        name="" if call.name else function.name,
        arguments=[arguments] if arguments else [],
    )
    call.name = call.name or function.name
    if arguments:
        call.add_arguments(arguments)
    return added
