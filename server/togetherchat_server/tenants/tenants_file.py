"""The tenants file: the limits of each tenant, in TOML, written by operators.

    [default]                          # for tenants without a table of their own
    requests_per_minute = 60

    [tenants.acme]
    models = ["openai/gpt-oss-120b", "fast", "Qwen/*"]
    max_concurrent_calls = 20
    requests_per_minute = 600
    tokens_per_minute = 200_000
    max_output_tokens = 4096
    budget_usd_per_day = 30            # calls that could exceed it are rejected
    budget_usd_per_month = 500
    soft_budget_ratio = 0.8            # from here on responses have `x-budget-remaining-usd`
    weight = 2                         # share of the capacity when it is full; 1 by default
    allowed_members = ["best_of"]      # members that this service does not know
    subjects = ["system:serviceaccount:acme:*"]           # of JWTs
    certificates = ["spiffe://example.org/acme/*"]        # of clients; or subjects, such as "CN=acme"

    [tenants.former]
    disabled = true                    # rejects every credential of the tenant

    [prices."acme/private-model"]      # instead of the catalog's
    input_usd_per_million_tokens = 0.2
    output_usd_per_million_tokens = 0.6
    cached_input_usd_per_million_tokens = 0.1

A limit that is left out does not apply. The file is separate from the API keys file, which a program
writes and which is secret, and from the settings, which are read once.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, final

from pydantic import AfterValidator, Field

from togetherchat_server.config.file_table import FileTable, parse_toml, rule
from togetherchat_server.config.reloading_file import ReloadingFile
from togetherchat_server.tenants.identity_map import IdentityMap
from togetherchat_server.tenants.key_file import check_tenant_name

NUMBER_MAX: Final = 10**12
WEIGHT_MIN: Final = 0.1
"""A tenant with this weight is served once in ten rounds."""
WEIGHT_MAX: Final = 100.0
MODELS_MAX: Final = 1000
MODEL_CHARACTERS_MAX: Final = 256
MEMBERS_MAX: Final = 100
IDENTITIES_MAX: Final = 1000
IDENTITY_CHARACTERS_MAX: Final = 1024
MEMBER_CHARACTERS_MAX: Final = 64
USD_MAX: Final = 1e9
"""Of a budget. In 1e-9 USD, that is below 2^63."""
PRICE_MAX: Final = 1e6
NANO_USD: Final = 10**9
"""1 USD."""

Limit = Annotated[
    int,
    Field(ge=1, le=NUMBER_MAX),
    rule(f"must be a whole number from 1 to {NUMBER_MAX}; leave the limit out to remove it"),
]
ModelPattern = Annotated[str, Field(min_length=1, max_length=MODEL_CHARACTERS_MAX)]
ModelPatterns = Annotated[
    tuple[ModelPattern, ...],
    Field(strict=False, min_length=1, max_length=MODELS_MAX),
    rule(
        f"must be a list of 1 to {MODELS_MAX} model names, of at most {MODEL_CHARACTERS_MAX} characters each"
    ),
]
MemberNames = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=MEMBER_CHARACTERS_MAX)], ...],
    Field(strict=False, max_length=MEMBERS_MAX),
    rule(
        f"must be a list of at most {MEMBERS_MAX} member names, "
        f"of at most {MEMBER_CHARACTERS_MAX} characters each"
    ),
]
IdentityPatterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=IDENTITY_CHARACTERS_MAX)], ...],
    Field(strict=False, max_length=IDENTITIES_MAX),
    rule(
        f"must be a list of at most {IDENTITIES_MAX} names or patterns, "
        f"of at most {IDENTITY_CHARACTERS_MAX} characters each"
    ),
]
Weight = Annotated[
    float,
    Field(strict=False, ge=WEIGHT_MIN, le=WEIGHT_MAX, allow_inf_nan=False),
    rule(f"must be a number from {WEIGHT_MIN:g} to {WEIGHT_MAX:g}"),
]
Usd = Annotated[
    float,
    Field(strict=False, ge=0.01, le=USD_MAX, allow_inf_nan=False),
    rule(f"must be a number of USD from 0.01 to {USD_MAX:g}; leave the budget out to remove it"),
]
Ratio = Annotated[
    float,
    Field(strict=False, gt=0, le=1, allow_inf_nan=False),
    rule("must be a number above 0 and up to 1"),
]
Price = Annotated[
    float,
    Field(strict=False, ge=0, le=PRICE_MAX, allow_inf_nan=False),
    rule(f"must be a number of USD per million tokens from 0 to {PRICE_MAX:g}"),
]
TenantName = Annotated[str, AfterValidator(check_tenant_name)]


class QuotaLimits(FileTable):
    """The limits of a tenant that are counted over its calls. 0: no limit."""

    max_concurrent_calls: Limit = 0
    """Calls in flight."""
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0
    """Input and output tokens together, as the provider counts them."""
    budget_usd_per_day: Usd = 0
    """The most that the calls of a day, UTC, may cost."""
    budget_usd_per_month: Usd = 0
    soft_budget_ratio: Ratio = 0.8
    """The part of a budget from which the service warns."""

    @cached_property
    def day_budget(self) -> int:
        """The budget per day in 1e-9 USD; 0 without one."""
        return _nano_usd(self.budget_usd_per_day)

    @cached_property
    def month_budget(self) -> int:
        """The budget per month in 1e-9 USD; 0 without one."""
        return _nano_usd(self.budget_usd_per_month)

    @cached_property
    def has_budget(self) -> bool:
        return bool(self.budget_usd_per_day or self.budget_usd_per_month)


class TenantLimits(QuotaLimits):
    """All limits of a tenant: its quota, and its policy, which applies to each call alone."""

    models: ModelPatterns = ()
    """Ids, aliases, and patterns with `*` for ids. Empty: every model."""
    max_output_tokens: Limit = 0
    """Tokens that one call may request, over all its choices. 0: no limit."""
    allowed_members: MemberNames = ()
    """Members of a request that this service does not know, and that may be sent to the provider all the
    same. Where no limit of `restricts_members` applies, all may.
    """

    unpriced_models: Literal["reject", "allow"] = "reject"
    """Whether a tenant with a budget may use models whose price is not known."""
    weight: Weight = 1.0
    """Share of the capacity when it is full, relative to other tenants."""
    disabled: bool = False
    """Whether every credential of the tenant is rejected."""

    @property
    def restricts_members(self) -> bool:
        """Whether a limit could be evaded by a member that only the provider knows."""
        return bool(self.models or self.max_output_tokens or self.tokens_per_minute or self.has_budget)


UNLIMITED: Final = TenantLimits()


class Tenant(TenantLimits):
    """A tenant: its limits, and the identities that belong to it beside its API keys."""

    subjects: IdentityPatterns = ()
    """Values of the claim that names a JWT's tenant. Only `*` is special."""
    certificates: IdentityPatterns = ()
    """SPIFFE ids or subjects (RFC 4514) of client certificates. Only `*` is special."""


