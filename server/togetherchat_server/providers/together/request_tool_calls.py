"""Gives an id to past tool calls that have none, and to their results.

This service sends every call with an id, but a conversation may come from elsewhere: some engines send
calls without ids, and their clients send them back so. Together rejects a result without an id.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import cast

from togetherchat_server.providers.together.response_parts import tool_call_id

_Json = dict[str, object]


def add_missing_ids(messages: Iterable[_Json]) -> None:
    """Add ids to the messages of a request, in place.

    An id follows from the position of its call, so that a conversation that grows keeps its ids. A result
    without an id belongs to the first such call of the last turn that has no result yet.
    """
    unanswered: deque[str] = deque()
    number = 0
    for message in messages:
        if calls := message.get("tool_calls"):
            unanswered.clear()
            for call in cast("list[_Json]", calls):
                if not call["id"]:
                    call["id"] = tool_call_id("", 0, number)
                    unanswered.append(call["id"])
                number += 1
        elif unanswered and _is_result_without_id(message):
            message["tool_call_id"] = unanswered.popleft()


def _is_result_without_id(message: Mapping[str, object]) -> bool:
    return message["role"] == "tool" and "tool_call_id" not in message
