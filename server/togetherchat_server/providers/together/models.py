"""Together's models list as our messages.

Owns what the list's fields mean. Knows nothing of the shipped catalogue, which fills in what
the list leaves open (quantization, retirement, aliases). Source: `GET /v1/models` in the API
reference of docs.together.ai, and recorded lists.
"""

from collections.abc import Sequence
from typing import Final

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.providers.together import response_parts, schema

PRICED_BY_TOKENS: Final = frozenset({"", "chat", "language", "code", "moderation", "embedding", "rerank"})
"""Types whose prices are for a million tokens. Pictures, sound and video have units of their own."""

_FREE_SUFFIX: Final = "-free"
"""How Together names the free twin of a model."""


def from_schema(entries: Sequence[schema.ModelEntry]) -> list[models.Model]:
    return [_model(entry) for entry in entries]


def _model(entry: schema.ModelEntry) -> models.Model:
    pricing = _pricing(entry)
    return models.Model(
        id=entry.id,
        display_name=entry.display_name,
        organization=entry.organization,
        type=entry.type,
        context_length=entry.context_length,
        availability=_availability(pricing),
        create_time=response_parts.create_time(entry.created),
        license=entry.license,
        link=entry.link,
        pricing=pricing,
        source=models.MODEL_SOURCE_PROVIDER,
        state=models.MODEL_STATE_ACTIVE,
    )


def _pricing(entry: schema.ModelEntry) -> models.Pricing | None:
    """What the list says it costs; None where it says nothing.

    The list writes 0 for "no such price" as well as for "free". So zeros throughout mean
    unknown, unless the id says that it is free: a wrong 0 would make a costly call look free.
    Beside a price that is not 0 a 0 for input or output is one (embeddings have no output);
    0 for cached input is not, since it would promise a cache for nothing.
    """
    price = entry.pricing or schema.Pricing()
    hourly = price.hourly or None
    if entry.type not in PRICED_BY_TOKENS:
        return models.Pricing(hourly_usd=hourly) if hourly else None
    if price.input or price.output:
        return models.Pricing(
            input_usd_per_million_tokens=price.input,
            output_usd_per_million_tokens=price.output,
            cached_input_usd_per_million_tokens=price.cached_input or None,
            hourly_usd=hourly,
        )
    if entry.id.lower().endswith(_FREE_SUFFIX):
        return models.Pricing(
            input_usd_per_million_tokens=0, output_usd_per_million_tokens=0, hourly_usd=hourly
        )
    return models.Pricing(hourly_usd=hourly) if hourly else None


def _availability(pricing: models.Pricing | None) -> models.Availability.ValueType:
    """Dedicated where an hour is all that has a price.

    A price for tokens proves nothing: many listed and priced models answer that they are not
    serverless. Nor does `running`, seen false on a model that served everyone.
    """
    prices = {field.name for field, _ in pricing.ListFields()} if pricing is not None else set[str]()
    return models.AVAILABILITY_DEDICATED if prices == {"hourly_usd"} else models.AVAILABILITY_UNSPECIFIED
