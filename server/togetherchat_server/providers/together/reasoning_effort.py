"""Replaces a `reasoning_effort` that the model does not know.

Together ignores an unknown effort silently: `banana` is a 200 (github.com/Kiln-AI/Kiln/pull/1668). The
words differ by class of model, as Together's guide to reasoning says (October 2026):

- adjustable effort (gpt-oss): low, medium and high; reasoning cannot be switched off;
- hybrid (GLM, Kimi-K3, Qwen): `reasoning.enabled` switches reasoning off, and `none` is not a word;
- some know only a part of the words, such as high and max.

The catalog has the facts about each model. A model without facts gets the caller's word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models

NONE: Final = "none"
WORDS: Final = (NONE, "minimal", "low", "medium", "high", "xhigh", "max")
"""The words of all known models, weakest first."""
TOGGLE: Final = "reasoning_toggle"
"""The catalog's word for a model whose reasoning `reasoning.enabled` switches on and off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What is sent instead of the caller's effort."""

    word: str
    """The value of `reasoning_effort`; empty: none is sent."""
    enabled: bool | None = None
    """The value of `reasoning.enabled`; None: the caller's."""
    warning: str


def replacement(request: service.CompleteRequest, entry: models.Model) -> Effort | None:
    """Return what to send instead of the request's effort; None to send it unchanged.

    The replacement is the weakest effort of the model that is not weaker than the caller's, else its
    strongest. A caller that switches reasoning itself keeps its `none`.
    """
    word, known = request.reasoning_effort, [word for word in entry.reasoning_efforts if word in WORDS]
    if word not in WORDS or word in known:
        return None
    if word == NONE:
        return None if request.HasField("reasoning_enabled") else _switched_off(entry, known)
    if not known:
        return None
    nearest = _nearest(word, known)
    return Effort(
        word=nearest,
        warning=f"{entry.id} does not know reasoning_effort {word}; {nearest} was sent instead.",
    )


def _switched_off(entry: models.Model, known: Sequence[str]) -> Effort | None:
    if TOGGLE in entry.features:
        return Effort(
            word="",
            enabled=False,
            warning=f"{entry.id} does not know reasoning_effort none; "
            "reasoning.enabled false was sent instead.",
        )
    if not known:
        return None
    weakest = min(known, key=WORDS.index)
    return Effort(
        word=weakest,
        warning=f"{entry.id} cannot switch reasoning off; "
        f"reasoning_effort {weakest} was sent instead of none.",
    )


def _nearest(word: str, known: Sequence[str]) -> str:
    strength = WORDS.index(word)
    not_weaker = [other for other in known if WORDS.index(other) >= strength]
    return min(not_weaker, key=WORDS.index) if not_weaker else max(known, key=WORDS.index)
