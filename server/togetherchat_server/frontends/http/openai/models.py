"""`GET /v1/models` and `GET /v1/models/{id}`: the catalog as OpenAI's list of models.

OpenAI's four members come first; everything else that is known of a model follows under Together's
names. Together's own API returns a bare array, and its client reads nothing else: only that client
gets a bare array.
"""

from collections.abc import AsyncIterator
from typing import Final

import orjson

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.calls.session import Session
from togetherchat_server.domain.identity import Scope
from togetherchat_server.frontends.http.handler import HttpCall, Operation

LIST_METHOD: Final = Operation(name="models.list", scope=Scope.MODELS)
ONE_METHOD: Final = Operation(name="models.retrieve", scope=Scope.MODELS)
PAGE_SIZE: Final = 1000
TOGETHER_USER_AGENTS: Final = ("together/", "asynctogether/")

Json = dict[str, object]

_AVAILABILITIES: Final = {
    models.AVAILABILITY_SERVERLESS: "serverless",
    models.AVAILABILITY_DEDICATED: "dedicated",
    models.AVAILABILITY_BOTH: "both",
}
_STATES: Final = {
    models.MODEL_STATE_ACTIVE: "active",
    models.MODEL_STATE_UNCONFIRMED: "unconfirmed",
    models.MODEL_STATE_RETIRED: "retired",
}
_TEXTS: Final = {
    "display_name": "display_name",
    "organization": "organization",
    "type": "type",
    "quantization": "quantization",
    "license": "license",
    "link": "uri",
    "retirement_date": "retirement_date",
}
"""Member to field, where unset is left out. `link` is Together's name."""
_OPTIONAL: Final = ("context_length", "max_output_tokens", "streaming_only")
_LISTS: Final = ("aliases", "input_modalities", "output_modalities", "features", "reasoning_efforts", "notes")
_PRICES: Final = {
    "input": "input_usd_per_million_tokens",
    "output": "output_usd_per_million_tokens",
    "cached_input": "cached_input_usd_per_million_tokens",
    "hourly": "hourly_usd",
}


async def list_models(http_call: HttpCall) -> None:
    """Send every model that is not retired."""
    async with http_call.session.deadline():
        entries = [
            entry(model)
            async for page in _pages(http_call.session)
            for model in page.models
            if model.state != models.MODEL_STATE_RETIRED
        ]
        agent = http_call.exchange.headers.get("user-agent", "").lower()
        bare = agent.startswith(TOGETHER_USER_AGENTS)
        await http_call.respond(orjson.dumps(entries if bare else {"object": "list", "data": entries}))


async def list_all_models(http_call: HttpCall) -> None:
    """Send every model, retired ones included, with the warnings about the list."""
    async with http_call.session.deadline():
        pages = [page async for page in _pages(http_call.session)]
        body: Json = {
            "data": [entry(model) for page in pages for model in page.models],
            "warnings": [warning.message for warning in pages[0].warnings],
        }
        if pages[0].HasField("provider_list_time"):
            body["provider_list_time"] = pages[0].provider_list_time.seconds
        await http_call.respond(orjson.dumps(body))


async def retrieve_model(http_call: HttpCall) -> None:
    """Send the model with this id or alias."""
    name: str = http_call.exchange.scope["path_params"]["id"]
    async with http_call.session.deadline():
        response = await http_call.session.get_model(service.GetModelRequest(id=name))
        await http_call.respond(orjson.dumps(entry(response.model)))


async def _pages(session: Session) -> AsyncIterator[service.ListModelsResponse]:
    token: str | None = ""
    while token is not None:
        request = service.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
        page = await session.list_models(request)
        yield page
        token = page.next_page_token or None


def entry(model: models.Model) -> Json:
    """Return a model as an entry of the list."""
    body: Json = {
        "id": model.id,
        "object": "model",
        "created": model.create_time.seconds,
        "owned_by": model.organization or "together",
    }
    body |= {name: text for name, field in _TEXTS.items() if (text := getattr(model, field))}
    body |= {name: getattr(model, name) for name in _OPTIONAL if model.HasField(name)}
    body |= {name: list(values) for name in _LISTS if (values := getattr(model, name))}
    if model.availability in _AVAILABILITIES:
        body["availability"] = _AVAILABILITIES[model.availability]
    if model.state in _STATES:
        body["state"] = _STATES[model.state]
    if model.HasField("pricing"):
        body["pricing"] = {
            name: getattr(model.pricing, field)
            for name, field in _PRICES.items()
            if model.pricing.HasField(field)  # pyright: ignore[reportArgumentType]  the table has its names
        }
    return body
