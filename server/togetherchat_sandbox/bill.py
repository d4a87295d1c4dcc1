"""The bill: what the sandbox charges for the completions that it sent, from its own price table.

A request is charged if it was valid and got no error: its input, and the output tokens that were sent,
whether the client read them or left. So a client's books can be compared with those of its provider.
"""

from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import final

from togetherchat_sandbox.encoding import Json, JsonObject
from togetherchat_sandbox.model_list import ListedModel, listed
from togetherchat_sandbox.request_log import LoggedRequest

ERROR_STATUS = 400
NANO_USD_PER_TOKEN = Decimal(1000)
"""1 USD per million tokens is 1,000 nano-USD per token."""


@dataclass(slots=True, kw_only=True)
class Charge:
    """What was charged for a model, or for the requests with one id."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0

    def add(self, entry: LoggedRequest, nano_usd: int) -> None:
        self.requests += 1
        self.input_tokens += entry.input_tokens
        self.cached_tokens += entry.cached_tokens
        self.output_tokens += entry.tokens_sent
        self.nano_usd += nano_usd

    def to_json(self) -> JsonObject:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "nano_usd": self.nano_usd,
        }


@final
class Bill:
    """The charges by model, and the amounts of the last `requests_max` request ids."""

    def __init__(self, *, requests_max: int) -> None:
        self.by_model: dict[str, Charge] = {}
        self.nano_usd_by_id: Counter[str] = Counter()
        self._requests_max = requests_max

    @property
    def nano_usd(self) -> int:
        """The total in 1e-9 USD."""
        return sum(charge.nano_usd for charge in self.by_model.values())

    def charge(self, entry: LoggedRequest) -> None:
        """Charge a request that has ended, if it is to be charged."""
        failed = entry.status is not None and entry.status >= ERROR_STATUS
        if entry.model is None or failed or not entry.input_tokens:
            return
        nano_usd = cost(listed(entry.model), entry.input_tokens, entry.cached_tokens, entry.tokens_sent)
        self.by_model.setdefault(entry.model, Charge()).add(entry, nano_usd)
        if entry.id is not None:
            self.nano_usd_by_id[entry.id] += nano_usd
            if len(self.nano_usd_by_id) > self._requests_max:
                del self.nano_usd_by_id[next(iter(self.nano_usd_by_id))]

    def to_json(self) -> JsonObject:
        """Return the body of the bill's page."""
        models: dict[str, Json] = {name: charge.to_json() for name, charge in sorted(self.by_model.items())}
        return {"nano_usd": self.nano_usd, "models": models}


def cost(model: ListedModel, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Return the price of tokens in 1e-9 USD, rounded half to even."""
    dollars_in, dollars_out = model.dollars
    dollars_cached = dollars_in if model.dollars_cached is None else model.dollars_cached
    exact = NANO_USD_PER_TOKEN * (
        Decimal(str(dollars_in)) * (input_tokens - cached_tokens)
        + Decimal(str(dollars_cached)) * cached_tokens
        + Decimal(str(dollars_out)) * output_tokens
    )
    return int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))
