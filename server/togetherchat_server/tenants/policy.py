"""What each tenant may: the file of limits, written by people.

    [default]                          # for tenants without a table of their own
    requests_per_minute = 60

    [tenants.acme]
    models = ["openai/gpt-oss-120b", "fast", "Qwen/*"]
    max_concurrent_calls = 20
    requests_per_minute = 600
    tokens_per_minute = 200_000
    max_output_tokens = 4096

It stands apart from the keys, which a program writes and which are secret, and from the settings,
which are read once. A limit that is left out does not bind.
"""

import fnmatch
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from togetherchat_server.tenants.key_file import TENANT_RULE, is_tenant_name

NUMBER_MAX: Final = 10**12
MODELS_MAX: Final = 1000
MODEL_CHARACTERS_MAX: Final = 256

_NUMBERS: Final = frozenset(
    {"max_concurrent_calls", "requests_per_minute", "tokens_per_minute", "max_output_tokens"}
)
_MEMBERS: Final = _NUMBERS | {"models"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """The bounds of one tenant. A number of 0 does not bind, nor does an empty list of models."""

    models: tuple[str, ...] = ()
    """Ids, aliases, and patterns with `*` that ids are held against."""
    max_concurrent_calls: int = 0
    """Calls in flight."""
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    """Tokens of requests and answers together, as the provider counts them."""
    max_output_tokens: int = 0
    """Tokens that one call may ask for, over all its choices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsTable:
    """The limits of every tenant."""

    default: TenantLimits = field(default_factory=TenantLimits)
    tenants: Mapping[str, TenantLimits] = field(default_factory=dict[str, TenantLimits])

    def of(self, tenant: str) -> TenantLimits:
        return self.tenants.get(tenant, self.default)


def read_limits(path: Path) -> LimitsTable:
    """The file's limits.

    Raises:
        OSError: it cannot be read.
        ValueError: it is wrong; the message says where.
    """
    try:
        said: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"it is not TOML: {exc}") from None
    unknown = sorted(said.keys() - {"default", "tenants"})
    if unknown:
        raise ValueError(f"there is no table {unknown[0]!r}: it holds [default] and [tenants.NAME]")
    tenants = _table(said.get("tenants", {}), "tenants")
    for name in tenants:
        if not is_tenant_name(name):
            raise ValueError(f"[tenants.{name!r}]: {TENANT_RULE}")
    return LimitsTable(
        default=_limits(said.get("default", {}), "default"),
        tenants={name: _limits(table, f"tenants.{name}") for name, table in tenants.items()},
    )


def permits(allowed: tuple[str, ...], model: str, aliases: Mapping[str, str]) -> bool:
    """Whether a model, by its id, is on a list; an empty list has them all."""
    if not allowed:
        return True
    if model in allowed and model not in aliases:
        return True
    return any(
        bool(_pattern(name).fullmatch(model)) if "*" in name else aliases.get(name, name) == model
        for name in allowed
    )


@functools.lru_cache(MODELS_MAX)
def _pattern(text: str) -> re.Pattern[str]:
    """Only `*` has a meaning."""
    return re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]")))


def _limits(said: object, where: str) -> TenantLimits:
    table = _table(said, where)
    unknown = sorted(table.keys() - _MEMBERS)
    if unknown:
        raise ValueError(f"[{where}] has no limit {unknown[0]!r}; there is: {', '.join(sorted(_MEMBERS))}")
    numbers = {name: _number(table[name], f"{where}.{name}") for name in _NUMBERS & table.keys()}
    models = _models(table["models"], where) if "models" in table else ()
    return TenantLimits(models=models, **numbers)


def _models(said: object, where: str) -> tuple[str, ...]:
    names = cast("list[object]", said) if isinstance(said, list) else []
    texts = tuple(name for name in names if isinstance(name, str) and 0 < len(name) <= MODEL_CHARACTERS_MAX)
    if not 0 < len(texts) == len(names) <= MODELS_MAX:
        raise ValueError(f"{where}.models must be a list of 1 to {MODELS_MAX} names of models")
    return texts


def _number(said: object, where: str) -> int:
    if not isinstance(said, int) or isinstance(said, bool) or not 1 <= said <= NUMBER_MAX:
        raise ValueError(f"{where} must be a whole number of 1 or more; left out, it does not bind")
    return said


def _table(said: object, where: str) -> dict[str, object]:
    if not isinstance(said, dict):
        raise ValueError(f"[{where}] must be a table")  # noqa: TRY004  the file is wrong, not a type
    return cast("dict[str, object]", said)