class ModelPrice(FileTable):
    """The price of a model, in USD per million tokens."""

    input_usd_per_million_tokens: Price
    output_usd_per_million_tokens: Price
    cached_input_usd_per_million_tokens: Price | None = None


class TenantsTable(FileTable):
    """The contents of the file."""

    default: TenantLimits = UNLIMITED
    tenants: dict[TenantName, Tenant] = Field(default_factory=dict[TenantName, Tenant])
    prices: dict[str, ModelPrice] = Field(default_factory=dict[str, ModelPrice])
    """By model id."""

    @property
    def has_budgets(self) -> bool:
        return any(limits.has_budget for limits in (self.default, *self.tenants.values()))

    def limits_of(self, tenant: str) -> TenantLimits:
        return self.tenants.get(tenant, self.default)

    @cached_property
    def subjects(self) -> IdentityMap:
        """The tenants of JWTs."""
        return IdentityMap({name: tenant.subjects for name, tenant in self.tenants.items()})

    @cached_property
    def certificates(self) -> IdentityMap:
        """The tenants of client certificates."""
        return IdentityMap({name: tenant.certificates for name, tenant in self.tenants.items()})


NO_TENANTS: Final = TenantsTable()


def read_tenants(path: Path) -> TenantsTable:
    """Read the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is invalid; the message names the member and the rule.
    """
    return parse_toml(path.read_bytes(), TenantsTable)


@final
class TenantsFile:
    """The current limits of each tenant. Without a path, no tenant has any.

    Raises:
        OSError: the file cannot be read at the start.
        ValueError: the file is invalid at the start.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float]) -> None:
        self._file = None if path is None else ReloadingFile(path, read_tenants, clock=clock)

    def current(self) -> TenantsTable:
        """Return the file's contents, at most a second old."""
        return NO_TENANTS if self._file is None else self._file.current()

    def stale(self) -> bool:
        """Return whether the file is missing or invalid, so that earlier contents are in effect."""
        return self._file is not None and self._file.stale()

    def limits_of(self, tenant: str) -> TenantLimits:
        return UNLIMITED if self._file is None else self._file.current().limits_of(tenant)


def _nano_usd(usd: float) -> int:
    """Convert exactly: 0.1 USD is 1e8, whatever its binary fraction."""
    return int(Decimal(repr(usd)) * NANO_USD)
