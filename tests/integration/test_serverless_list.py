"""The provider's list of serverless models: which of the listed models can be called."""

import json

import pytest

from support import openai
from support.app import request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream
from support.upstream_script import Stall, html_response, json_response
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.config import provider as provider_config
from togetherchat_server.models.catalog import LISTED_AFTER_RETIREMENT
from togetherchat_server.providers.together import provider
from togetherchat_server.providers.together.models import NOT_SERVERLESS

SERVED, DEDICATED, RETIRED = "openai/gpt-oss-120b", "my/own", "openai/gpt-oss-20b"
OUTLIVED = "MiniMaxAI/MiniMax-M3"
ALL = [openai.model(name) for name in (SERVED, DEDICATED, RETIRED, OUTLIVED)]
SERVERLESS = [openai.model(name) for name in (SERVED, OUTLIVED)]
AFTERWARDS_S = 1_796_000_000  # the end of November 2026


@pytest.fixture(autouse=True)
def _as_together(monkeypatch):
    """Take the provider at the loopback address for Together."""
    monkeypatch.setattr(provider_config, "TOGETHER_DOMAINS", ("127.0.0.1",))


def listing(response):
    """A provider with a list of all models, and this response for the one of serverless models."""

    def script(received):
        return response if received.path.endswith("?serverless=true") else json_response(200, ALL)

    return script


async def listed(app):
    response = await app.chat.ListModels(service.ListModelsRequest(page_size=1000, order_by="id"))
    return {model.id: model for model in response.models}


async def test_only_serverless_models_are_active():
    """Others need a dedicated endpoint, and their entries say so."""
    async with (
        ScriptedUpstream(listing(json_response(200, SERVERLESS))) as upstream,
        running_app(upstream.base_url, wall_clock=lambda: AFTERWARDS_S) as app,
    ):
        found = await listed(app)

    assert ["/v1/models", "/v1/models?serverless=true"] == [
        sent.path for sent in upstream.request_log.requests
    ]
    served, dedicated, retired, outlived = (found[name] for name in (SERVED, DEDICATED, RETIRED, OUTLIVED))
    assert (models.MODEL_STATE_ACTIVE, models.AVAILABILITY_SERVERLESS, []) == (
        served.state, served.availability, list(served.notes),
    )  # fmt: skip
    assert (models.MODEL_STATE_UNCONFIRMED, models.AVAILABILITY_DEDICATED, [NOT_SERVERLESS]) == (
        dedicated.state, dedicated.availability, list(dedicated.notes),
    )  # fmt: skip
    assert models.MODEL_STATE_RETIRED == retired.state
    assert (models.MODEL_STATE_ACTIVE, [f"{LISTED_AFTER_RETIREMENT} 2026-11-06."]) == (
        outlived.state, list(outlived.notes),
    )  # fmt: skip


@pytest.mark.parametrize(
    "response",
    [
        json_response(400, openai.error("Unknown parameter.")),
        json_response(404, openai.error()),
        json_response(429, openai.error()),
        html_response(502, "<html>"),
        json_response(200, {"data": "nothing"}),
        json_response(200, []),
        (Stall(),),
    ],
    ids=["400", "404", "429", "502", "malformed", "empty", "stalled"],
)
async def test_without_that_list_the_list_of_all_models_counts(monkeypatch, response):
    """A list that is missing, broken, empty or late says nothing about any model."""
    monkeypatch.setattr(provider, "SERVERLESS_TIMEOUT_S", 0.2)
    async with (
        ScriptedUpstream(listing(response)) as upstream,
        running_app(upstream.base_url, wall_clock=lambda: AFTERWARDS_S) as app,
    ):
        found = await listed(app)
        again = await listed(app)

    assert 2 == len(upstream.request_log.requests)
    for name in (SERVED, DEDICATED, RETIRED, OUTLIVED):
        assert models.MODEL_STATE_ACTIVE == found[name].state
    assert found.keys() == again.keys()
    [record, _] = app.records()
    assert (1, "OK") == (record["attempts"], record["code"])


async def test_a_model_that_is_not_serverless_is_called_all_the_same():
    """The list informs; the provider decides."""

    def script(received):
        if received.method == "POST":
            return json_response(200, openai.completion(model=DEDICATED))
        return listing(json_response(200, SERVERLESS))(received)

    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url) as app:
        await listed(app)
        response = await app.chat.Complete(request(model=DEDICATED))

    assert DEDICATED == response.model


async def test_over_http_an_entry_has_its_notes():
    """`notes` is absent where there are none."""
    async with (
        ScriptedUpstream(listing(json_response(200, SERVERLESS))) as upstream,
        running_http(upstream.base_url, wall_clock=lambda: AFTERWARDS_S) as service,
    ):
        entries = {entry["id"]: entry for entry in (await service.client.get("/v1/models")).json()["data"]}

    assert [NOT_SERVERLESS] == entries[DEDICATED]["notes"]
    assert "notes" not in entries[SERVED]
    assert [f"{LISTED_AFTER_RETIREMENT} 2026-11-06."] == entries[OUTLIVED]["notes"]
    assert RETIRED not in entries


async def test_another_provider_is_not_asked(monkeypatch):
    """Only Together has that list."""
    monkeypatch.setattr(provider_config, "TOGETHER_DOMAINS", ())
    async with (
        ScriptedUpstream(listing(json_response(200, SERVERLESS))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        found = await listed(app)

    assert ["/v1/models"] == [sent.path for sent in upstream.request_log.requests]
    assert models.MODEL_STATE_ACTIVE == found[DEDICATED].state


async def test_the_sandbox_has_a_model_that_is_not_serverless():
    """The first models of the default order can be called."""
    async with running_http() as http:
        response = await http.app.chat.ListModels(service.ListModelsRequest(page_size=1000))
        one = (await http.client.get("/v1/models/sandbox/not-serverless")).json()

    states = {model.id: model.state for model in response.models}
    assert models.MODEL_STATE_UNCONFIRMED == states["sandbox/not-serverless"]
    assert models.MODEL_STATE_ACTIVE == states["sandbox/streaming-only"]
    assert ("unconfirmed", "dedicated") == (one["state"], one["availability"])
    assert json.dumps(NOT_SERVERLESS) in json.dumps(one["notes"])
