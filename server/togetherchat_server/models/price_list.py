"""The prices of models: the operator's, else the provider's, else those of the shipped catalog."""

from collections.abc import Callable, Mapping
from typing import final

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.models.catalog import Catalog

Price = Callable[[str], models.Pricing | None]
"""Returns the price of a model id, without waiting. The message must not be changed."""


@final
class PriceList:
    """Looks up prices.

    Args:
        operator: returns the prices of the tenants file, which win.
        listed: the price of the provider's list or of the configured catalog.
        shipped: returns the shipped catalog. Its prices count whatever the provider's host is.
    """

    def __init__(
        self,
        operator: Callable[[], Mapping[str, models.Pricing]],
        listed: Price,
        shipped: Callable[[], Catalog],
    ) -> None:
        self._operator = operator
        self._listed = listed
        self._shipped = shipped

    def shown(self, model: str) -> models.Pricing | None:
        """Return the price that responses and model lists are based on."""
        operator = self._operator().get(model)
        return operator if operator is not None else self._listed(model)

    def accounted(self, model: str) -> models.Pricing | None:
        """Return the price that budgets and the usage ledger are based on."""
        price = self.shown(model)
        return price if price is not None else self._shipped().price(model)
