"""The dialects of the real API: each engine encodes the same completion differently.

Each dialect follows traffic recorded in 2026 (`TOGETHER`: Llama and Qwen; `TRAILING_USAGE`:
Kimi-K2.7-Code; `KIMI_K3`: Kimi-K3) or reports about it (`USAGE_IF_REQUESTED`: the GLM family).
Owns which model uses which dialect.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class UsagePlacement(Enum):
    """Where a stream reports its usage."""

    FINISH_CHUNK = "beside the last finish reason"
    TRAILING_CHUNK = "in a chunk of its own without choices"
    IN_CHOICE = "inside the last choice, unless include_usage requests a chunk of its own"
    IF_REQUESTED = "in a chunk of its own, only when include_usage requests it"
    ABSENT = "not at all"


class ToolCallStyle(Enum):
    """How the fragments of a stream name their tool call. Together's style is NUMBERED."""

    NUMBERED = "each call has its own index, and its id in the first fragment"
    SHARED_INDEX = "every call has index 0, and its id in the first fragment"
    SHIFTED_INDEX = "the first fragment has an index that is one higher than that of the others"
    WHOLE_WITHOUT_ID = "a call is one fragment, without index and id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How an engine encodes a completion.

    `together_fields`: Together's own extras (`prompt`, `seed`, `logprobs`, an empty `tool_calls`,
    the `text` beside `delta`, `token_id`, the role in each chunk). `opening_chunk`: an empty chunk
    is sent first. `late_head`: the first chunk has no id, no time and no choices. `stop_after_calls`:
    the finish reason is `stop`, whether tools are called or not.
    """

    together_fields: bool = True
    token_ids: bool = True
    reasoning_key: str = "reasoning"
    opening_chunk: bool = False
    usage: UsagePlacement = UsagePlacement.FINISH_CHUNK
    nested_usage_details: bool = False
    keepalives: int = 0
    flickering_finish_reason: bool = False
    tool_calls: ToolCallStyle = ToolCallStyle.NUMBERED
    stop_after_calls: bool = False
    late_head: bool = False


TOGETHER = Dialect()
TRAILING_USAGE = Dialect(
    token_ids=False, opening_chunk=True, usage=UsagePlacement.TRAILING_CHUNK, nested_usage_details=True
)
USAGE_IF_REQUESTED = Dialect(
    token_ids=False, opening_chunk=True, usage=UsagePlacement.IF_REQUESTED, nested_usage_details=True
)
KIMI_K3 = Dialect(
    together_fields=False,
    token_ids=False,
    reasoning_key="reasoning_content",
    opening_chunk=True,
    usage=UsagePlacement.IN_CHOICE,
    nested_usage_details=True,
    keepalives=2,
)
KEEPALIVE = Dialect(keepalives=3)
FLICKER = Dialect(flickering_finish_reason=True)
NO_USAGE = Dialect(usage=UsagePlacement.ABSENT)
SHARED_INDEX = Dialect(tool_calls=ToolCallStyle.SHARED_INDEX)
SHIFTED_INDEX = Dialect(tool_calls=ToolCallStyle.SHIFTED_INDEX)
CALLS_WITHOUT_IDS = Dialect(tool_calls=ToolCallStyle.WHOLE_WITHOUT_ID, stop_after_calls=True)
LATE_HEAD = Dialect(late_head=True)

# A part of the model's id in lower case -> its dialect; the first match counts.
DIALECTS_BY_MODEL: Mapping[str, Dialect] = {
    "kimi-k3": KIMI_K3,
    "kimi": TRAILING_USAGE,
    "glm": USAGE_IF_REQUESTED,
}
REASONING_MODELS = ("deepseek-r1", "kimi", "gpt-oss", "glm", "reason")


def dialect_of(model: str) -> Dialect:
    """Return the dialect of a model's engine: Together's own unless the id names another."""
    name = model.lower()
    return next((dialect for part, dialect in DIALECTS_BY_MODEL.items() if part in name), TOGETHER)


def reasons_first(model: str) -> bool:
    """Return whether a model sends reasoning before its content."""
    name = model.lower()
    return any(part in name for part in REASONING_MODELS)
