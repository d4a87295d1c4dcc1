"""What a model name can change about a reply: the row type of the table in `misbehaviour.py`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from togetherchat_sandbox import pacing
from togetherchat_sandbox.answers import NOTHING_MORE, Wishes
from togetherchat_sandbox.pacing import Pacing
from togetherchat_sandbox.refusals import Refusal
from togetherchat_sandbox.settings import SandboxSettings
from togetherchat_sandbox.spoiling import Spoil, good
from togetherchat_sandbox.styles import Style

PREFIX = "sandbox/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a name differs from an ordinary model: nowhere, by default.

    `refusals_max` bounds how many requests with the same last user message are refused.
    """

    refusal: Refusal | None = None
    refusals_max: int | None = None
    style: Style | None = None
    pacing: Callable[[SandboxSettings], Pacing] = pacing.as_set
    wishes: Wishes = NOTHING_MORE
    stream: Spoil = good
    unary: Spoil = good


Make: TypeAlias = Callable[[re.Match[str]], Behaviour]


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A row: what follows `sandbox/`, one sentence, and what it does."""

    name: str
    says: str
    does: Behaviour | Make
    pattern: re.Pattern[str] | None = None
    example: str = ""

    @property
    def model(self) -> str:
        """An id that can be called."""
        return PREFIX + (self.example or self.name)


ORDINARY = Behaviour()
