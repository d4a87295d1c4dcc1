"""Models through a real channel: lists, single models, aliases, successors, costs and rate limits.

The upstream is scripted: each test sets what it lists and rejects, by path and model.
"""

import asyncio
import csv
import json
from pathlib import Path

import grpc
import pytest

from support import openai
from support.app import failing, request, running_app
from support.http_client import running_http
from support.scraping import scraped
from support.scripted_upstream import ScriptedUpstream
from support.upstream_script import AwaitClose, Reset, Send, json_response, sse, sse_head
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.telemetry.metrics import definitions as names

BRIEF = Path(__file__).parents[1] / "unit" / "models" / "brief_models.tsv"
PRICED, OTHER = "openai/gpt-oss-120b", "zai-org/GLM-5.3"
RETIRED = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
OLD, NEW = "mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Ministral-3-14B-Instruct-2512"
LIMITS = {"x-ratelimit-limit": "200", "x-ratelimit-remaining": "199", "X-RateLimit-Odd!": "1"}
USAGE = openai.usage(1000, 10, cached_tokens=400)
NOT_AVAILABLE = openai.error(
    "Unable to access model {model}. Please visit https://api.together.ai/models", code="model_not_available"
)


class Provider:
    """What the scripted upstream lists and rejects; a test may change it."""

    def __init__(self, *listed, rejected=(), status=404):
        self.listed = [openai.model(name) for name in listed]
        self.lists = None
        self.rejected = set(rejected)
        self.status = status
        self.served_as = None

    def __call__(self, received):
        if received.path == "/v1/models":
            return self.list(received)
        body = json.loads(received.body)
        if body["model"] in self.rejected:
            return json_response(self.status, NOT_AVAILABLE)
        model = self.served_as or body["model"]
        if body.get("stream"):
            _, *events = sse(
                [openai.chunk("Hi", finish_reason="stop", model=model, usage=USAGE), openai.DONE]
            )
            return (Send(sse_head(200, LIMITS)), *events)
        return json_response(200, openai.completion(model=model, usage=USAGE), LIMITS)

    def list(self, received):
        return json_response(200, self.lists(received) if self.lists else self.listed)


def running_service(upstream, **settings):
    return running_app(upstream.base_url, **settings)


async def listed(app, **filters):
    response = await app.chat.ListModels(service.ListModelsRequest(page_size=1000, **filters))
    states = {
        model.id: models.ModelState.Name(model.state).removeprefix("MODEL_STATE_")
        for model in response.models
    }
    return states, response


def warnings(message):
    return [warning.message for warning in message.warnings]


def requested_models(upstream):
    return [json.loads(one.body)["model"] for one in upstream.request_log.requests if one.body]


async def completions(app, model, **fields):
    """Return a completion, and the first and last event of a stream."""
    completion = await app.chat.Complete(request(model=model, **fields))
    events = [event async for event in app.chat.StreamComplete(request(model=model, **fields))]
    return completion, events[0].started, events[-1].completed


async def rate_limits(app):
    """The provider's rate limits on `/metrics`, by the name of the limit."""
    page = await scraped(app.addresses.admin)
    return {limit: value for (limit, _), value in page.samples(names.UPSTREAM_RATE_LIMIT).items()}


