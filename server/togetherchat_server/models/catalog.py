"""The model catalog, and the rules for merging it with the provider's live list.

Owns which of the two is right. Knows neither how the live list is fetched nor how it is paged;
`catalog_file.py` reads the file.
"""

import datetime as dt
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.config import Configuration
from togetherchat_server.models.catalog_file import ID_CHARACTERS_MAX, read_models, shipped_text

_LISTS: Final = ("input_modalities", "output_modalities", "features", "reasoning_efforts")
LISTED_AFTER_RETIREMENT: Final = "The provider still lists the model after its retirement date,"
_Prices = tuple[float | None, float | None, float | None, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Dated facts about models. The messages in it must not be changed."""

    by_id: Mapping[str, models.Model]
    """In the order of the file. `source` and `state` are unset, since they depend on the day."""
    as_of: str
    """The month of its newest list, `YYYY-MM`. Empty in an empty catalog."""
    replacements: Mapping[str, str] = field(default_factory=dict[str, str])
    """The id of a model to that of the successor which the provider names for it."""

    def price(self, model_id: str) -> models.Pricing | None:
        model = self.by_id.get(model_id)
        return model.pricing if model is not None and model.HasField("pricing") else None


EMPTY: Final = Catalog(by_id={}, as_of="")


def configured_catalog(configuration: Configuration) -> Catalog:
    """Return the shipped catalog, or an empty one where `model_catalog` leaves it out."""
    choice = configuration.settings.model_catalog
    is_merged = choice == "on" or (choice == "auto" and configuration.serves_together)
    return load_catalog(None) if is_merged else EMPTY


def load_catalog(text: bytes | None) -> Catalog:
    """Read a catalog from TOML; None reads the one that ships with the service.

    Raises:
        CatalogError: names the first invalid member and its rule.
    """
    return _shipped() if text is None else _read(text)


@cache
def _shipped() -> Catalog:
    """Read the shipped file once: a start needs it twice, and reading takes 15 ms."""
    return _read(shipped_text())


def _read(text: bytes) -> Catalog:
    read = read_models(text)
    return Catalog(by_id=read.by_id, as_of=read.as_of, replacements=read.replacements)


def merge(
    catalog: Catalog,
    live: Sequence[models.Model] | None,
    *,
    today: dt.date,
    aliases: Mapping[str, str],
    unavailable: Container[str] = (),
) -> list[models.Model]:
    """Return one entry per model: what the provider lists is right, and the catalog fills in the rest.

    `live` is None if there is no live list. After its retirement date a model is RETIRED, unless the
    provider lists it as callable: then it is ACTIVE, and its notes say so. A listed model that is
    `unavailable` is UNCONFIRMED. `aliases` maps a name to a model id.
    """
    listed = {model.id: model for model in reversed(live or ()) if 0 < len(model.id) <= ID_CHARACTERS_MAX}
    names = _names_by_id(aliases)
    merged = [_entry(shipped, listed.pop(shipped.id, None), today) for shipped in catalog.by_id.values()]
    merged += [_provider_entry(model) for model in reversed(listed.values())]
    for model in merged:
        model.aliases.extend(names.get(model.id, ()))
        if model.state == models.MODEL_STATE_ACTIVE and model.id in unavailable:
            model.state = models.MODEL_STATE_UNCONFIRMED
    return merged


def merged_pricing(live: models.Pricing, shipped: models.Pricing | None) -> models.Pricing:
    """Return the provider's prices, with missing ones from the catalog.

    The prices of a model belong together. If one that both have differs, the catalog's prices are out of
    date, and none of them is used.
    """
    pricing = models.Pricing()
    if shipped is not None and all(
        old is None or new is None or old == new
        for old, new in zip(_prices(shipped), _prices(live), strict=True)
    ):
        pricing.CopyFrom(shipped)
    pricing.MergeFrom(live)
    return pricing


def _entry(shipped: models.Model, live: models.Model | None, today: dt.date) -> models.Model:
    entry = models.Model()
    entry.CopyFrom(shipped)
    retired = bool(shipped.retirement_date) and shipped.retirement_date <= today.isoformat()
    if live is None:
        entry.source = models.MODEL_SOURCE_CATALOG
        entry.state = models.MODEL_STATE_RETIRED if retired else models.MODEL_STATE_UNCONFIRMED
        return entry
    for values in _LISTS:
        if getattr(live, values):
            entry.ClearField(values)  # MergeFrom would append
    entry.MergeFrom(live)
    if live.HasField("pricing"):
        old = shipped.pricing if shipped.HasField("pricing") else None
        entry.pricing.CopyFrom(merged_pricing(live.pricing, old))
    del entry.aliases[:]
    entry.source = models.MODEL_SOURCE_BOTH
    entry.state = _listed_state(live)
    if retired and entry.state == models.MODEL_STATE_ACTIVE:
        entry.notes.append(f"{LISTED_AFTER_RETIREMENT} {shipped.retirement_date}.")
    elif retired:
        entry.state = models.MODEL_STATE_RETIRED
    return entry


def _listed_state(live: models.Model) -> models.ModelState.ValueType:
    """Return the state of a model in the provider's list, which may know that it does not serve the model."""
    is_uncertain = live.state == models.MODEL_STATE_UNCONFIRMED
    return models.MODEL_STATE_UNCONFIRMED if is_uncertain else models.MODEL_STATE_ACTIVE


def _provider_entry(live: models.Model) -> models.Model:
    entry = models.Model()
    entry.CopyFrom(live)
    del entry.aliases[:]
    entry.source = models.MODEL_SOURCE_PROVIDER
    entry.state = _listed_state(live)
    return entry


def _prices(pricing: models.Pricing) -> _Prices:
    return (
        pricing.input_usd_per_million_tokens if pricing.HasField("input_usd_per_million_tokens") else None,
        pricing.output_usd_per_million_tokens if pricing.HasField("output_usd_per_million_tokens") else None,
        pricing.cached_input_usd_per_million_tokens
        if pricing.HasField("cached_input_usd_per_million_tokens")
        else None,
        pricing.hourly_usd if pricing.HasField("hourly_usd") else None,
    )


def _names_by_id(aliases: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for alias in sorted(aliases):
        names.setdefault(aliases[alias], []).append(alias)
    return names
