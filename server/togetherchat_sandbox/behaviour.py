"""How a model id changes a reply: the row type of the table in `faults.py`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from togetherchat_sandbox import pacing
from togetherchat_sandbox.api_errors import ApiError
from togetherchat_sandbox.dialects import Dialect
from togetherchat_sandbox.fault_injection import InjectFault, no_fault
from togetherchat_sandbox.pacing import Pacing
from togetherchat_sandbox.plan import NO_OVERRIDES, PlanOverrides
from togetherchat_sandbox.settings import SandboxSettings

PREFIX = "sandbox/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a model differs from an ordinary one; by default, not at all.

    `errors_max` bounds how many requests with the same last user message get `error`. `cached_by_key`:
    the prompt cache has what an earlier request with the same key left there.
    """

    error: ApiError | None = None
    errors_max: int | None = None
    dialect: Dialect | None = None
    pacing: Callable[[SandboxSettings], Pacing] = pacing.as_configured
    overrides: PlanOverrides = NO_OVERRIDES
    stream: InjectFault = no_fault
    unary: InjectFault = no_fault
    cached_by_key: bool = False


BehaviourFactory: TypeAlias = Callable[[re.Match[str]], Behaviour]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxModel:
    """A row of the table: what follows `sandbox/`, a description of one sentence, the behaviour.

    A family of names has a `pattern` and an `example`.
    """

    name: str
    description: str
    behaviour: Behaviour | BehaviourFactory
    pattern: re.Pattern[str] | None = None
    example: str = ""

    @property
    def model(self) -> str:
        """A model id that a request can name."""
        return PREFIX + (self.example or self.name)


ORDINARY = Behaviour()