async def test_every_model_of_the_brief_is_listed_with_its_context_length_and_quantization():
    """50 models of two lists, with and without the provider, on pages of ten."""
    with BRIEF.open(encoding="utf-8") as file:
        expected = {
            (row["id"], int(row["context_length"]), row["quantization"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    assert 50 == len({model for model, _, _ in expected}) == len(expected)
    for provider in (Provider(PRICED), lambda _: (Reset(),)):
        shown, query = set(), service.ListModelsRequest(page_size=10)
        async with ScriptedUpstream(provider) as upstream, running_service(upstream) as app:
            while True:
                page = await app.chat.ListModels(query)
                shown |= {(model.id, model.context_length, model.quantization) for model in page.models}
                if not page.next_page_token:
                    break
                query.page_token = page.next_page_token
        assert set() == expected - shown


@pytest.mark.parametrize("shape", ["bare", "object"])
async def test_both_shapes_of_the_providers_list_are_accepted(shape):
    """Together sends an array, OpenAI's clients expect an object; the catalog fills in the rest."""
    provider = Provider(PRICED, "my/own")
    bare = provider.listed
    provider.lists = lambda _: bare if shape == "bare" else {"object": "list", "data": bare}
    async with ScriptedUpstream(provider) as upstream, running_service(upstream) as app:
        states, response = await listed(app)
    assert ("ACTIVE", "ACTIVE", "UNCONFIRMED") == (states[PRICED], states["my/own"], states[OTHER])
    assert ([], True) == (warnings(response), response.HasField("provider_list_time"))
    (merged,) = [model for model in response.models if model.id == PRICED]
    assert (131072, "MXFP4") == (merged.context_length, merged.quantization)


@pytest.mark.parametrize("status", [400, 404])
async def test_a_listed_model_that_is_not_available_is_unconfirmed_and_still_tried(status):
    """Until it serves a call: the list informs, and the provider decides each time."""
    provider = Provider(PRICED, OTHER, rejected={PRICED}, status=status)
    async with ScriptedUpstream(provider) as upstream, running_service(upstream) as app:
        before, _ = await listed(app)
        failure = await failing(app.chat.Complete(request(model=PRICED)))
        after, response = await listed(app)
        unconfirmed, _ = await listed(app, state=models.MODEL_STATE_UNCONFIRMED)
        provider.rejected.clear()
        await app.chat.Complete(request(model=PRICED))
        again, _ = await listed(app)
        lists = [one for one in upstream.request_log.requests if not one.body]
    assert "MODEL_NOT_FOUND" == failure.info.reason
    assert ["ACTIVE", "UNCONFIRMED", "ACTIVE"] == [states[PRICED] for states in (before, after, again)]
    assert ["ACTIVE"] * 3 == [states[OTHER] for states in (before, after, again)]
    assert [f"The provider recently rejected calls of {PRICED}: not available with this key."] == warnings(
        response
    )
    assert PRICED in unconfirmed
    assert [PRICED, PRICED] == requested_models(upstream)
    assert 1 == len(lists)


async def test_with_the_provider_down_the_last_list_is_returned_with_a_warning():
    """Before there was any list, the catalog is returned."""
    provider = Provider("my/own")
    async with (
        ScriptedUpstream(provider) as upstream,
        running_service(upstream, model_list_ttl_s=0.001) as app,
    ):
        fresh, response = await listed(app)
        provider.list = lambda _: (Reset(),)
        stale, response_then = await listed(app)
    assert ("ACTIVE", []) == (fresh["my/own"], warnings(response))
    assert "ACTIVE" == stale["my/own"]
    assert "these models are from its last list" in warnings(response_then)[0]
    assert response_then.HasField("provider_list_time")

    async with ScriptedUpstream(lambda _: (Reset(),)) as upstream, running_service(upstream) as app:
        states, response_then = await listed(app)
    assert len(states) > 50
    assert "from the catalog alone" in warnings(response_then)[0]
    assert not response_then.HasField("provider_list_time")


def get_model(app, name):
    return app.chat.GetModel(service.GetModelRequest(id=name))


async def test_a_model_is_found_by_id_and_by_alias():
    """The entry is that of the list. The call record has both names."""
    async with (
        ScriptedUpstream(Provider(PRICED, OLD)) as upstream,
        running_service(upstream, alias={"fast": "quick", "quick": PRICED}) as app,
    ):
        _, response = await listed(app)
        by_id, by_alias = await get_model(app, PRICED), await get_model(app, "fast")
        replaced = await get_model(app, OLD)
    (entry,) = [model for model in response.models if model.id == PRICED]
    assert (entry, entry, ["fast", "quick"]) == (by_id.model, by_alias.model, list(entry.aliases))
    assert ([], response.provider_list_time) == (warnings(by_id), by_id.provider_list_time)
    assert OLD == replaced.model.id
    assert [(None, PRICED), ("fast", PRICED), (None, OLD)] == [
        (record.get("model_requested"), record["model"])
        for record in app.records()
        if record["method"].endswith("GetModel")
    ]
    assert ["/v1/models"] == [one.path for one in upstream.request_log.requests]


async def test_a_retired_model_is_found():
    """Its entry has the date."""
    async with ScriptedUpstream(Provider(PRICED)) as upstream, running_service(upstream) as app:
        model = (await get_model(app, RETIRED)).model
    assert (models.MODEL_STATE_RETIRED, "2025-05-16") == (model.state, model.retirement_date)


@pytest.mark.parametrize("name", ["no/such", PRICED.upper(), "fast ", "x" * 256])
async def test_an_unknown_model_is_not_found(name):
    """The details name the model."""
    async with (
        ScriptedUpstream(Provider(PRICED)) as upstream,
        running_service(upstream, alias={"fast": PRICED}) as app,
    ):
        failure = await failing(get_model(app, name))
    assert (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND") == (failure.code, failure.info.reason)
    assert "The list of models has no such id or alias." == failure.message
    resource = failure.details["ResourceInfo"]
    assert ("model", name.strip()) == (resource.resource_type, resource.resource_name)


@pytest.mark.parametrize("name", ["", "x" * 257])
async def test_an_invalid_id_is_rejected(name):
    """The details name the field and its rule; the provider is not asked."""
    async with ScriptedUpstream(Provider(PRICED)) as upstream, running_service(upstream) as app:
        failure = await failing(get_model(app, name))
    assert (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") == (failure.code, failure.info.reason)
    (violation,) = failure.details["BadRequest"].field_violations
    assert ("id", "must have 1 to 256 characters") == (violation.field, violation.description)
    assert [] == upstream.request_log.requests


async def test_with_the_provider_down_a_model_comes_from_the_catalog_with_a_warning():
    """An unknown model is not found, and the message says that the provider's list is missing."""
    async with ScriptedUpstream(lambda _: (Reset(),)) as upstream, running_service(upstream) as app:
        response = await get_model(app, PRICED)
        failure = await failing(get_model(app, "no/such"))
    assert (PRICED, models.MODEL_STATE_UNCONFIRMED) == (response.model.id, response.model.state)
    assert "from the catalog alone" in warnings(response)[0]
    assert not response.HasField("provider_list_time")
    assert "MODEL_NOT_FOUND" == failure.info.reason
    assert "The provider's list is unavailable" in failure.message


async def test_private_models_of_one_key_are_not_shown_to_another():
    """The same is true of unavailable models: each caller sees those of its own key."""
    provider = Provider(rejected={PRICED})
    provider.lists = lambda received: [
        openai.model(f"of/{received.headers['authorization'][-3:]}"),
        openai.model(PRICED),
    ]

    async def seen(app, key):
        metadata = [("authorization", f"Bearer {key}")]
        page = await app.chat.ListModels(service.ListModelsRequest(page_size=1000), metadata=metadata)
        private = [model.id for model in page.models if model.id.startswith("of/")]
        return private, [model.state for model in page.models if model.id == PRICED], warnings(page)

    async with (
        ScriptedUpstream(provider) as upstream,
        running_service(upstream, upstream_credentials="caller") as app,
    ):
        await seen(app, "key-one")
        await failing(
            app.chat.Complete(request(model=PRICED), metadata=[("authorization", "Bearer key-one")])
        )
        one, two = await seen(app, "key-one"), await seen(app, "key-two")
    assert (["of/one"], [models.MODEL_STATE_UNCONFIRMED]) == one[:2]
    assert (["of/two"], [models.MODEL_STATE_ACTIVE], []) == two


async def test_simultaneous_calls_share_one_fetch_which_ends_with_the_service():
    """One request serves all of them; it is cancelled when the service stops."""
    provider = Provider()
    provider.list = lambda _: (AwaitClose(),)
    async with ScriptedUpstream(provider) as upstream:
        async with running_service(upstream, drain_timeout_s=0.0) as app:
            listing = [asyncio.ensure_future(listed(app)) for _ in range(3)]
            await upstream.received()
        await upstream.closed(0)
        for one in listing:
            one.cancel()
        await asyncio.gather(*listing, return_exceptions=True)
        assert 1 == len(upstream.request_log.requests)


async def test_an_alias_is_resolved_listed_and_reported():
    """Unary and streaming: the provider gets the model id, and the completion has a warning."""
    async with (
        ScriptedUpstream(Provider(PRICED)) as upstream,
        running_service(upstream, alias={"fast": "quick", "quick": PRICED}) as app,
    ):
        completion, started, completed = await completions(app, "fast")
        _, response = await listed(app)
    warning = f"fast is an alias of this service; {PRICED} was used."
    assert [PRICED, PRICED] == requested_models(upstream)
    assert (PRICED, PRICED) == (completion.model, started.model)
    assert ([warning], [warning]) == (warnings(completion), warnings(completed))
    shown = {model.id: list(model.aliases) for model in response.models if "fast" in model.aliases}
    assert {PRICED: ["fast", "quick"]} == shown
    assert [("fast", PRICED)] * 2 == [
        (record["model_requested"], record["model"])
        for record in app.records()
        if record["method"].endswith("Complete")
    ]


async def test_a_fallback_may_be_an_alias():
    """The alias is resolved when the first model is rejected."""
    provider = Provider(rejected={OTHER})
    async with (
        ScriptedUpstream(provider) as upstream,
        running_service(upstream, alias={"fast": PRICED}) as app,
    ):
        completion, started, completed = await completions(app, OTHER, fallback_models=["fast"])
    assert [OTHER, PRICED] * 2 == requested_models(upstream)
    assert (PRICED, PRICED) == (completion.model, started.model)
    assert (
        warnings(completion)
        == warnings(completed)
        == [f"fast is an alias of this service; {PRICED} was used."]
    )


async def test_a_rejected_model_is_replaced_by_the_successor_that_the_provider_names():
    """The completion, the list and the call record show it."""
    provider = Provider(rejected={OLD})
    async with ScriptedUpstream(provider) as upstream, running_service(upstream) as app:
        completion, started, completed = await completions(app, OLD)
        _, response = await listed(app, query=NEW)
    warning = f"The provider rejected {OLD}; its successor {NEW} was used instead."
    assert [OLD, NEW] * 2 == requested_models(upstream)
    assert (NEW, NEW) == (completion.model, started.model)
    assert ([warning], [warning]) == (warnings(completion), warnings(completed))
    assert [[OLD]] == [list(model.aliases) for model in response.models]
    assert (OLD, NEW, "OK") == tuple(app.records()[0][key] for key in ("model_requested", "model", "code"))


async def test_successors_can_be_turned_off():
    """Then the call fails with the provider's error."""
    async with (
        ScriptedUpstream(Provider(rejected={OLD})) as upstream,
        running_service(upstream, replace_retired=False) as app,
    ):
        failure = await failing(app.chat.Complete(request(model=OLD)))
    assert ("MODEL_NOT_FOUND", [OLD]) == (failure.info.reason, requested_models(upstream))


def priced_list(_):
    """Prices of the provider that are higher than the catalog's, with a rate for cached tokens."""
    pricing = {"input": 1.0, "output": 2.0, "cached_input": 0.1, "hourly": 0, "base": 0, "finetune": 0}
    return [openai.model(PRICED, pricing=pricing)]


async def test_the_cost_is_that_of_input_cached_and_output_tokens_of_the_model_that_served():
    """By the catalog at first, and by the provider's list once it is fetched.

    Unary and streaming; requested by id, by alias, or redirected by the provider.
    """
    provider = Provider()
    provider.lists = priced_list
    async with (
        ScriptedUpstream(provider) as upstream,
        running_service(upstream, alias={"fast": PRICED}) as app,
    ):
        by_catalog = await completions(app, PRICED)
        await listed(app)
        by_list, by_alias = await completions(app, PRICED), await completions(app, "fast")
        provider.served_as = PRICED
        redirected = await completions(app, "some/other")

    def costs(results):
        completion, _, completed = results
        return completion.usage.cost_nano_usd, completed.usage.cost_nano_usd

    assert (1000 * 150 + 10 * 600,) * 2 == costs(by_catalog)
    expected = 600 * 1000 + 400 * 100 + 10 * 2000
    assert [(expected, expected)] * 3 == [costs(results) for results in (by_list, by_alias, redirected)]


async def test_rate_limits_are_in_the_trailers_the_call_record_and_the_metrics():
    """Unchanged, without what a trailer must not carry; the metric appears with the first of them."""
    async with ScriptedUpstream(Provider()) as upstream, running_service(upstream) as app:
        before = await rate_limits(app)
        unary, stream = (
            app.chat.Complete(request(model=PRICED)),
            app.chat.StreamComplete(request(model=PRICED)),
        )
        await unary
        assert [event async for event in stream]
        trailers = [
            {key: value for key, value in await call.trailing_metadata() if "limit" in key}
            for call in (unary, stream)
        ]
        after = await rate_limits(app)
    legal = {"x-ratelimit-limit": "200", "x-ratelimit-remaining": "199"}
    assert [legal, legal] == trailers
    assert {} == before
    assert {"ratelimit-limit": 200, "ratelimit-remaining": 199} == after
    assert [legal, legal] == [record["rate_limits"] for record in app.records()]


async def test_a_rate_limit_error_has_the_limits_too():
    """The newest documentation promises only the reset, and only for this error."""
    body = openai.error("slow down", type="dynamic_request_limited")
    rejection = json_response(429, body, {"x-ratelimit-reset": "3"})
    async with ScriptedUpstream(lambda _: rejection) as upstream, running_service(upstream) as app:
        failure = await failing(app.chat.Complete(request(model=PRICED)))
        gauges = await rate_limits(app)
    assert ("RATE_LIMITED_REQUESTS", "3") == (failure.info.reason, failure.trailers["x-ratelimit-reset"])
    assert {"ratelimit-reset": 3} == gauges
    assert {"x-ratelimit-reset": "3"} == app.records()[0]["rate_limits"]


async def test_rate_limits_of_a_callers_own_key_are_not_in_the_metrics():
    """Only that caller gets them."""
    async with (
        ScriptedUpstream(Provider()) as upstream,
        running_service(upstream, upstream_credentials="caller-then-server") as app,
    ):
        call = app.chat.Complete(request(model=PRICED), metadata=[("authorization", "Bearer mine")])
        await call
        gauges = await rate_limits(app)
    assert ("x-ratelimit-limit", "200") in list(await call.trailing_metadata())
    assert {} == gauges


async def test_a_model_says_what_it_can_do_over_grpc_and_http():
    """The catalog's lists and the provider's output limit are in both APIs; `uri` is Together's `link` over HTTP."""
    provider = Provider(PRICED, "my/own")
    for entry in provider.listed:
        entry |= {"config": {"max_output_length": 16384}, "link": "https://example.com/model"}
    async with (
        ScriptedUpstream(provider) as upstream,
        running_http(upstream.base_url) as http,
    ):
        one = (await http.app.chat.GetModel(service.GetModelRequest(id=PRICED))).model
        own = (await http.app.chat.GetModel(service.GetModelRequest(id="my/own"))).model
        entry = (await http.client.get(f"/v1/models/{PRICED}")).json()
        plain = (await http.client.get("/v1/models/my/own")).json()

    assert (["text"], ["tools", "json_schema", "reasoning"], ["low", "medium", "high"]) == (
        list(one.input_modalities),
        list(one.features),
        list(one.reasoning_efforts),
    )
    assert (16384, "https://example.com/model") == (one.max_output_tokens, one.uri)
    assert {
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "features": ["tools", "json_schema", "reasoning"],
        "reasoning_efforts": ["low", "medium", "high"],
        "max_output_tokens": 16384,
        "link": "https://example.com/model",
    }.items() <= entry.items()
    unknown = {"input_modalities", "output_modalities", "features", "reasoning_efforts", "streaming_only"}
    assert unknown.isdisjoint(plain)
    assert unknown.isdisjoint(field.name for field, _ in own.ListFields())


async def test_the_default_list_starts_with_models_that_can_be_called():
    """The models of the brief, most of them retired, come last and are not hidden."""
    async with ScriptedUpstream(Provider(PRICED, "my/own")) as upstream, running_service(upstream) as app:
        states, _ = await listed(app)
        by_id, _ = await listed(app, order_by="id")

    assert [PRICED, "my/own"] == sorted(list(states)[:2], key=str.lower, reverse=True)
    ranks = [{"ACTIVE": 0, "RETIRED": 2}.get(state, 1) for state in states.values()]
    assert sorted(ranks) == ranks
    assert set(by_id) == set(states)
    assert sorted(by_id) == list(by_id)
