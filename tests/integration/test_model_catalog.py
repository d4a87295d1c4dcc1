"""Where the shipped catalog is merged into the list of models."""

import pytest

from support import openai
from support.app import running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.config import provider as provider_config
from togetherchat_server.models.catalog import load_catalog

ONE = json_response(200, [openai.model("my/own")])


@pytest.mark.parametrize(
    ("choice", "domains", "merged"),
    [
        ("auto", (), False),
        ("auto", ("127.0.0.1",), True),
        ("on", (), True),
        ("off", ("127.0.0.1",), False),
    ],
)
async def test_the_catalog_of_together_is_not_that_of_another_provider(monkeypatch, choice, domains, merged):
    """A provider that lists one model is shown with one model, over gRPC and over HTTP."""
    monkeypatch.setattr(provider_config, "TOGETHER_DOMAINS", domains)
    async with (
        ScriptedUpstream(always(ONE)) as upstream,
        running_http(upstream.base_url, model_catalog=choice) as http,
    ):
        over_grpc = await http.app.chat.ListModels(service.ListModelsRequest(page_size=1000))
        over_http = (await http.client.get("/v1/models")).json()["data"]

    assert (1 + len(load_catalog(None).by_id) * merged) == over_grpc.total_size
    assert merged == (len(over_http) > 1)
    assert "my/own" == over_grpc.models[0].id == over_http[0]["id"]


async def test_the_sandbox_stands_for_together():
    """Its list is completed by the catalog."""
    async with running_app(model_catalog="auto") as app:
        response = await app.chat.ListModels(service.ListModelsRequest(page_size=1000))

    assert set(load_catalog(None).by_id) < {model.id for model in response.models}
