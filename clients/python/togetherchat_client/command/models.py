"""`togetherchat models`: the list of models.

Owns what is asked of the service and what is said about the answer. How a model looks in a row is
`model_table.py`'s matter.
"""

import datetime as dt

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import Client
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.complete import json_of
from togetherchat_client.command.failures import Exit
from togetherchat_client.command.model_table import plain_rows, table_for
from togetherchat_client.command.terminal import Terminal
from togetherchat_client.requests import ListFields

ORDER_BY_SORT = {"id": "id", "context": "context_length", "price": "input_price"}
AVAILABILITY_BY_WORD = {
    "": models.AVAILABILITY_UNSPECIFIED,
    "serverless": models.AVAILABILITY_SERVERLESS,
    "dedicated": models.AVAILABILITY_DEDICATED,
}
STATE_BY_WORD = {
    "": models.MODEL_STATE_UNSPECIFIED,
    "active": models.MODEL_STATE_ACTIVE,
    "unconfirmed": models.MODEL_STATE_UNCONFIRMED,
    "retired": models.MODEL_STATE_RETIRED,
}


def run(client: Client, arguments: Arguments, terminal: Terminal) -> Exit:
    """Print the models that the filters let through."""
    with terminal.waiting("waiting"):
        listing = _gather(client, arguments)
    for warning in listing.warnings:
        terminal.warn(f"warning: {warning.message}")
    if arguments.json:
        terminal.line(json_of(listing, pretty=terminal.interactive))
    elif terminal.interactive:
        table = table_for(listing.models, width=terminal.columns)
        terminal.table(table.headings, table.rows, numbers=table.numbers)
        terminal.note(_summary(listing))
    else:
        for row in plain_rows(listing.models):
            terminal.tabs(row)
    return Exit.DONE


def _gather(client: Client, arguments: Arguments) -> service.ListModelsResponse:
    """All pages as one, without the retired unless they are asked for, each warning once."""
    listing = service.ListModelsResponse()
    for page in client.model_pages(**_filters(arguments)):
        listing.MergeFrom(page)
    retired_too = arguments.all or arguments.state == "retired"
    shown = [model for model in listing.models if retired_too or model.state != models.MODEL_STATE_RETIRED]
    said = {warning.message: warning for warning in listing.warnings}
    del listing.models[:], listing.warnings[:]
    listing.models.extend(shown)
    listing.warnings.extend(said.values())
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
        state=STATE_BY_WORD[arguments.state],
        order_by=ORDER_BY_SORT[arguments.sort],
    )
    if arguments.min_context is not None:
        filters["min_context_length"] = arguments.min_context
    if arguments.max_price is not None:
        filters["max_input_usd_per_million_tokens"] = arguments.max_price
    return filters


def _summary(listing: service.ListModelsResponse) -> str:
    count = len(listing.models)
    text = f"{count} model{'s' * (count != 1)}; prices in USD for a million tokens"
    if listing.HasField("provider_list_time"):
        read = listing.provider_list_time.ToDatetime(tzinfo=dt.UTC)
        text += f"; the provider's list is of {read:%Y-%m-%d %H:%M} UTC"
    return text
