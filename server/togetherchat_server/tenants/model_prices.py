"""The prices of the tenants file, in the form of the contract."""

from collections.abc import Mapping
from typing import final

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.tenants.tenants_file import ModelPrice, TenantsFile


@final
class OperatorPrices:
    """Converts the prices when the file has changed. Apart from the file, which needs no protobuf."""

    def __init__(self, tenants: TenantsFile) -> None:
        self._tenants = tenants
        self._prices: Mapping[str, ModelPrice] = {}
        self._converted: Mapping[str, models.Pricing] = {}

    def current(self) -> Mapping[str, models.Pricing]:
        """Return the prices by model id. The messages must not be changed."""
        prices = self._tenants.current().prices
        if prices is not self._prices:
            self._converted = {model: _pricing(price) for model, price in prices.items()}
            self._prices = prices
        return self._converted


def _pricing(price: ModelPrice) -> models.Pricing:
    return models.Pricing(
        input_usd_per_million_tokens=price.input_usd_per_million_tokens,
        output_usd_per_million_tokens=price.output_usd_per_million_tokens,
        cached_input_usd_per_million_tokens=price.cached_input_usd_per_million_tokens,
    )
