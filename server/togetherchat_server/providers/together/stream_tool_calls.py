"""Assigns the fragments of a stream to the tool calls of a choice.

Engines repeat ids and names or leave them out, and some send no index. Only what is new in a fragment
is passed on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.providers.together import schema


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
@dataclass(slots=True)
class _SeenToolCall:
    """The id and name that fragments of a tool call have carried so far."""

    id: str = ""
    name: str = ""


@final
class ToolCallTracker:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._calls: dict[int, _SeenToolCall] = {}
        self._last_index = 0

    def new_fragments(self, fragments: Sequence[schema.ResponseToolCall]) -> list[ToolCallFragment]:
        """The first fragment of each call, and later ones that add something."""
        new: list[ToolCallFragment] = []
        for position, fragment in enumerate(fragments):
            index = self._index(fragment, position, alone=len(fragments) == 1)
            first = index not in self._calls
            added = self._added(index, fragment)
            if first or added.id or added.name or added.arguments:
                new.append(added)
        return new

    def _index(self, fragment: schema.ResponseToolCall, position: int, *, alone: bool) -> int:
        """Return the call to which a fragment belongs: its index decides, whatever its id.

        Without an index: a known id names its call, a new id opens the next, and a fragment
        without either continues the last call, or stands for its position among several.
        """
        if fragment.index is not None:
            index = fragment.index
        elif fragment.id:
            same_id = (number for number, call in self._calls.items() if call.id == fragment.id)
            index = next(same_id, max(self._calls, default=-1) + 1)
        else:
            index = self._last_index if alone else position
        self._last_index = index
        return index

    def _added(self, index: int, fragment: schema.ResponseToolCall) -> ToolCallFragment:
        call = self._calls.setdefault(index, _SeenToolCall())
        function = fragment.function or schema.ResponseFunction()
        added = ToolCallFragment(
            index=index,
            id="" if call.id else fragment.id,
            name="" if call.name else function.name,
            arguments=[function.arguments] if function.arguments else [],
        )
        call.id, call.name = call.id or fragment.id, call.name or function.name
        return added
