"""`togetherchat models`, the list of models, and `togetherchat model`, one of them.

Owns the requests, the warnings and the summary line. `model_table.py` formats the rows.
"""

import datetime as dt
from collections.abc import Iterable

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import Client
from togetherchat_client.cli.arguments import Arguments, UsageError
from togetherchat_client.cli.exit_codes import ExitCode
from togetherchat_client.cli.model_table import detail_rows, plain_rows, table_for
from togetherchat_client.cli.proto_json import to_json
from togetherchat_client.cli.terminal import Terminal
from togetherchat_client.requests import ListFields

ORDER_BY_SORT = {"": "", "id": "id", "context": "context_length desc", "price": "input_price"}
REVERSED_ORDER_BY_SORT = {"id": "id desc", "context": "context_length", "price": "input_price desc"}
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


def run(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Print the models that match the filters."""
    if arguments.reverse and not arguments.sort:
        raise UsageError("--reverse needs --sort")
    with terminal.progress("waiting"):
        listing = _list_models(client, arguments)
    _print_warnings(listing.warnings, terminal)
    if arguments.json:
        terminal.line(to_json(listing, pretty=terminal.interactive))
    elif terminal.interactive:
        table = table_for(listing.models, width=terminal.columns)
        terminal.table(table.headings, table.rows, numbers=table.numbers)
        terminal.note(_summary(listing))
    else:
        for row in plain_rows(listing.models):
            terminal.tab_separated(row)
    return ExitCode.DONE


def run_one(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Print what is known about one model."""
    with terminal.progress("waiting"):
        found = client.get_model(arguments.id)
    _print_warnings(found.warnings, terminal)
    rows = detail_rows(found.model)
    if arguments.json:
        terminal.line(to_json(found, pretty=terminal.interactive))
    elif terminal.interactive:
        terminal.table(("field", "value"), rows, numbers=frozenset())
    else:
        for row in rows:
            terminal.tab_separated(row)
    return ExitCode.DONE


def _print_warnings(warnings: Iterable[chat.Warning], terminal: Terminal) -> None:
    for warning in warnings:
        terminal.warn(f"warning: {warning.message}")


def _list_models(client: Client, arguments: Arguments) -> service.ListModelsResponse:
    """All pages merged into one, each warning once. Retired models are left out unless requested."""
    listing = service.ListModelsResponse()
    for page in client.model_pages(**_filters(arguments)):
        listing.MergeFrom(page)
    with_retired = arguments.all or arguments.state == "retired"
    shown = [model for model in listing.models if with_retired or model.state != models.MODEL_STATE_RETIRED]
    warnings = {warning.message: warning for warning in listing.warnings}
    del listing.models[:], listing.warnings[:]
    listing.models.extend(shown)
    listing.warnings.extend(warnings.values())
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
        order_by=(REVERSED_ORDER_BY_SORT if arguments.reverse else ORDER_BY_SORT)[arguments.sort],
    )
    if arguments.min_context is not None:
        filters["min_context_length"] = arguments.min_context
    if arguments.max_price is not None:
        filters["max_input_usd_per_million_tokens"] = arguments.max_price
    return filters


def _summary(listing: service.ListModelsResponse) -> str:
    count = len(listing.models)
    text = f"{count} model{'s' * (count != 1)}; prices in USD per million tokens"
    if listing.HasField("provider_list_time"):
        read = listing.provider_list_time.ToDatetime(tzinfo=dt.UTC)
        text += f"; provider's list read at {read:%Y-%m-%d %H:%M} UTC"
    return text
