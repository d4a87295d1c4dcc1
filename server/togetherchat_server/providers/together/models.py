"""Translates Together's model list to our messages.

Owns the meaning of the list's fields. Does not know the shipped catalog, which adds what the list
omits (quantization, retirement, aliases). Source: `GET /v1/models` in the API reference of
docs.together.ai, and recorded lists.
"""

from collections.abc import Container, Sequence
from typing import Final

from togetherchat.v1 import models_pb2 as models
from togetherchat_server.providers.together import response_parts, schema

PRICED_BY_TOKENS: Final = frozenset({"", "chat", "language", "code", "moderation", "embedding", "rerank"})
"""Types priced per million tokens. Images, audio and video have units of their own."""

NOT_SERVERLESS: Final = (
    "The provider does not list the model as serverless: a call needs a dedicated endpoint."
)

_FREE_SUFFIX: Final = "-free"
"""Together appends this to the id of the free variant of a model."""


def from_schema(entries: Sequence[schema.ModelEntry]) -> list[models.Model]:
    return [_model(entry) for entry in entries]


def mark_serverless(live: Sequence[models.Model], serverless: Container[str]) -> None:
    """Set the availability and the state of the listed models by the ids of the serverless ones.

    Together lists models that it does not serve: of 147 ids, 16 served a call in 2026. Every other one needs
    a dedicated endpoint.
    """
    for model in live:
        if model.id in serverless:
            model.availability = models.AVAILABILITY_SERVERLESS
        else:
            model.availability = models.AVAILABILITY_DEDICATED
            model.state = models.MODEL_STATE_UNCONFIRMED
            model.notes.append(NOT_SERVERLESS)


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
        uri=entry.link,
        pricing=pricing,
        max_output_tokens=None if entry.config is None else entry.config.max_output_length,
        source=models.MODEL_SOURCE_PROVIDER,
        state=models.MODEL_STATE_ACTIVE,
    )


def _pricing(entry: schema.ModelEntry) -> models.Pricing | None:
    """Return the prices in the list; None if there are none.

    The list contains 0 for "no such price" as well as for "free". So if all prices are 0 they are
    unknown, unless the id marks a free model: a wrong 0 would make a costly call look free. Beside a
    price that is not 0, a 0 for input or output is a price (embeddings have no output). A 0 for
    cached input is not, since it would promise a free cache.
    """
    price = entry.pricing or schema.ModelPricing()
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
    """DEDICATED if the only price is hourly.

    A price for tokens proves nothing: calls to many listed and priced models fail because they are
    not serverless. Neither does `running`, observed as false on a model that was serving.
    """
    prices = {field.name for field, _ in pricing.ListFields()} if pricing is not None else set[str]()
    return models.AVAILABILITY_DEDICATED if prices == {"hourly_usd"} else models.AVAILABILITY_UNSPECIFIED
