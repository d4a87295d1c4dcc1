"""The dialects of the real API: one answer, told differently by different engines.

Each style follows recorded traffic of 2026 (`TOGETHER`: Llama and Qwen; `TRAILING_USAGE`:
Kimi-K2.7-Code; `KIMI_K3`: Kimi-K3) or reports about it (`USAGE_IF_ASKED`: the GLM family).
Owns which model speaks which; knows no bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class UsagePlace(Enum):
    """Where a stream reports its usage."""

    FINISH_CHUNK = "beside the last finish reason"
    TRAILING_CHUNK = "in a chunk of its own without choices"
    IN_CHOICE = "inside the last choice, unless include_usage asks for a chunk of its own"
    IF_ASKED = "in a chunk of its own, only when include_usage asks for it"
    NOWHERE = "not at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How an engine tells an answer.

    `full`: Together's own extras (`prompt`, `seed`, `logprobs`, an empty `tool_calls`, the `text`
    beside `delta`, `token_id`, the role in each chunk). `opening`: an empty chunk comes first.
    """

    full: bool = True
    token_ids: bool = True
    reasoning_key: str = "reasoning"
    opening: bool = False
    usage: UsagePlace = UsagePlace.FINISH_CHUNK
    usage_nested: bool = False
    keepalives: int = 0
    flickers: bool = False


TOGETHER = Style()
TRAILING_USAGE = Style(token_ids=False, opening=True, usage=UsagePlace.TRAILING_CHUNK, usage_nested=True)
USAGE_IF_ASKED = Style(token_ids=False, opening=True, usage=UsagePlace.IF_ASKED, usage_nested=True)
KIMI_K3 = Style(
    full=False,
    token_ids=False,
    reasoning_key="reasoning_content",
    opening=True,
    usage=UsagePlace.IN_CHOICE,
    usage_nested=True,
    keepalives=2,
)
KEEPALIVE = Style(keepalives=3)
FLICKER = Style(flickers=True)
NO_USAGE = Style(usage=UsagePlace.NOWHERE)

# A part of the model's id in lower case -> its style; the first that fits.
SPEAKERS: Mapping[str, Style] = {
    "kimi-k3": KIMI_K3,
    "kimi": TRAILING_USAGE,
    "glm": USAGE_IF_ASKED,
}
THINKERS = ("deepseek-r1", "kimi", "gpt-oss", "glm", "reason")


def style_of(model: str) -> Style:
    """The style of a model's engine: Together's own unless its name says otherwise."""
    name = model.lower()
    return next((style for part, style in SPEAKERS.items() if part in name), TOGETHER)


def thinks_first(model: str) -> bool:
    """Whether a model thinks before it answers."""
    name = model.lower()
    return any(part in name for part in THINKERS)
