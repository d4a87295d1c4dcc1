"""`togetherchat models`: the list of models."""

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import Client
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.complete import json_of
from togetherchat_client.command.failures import Exit
from togetherchat_client.command.terminal import Terminal
from togetherchat_client.requests import ListFields

HEADINGS = ("id", "context", "$in/M", "$out/M", "quantization", "availability", "state")
NUMBERS = frozenset({"context", "$in/M", "$out/M"})
UNKNOWN = "-"

ORDER_BY_SORT = {"id": "id", "context": "context_length", "price": "input_price"}
AVAILABILITY_BY_WORD = {
    "": models.AVAILABILITY_UNSPECIFIED,
    "serverless": models.AVAILABILITY_SERVERLESS,
    "dedicated": models.AVAILABILITY_DEDICATED,
}

WORD_BY_AVAILABILITY = {
    models.AVAILABILITY_UNSPECIFIED: UNKNOWN,
    models.AVAILABILITY_SERVERLESS: "serverless",
    models.AVAILABILITY_DEDICATED: "dedicated",
    models.AVAILABILITY_BOTH: "both",
}
WORD_BY_STATE = {
    models.MODEL_STATE_UNSPECIFIED: UNKNOWN,
    models.MODEL_STATE_ACTIVE: "active",
    models.MODEL_STATE_UNCONFIRMED: "unconfirmed",
    models.MODEL_STATE_RETIRED: "retired",
}


def run(client: Client, arguments: Arguments, terminal: Terminal) -> Exit:
    """Print the models that the filters let through."""
    with terminal.waiting("waiting"):
        listing = _gather(client, arguments)
    for warning in listing.warnings:
        terminal.warn(f"warning: {warning.message}")
    if arguments.json:
        terminal.line(json_of(listing, pretty=terminal.interactive))
        return Exit.DONE
    terminal.table(HEADINGS, [_row(model) for model in listing.models], numbers=NUMBERS)
    terminal.note(f"{len(listing.models)} models; prices in USD for a million tokens")
    return Exit.DONE


def _gather(client: Client, arguments: Arguments) -> service.ListModelsResponse:
    """All pages as one, without the retired unless they are asked for."""
    listing = service.ListModelsResponse()
    for page in client.model_pages(**_filters(arguments)):
        del listing.warnings[:]
        listing.MergeFrom(page)
    shown = [model for model in listing.models if arguments.all or model.state != models.MODEL_STATE_RETIRED]
    del listing.models[:]
    listing.models.extend(shown)
    listing.total_size = len(shown)
    listing.next_page_token = ""
    return listing


def _filters(arguments: Arguments) -> ListFields:
    filters = ListFields(
        type=arguments.type,
        organization=arguments.org,
        query=arguments.query,
        quantization=arguments.quantization,
        availability=AVAILABILITY_BY_WORD[arguments.availability],
        order_by=ORDER_BY_SORT[arguments.sort],
    )
    if arguments.min_context is not None:
        filters["min_context_length"] = arguments.min_context
    if arguments.max_price is not None:
        filters["max_input_usd_per_million_tokens"] = arguments.max_price
    return filters


def _row(model: models.Model) -> tuple[str, ...]:
    pricing = model.pricing
    return (
        model.id,
        str(model.context_length) if model.HasField("context_length") else UNKNOWN,
        f"{pricing.input_usd_per_million_tokens:g}"
        if pricing.HasField("input_usd_per_million_tokens")
        else UNKNOWN,
        f"{pricing.output_usd_per_million_tokens:g}"
        if pricing.HasField("output_usd_per_million_tokens")
        else UNKNOWN,
        model.quantization or UNKNOWN,
        WORD_BY_AVAILABILITY.get(model.availability, UNKNOWN),
        WORD_BY_STATE.get(model.state, UNKNOWN),
    )
