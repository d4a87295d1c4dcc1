"""Models through a real channel: what is listed, what stands for what, what it costs, what is left.

The upstream is scripted: it lists, refuses and answers as each test says, by path and model.
"""

import asyncio
import csv
import json
import urllib.request
from pathlib import Path

import pytest

from support.app import failing, request, running_app
from support.scripted_upstream import ScriptedUpstream
from support.upstream_script import AwaitClose, Reset, Send, json_answer, sse, sse_head
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models

BRIEF = Path(__file__).parents[1] / "unit" / "models" / "brief_models.tsv"
PRICED, OTHER = "openai/gpt-oss-120b", "zai-org/GLM-5.3"
OLD, NEW = "mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Ministral-3-14B-Instruct-2512"
LIMITS = {"x-ratelimit-limit": "200", "x-ratelimit-remaining": "199", "X-RateLimit-Odd!": "1"}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010, "cached_tokens": 400}
REFUSED = {
    "id": "oid-404",
    "error": {
        "message": "Unable to access model {model}. Please visit https://api.together.ai/models",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_available",
    },
}


class Provider:
    """What the scripted upstream lists and refuses; a test changes it as it goes."""

    def __init__(self, *listed, refused=(), status=404):
        self.listed = [{"id": model, "object": "model", "created": 0, "type": "chat"} for model in listed]
        self.lists = None
        self.refused = set(refused)
        self.status = status
        self.served_as = None

    def __call__(self, asked):
        if asked.path == "/v1/models":
            return self.list(asked)
        body = json.loads(asked.body)
        if body["model"] in self.refused:
            return json_answer(self.status, REFUSED)
        model = self.served_as or body["model"]
        shared = {"id": "oid-1", "created": 1, "model": model}
        if body.get("stream"):
            choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
            _, *events = sse([json.dumps({**shared, "choices": [choice], "usage": USAGE}), "[DONE]"])
            return (Send(sse_head(200, LIMITS)), *events)
        message = {"role": "assistant", "content": "Hi"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json_answer(200, {**shared, "choices": [choice], "usage": USAGE}, LIMITS)

    def list(self, asked):
        return json_answer(200, self.lists(asked) if self.lists else self.listed)


def served(upstream, **settings):
    return running_app(upstream.base_url, **settings)


async def listed(app, **asked):
    response = await app.chat.ListModels(service.ListModelsRequest(page_size=1000, **asked))
    states = {
        model.id: models.ModelState.Name(model.state).removeprefix("MODEL_STATE_")
        for model in response.models
    }
    return states, response


def remarks(message):
    return [warning.message for warning in message.warnings]


def asked_for(upstream):
    return [json.loads(one.body)["model"] for one in upstream.ledger.requests if one.body]


async def answers(app, model, **fields):
    """A whole answer, and what a stream told at its beginning and its end."""
    whole = await app.chat.Complete(request(model=model, **fields))
    events = [event async for event in app.chat.StreamComplete(request(model=model, **fields))]
    return whole, events[0].started, events[-1].completed


async def counts(app):
    def fetch():
        with urllib.request.urlopen(f"http://{app.addresses.admin}/vars", timeout=5) as page:
            return page.read()

    return json.loads(await asyncio.to_thread(fetch))


async def test_every_model_of_the_brief_is_listed_with_its_context_and_quantization():
    """50 models of two lists, whether or not the provider can be asked, on pages of ten."""
    with BRIEF.open(encoding="utf-8") as file:
        wanted = {
            (row["id"], int(row["context_length"]), row["quantization"])
            for row in csv.DictReader(file, delimiter="\t")
        }
    assert 50 == len({model for model, _, _ in wanted}) == len(wanted)
    for provider in (Provider(PRICED), lambda _: (Reset(),)):
        shown, asked = set(), service.ListModelsRequest(page_size=10)
        async with ScriptedUpstream(provider) as upstream, served(upstream) as app:
            while True:
                page = await app.chat.ListModels(asked)
                shown |= {(model.id, model.context_length, model.quantization) for model in page.models}
                if not page.next_page_token:
                    break
                asked.page_token = page.next_page_token
        assert set() == wanted - shown


@pytest.mark.parametrize("shape", ["bare", "object"])
async def test_both_shapes_of_the_providers_list_are_read(shape):
    """Together sends a bare array, OpenAI's clients expect an object; the catalogue fills in the rest."""
    provider = Provider(PRICED, "my/own")
    bare = provider.listed
    provider.lists = lambda _: bare if shape == "bare" else {"object": "list", "data": bare}
    async with ScriptedUpstream(provider) as upstream, served(upstream) as app:
        states, response = await listed(app)
    assert ("ACTIVE", "ACTIVE", "UNCONFIRMED") == (states[PRICED], states["my/own"], states[OTHER])
    assert ([], True) == (remarks(response), response.HasField("provider_list_time"))
    (known,) = [model for model in response.models if model.id == PRICED]
    assert (131072, "MXFP4") == (known.context_length, known.quantization)


@pytest.mark.parametrize("status", [400, 404])
async def test_a_listed_model_that_cannot_be_called_is_shown_as_such_and_still_asked(status):
    """Until it answers: the list informs, the provider decides each time."""
    provider = Provider(PRICED, OTHER, refused={PRICED}, status=status)
    async with ScriptedUpstream(provider) as upstream, served(upstream) as app:
        before, _ = await listed(app)
        failure = await failing(app.chat.Complete(request(model=PRICED)))
        after, told = await listed(app)
        unconfirmed, _ = await listed(app, state=models.MODEL_STATE_UNCONFIRMED)
        provider.refused.clear()
        await app.chat.Complete(request(model=PRICED))
        again, _ = await listed(app)
        lists = [one for one in upstream.ledger.requests if not one.body]
    assert "MODEL_NOT_FOUND" == failure.info.reason
    assert ["ACTIVE", "UNCONFIRMED", "ACTIVE"] == [states[PRICED] for states in (before, after, again)]
    assert ["ACTIVE"] * 3 == [states[OTHER] for states in (before, after, again)]
    assert [f"The provider lately refused calls of {PRICED}, as not available with this key."] == remarks(
        told
    )
    assert PRICED in unconfirmed
    assert [PRICED, PRICED] == asked_for(upstream)
    assert 1 == len(lists)


async def test_with_the_provider_down_the_last_list_answers_with_a_note():
    """And before there was any, the catalogue."""
    provider = Provider("my/own")
    async with ScriptedUpstream(provider) as upstream, served(upstream, model_list_ttl_s=0.001) as app:
        fresh, told = await listed(app)
        provider.list = lambda _: (Reset(),)
        stale, noted = await listed(app)
    assert ("ACTIVE", []) == (fresh["my/own"], remarks(told))
    assert "ACTIVE" == stale["my/own"]
    assert "these models are from its last one" in remarks(noted)[0]
    assert noted.HasField("provider_list_time")

    async with ScriptedUpstream(lambda _: (Reset(),)) as upstream, served(upstream) as app:
        states, noted = await listed(app)
    assert len(states) > 50
    assert "from the catalogue alone" in remarks(noted)[0]
    assert not noted.HasField("provider_list_time")


async def test_private_models_of_one_key_reach_no_other():
    """Nor do refusals: each caller sees what its own key was told."""
    provider = Provider(refused={PRICED})
    provider.lists = lambda asked: [
        {"id": f"of/{asked.headers['authorization'][-3:]}", "object": "model", "created": 0, "type": "chat"},
        {"id": PRICED, "object": "model", "created": 0, "type": "chat"},
    ]

    async def seen(app, key):
        metadata = [("authorization", f"Bearer {key}")]
        page = await app.chat.ListModels(service.ListModelsRequest(page_size=1000), metadata=metadata)
        private = [model.id for model in page.models if model.id.startswith("of/")]
        return private, [model.state for model in page.models if model.id == PRICED], remarks(page)

    async with ScriptedUpstream(provider) as upstream, served(upstream, upstream_credentials="caller") as app:
        await seen(app, "key-one")
        await failing(
            app.chat.Complete(request(model=PRICED), metadata=[("authorization", "Bearer key-one")])
        )
        one, two = await seen(app, "key-one"), await seen(app, "key-two")
    assert (["of/one"], [models.MODEL_STATE_UNCONFIRMED]) == one[:2]
    assert (["of/two"], [models.MODEL_STATE_ACTIVE], []) == two


async def test_callers_at_the_same_time_share_one_reading_which_ends_with_the_service():
    """One request for all of them; when the service stops, it is given up."""
    provider = Provider()
    provider.list = lambda _: (AwaitClose(),)
    async with ScriptedUpstream(provider) as upstream:
        async with served(upstream, drain_timeout_s=0.0) as app:
            asking = [asyncio.ensure_future(listed(app)) for _ in range(3)]
            await upstream.asked()
        await upstream.closed(0)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert 1 == len(upstream.ledger.requests)


async def test_an_alias_is_asked_shown_and_said():
    """Whole and streamed: the provider is asked for the model, and nothing of it is silent."""
    async with (
        ScriptedUpstream(Provider(PRICED)) as upstream,
        served(upstream, alias={"fast": "quick", "quick": PRICED}) as app,
    ):
        whole, started, completed = await answers(app, "fast")
        _, response = await listed(app)
    remark = f"fast is an alias of this service: {PRICED} was asked."
    assert [PRICED, PRICED] == asked_for(upstream)
    assert (PRICED, PRICED) == (whole.model, started.model)
    assert ([remark], [remark]) == (remarks(whole), remarks(completed))
    shown = {model.id: list(model.aliases) for model in response.models if "fast" in model.aliases}
    assert {PRICED: ["fast", "quick"]} == shown
    assert [("fast", PRICED)] * 2 == [
        (record["model_asked"], record["model"])
        for record in app.records()
        if record["method"].endswith("Complete")
    ]


async def test_a_fallback_may_be_an_alias():
    """It takes over from a model that is refused."""
    provider = Provider(refused={OTHER})
    async with ScriptedUpstream(provider) as upstream, served(upstream, alias={"fast": PRICED}) as app:
        whole, started, completed = await answers(app, OTHER, fallback_models=["fast"])
    assert [OTHER, PRICED] * 2 == asked_for(upstream)
    assert (PRICED, PRICED) == (whole.model, started.model)
    assert remarks(whole) == remarks(completed) == [f"fast is an alias of this service: {PRICED} was asked."]


async def test_a_retired_model_gives_way_to_the_successor_that_the_provider_names():
    """When the provider refuses it; said in the answer, the list and the record."""
    provider = Provider(refused={OLD})
    async with ScriptedUpstream(provider) as upstream, served(upstream) as app:
        whole, started, completed = await answers(app, OLD)
        _, response = await listed(app, query=NEW)
    remark = f"The provider refused {OLD}: {NEW}, its successor there, was asked."
    assert [OLD, NEW] * 2 == asked_for(upstream)
    assert (NEW, NEW) == (whole.model, started.model)
    assert ([remark], [remark]) == (remarks(whole), remarks(completed))
    assert [[OLD]] == [list(model.aliases) for model in response.models]
    assert (OLD, NEW, "OK") == tuple(app.records()[0][key] for key in ("model_asked", "model", "code"))


async def test_successors_can_be_turned_off():
    """Then the refusal is the answer."""
    async with (
        ScriptedUpstream(Provider(refused={OLD})) as upstream,
        served(upstream, replace_retired=False) as app,
    ):
        failure = await failing(app.chat.Complete(request(model=OLD)))
    assert ("MODEL_NOT_FOUND", [OLD]) == (failure.info.reason, asked_for(upstream))


def priced_list(_):
    """The provider's prices, above the catalogue's, with a rate for cached tokens."""
    pricing = {"input": 1.0, "output": 2.0, "cached_input": 0.1, "hourly": 0, "base": 0, "finetune": 0}
    return [{"id": PRICED, "object": "model", "created": 0, "type": "chat", "pricing": pricing}]


async def test_the_cost_counts_prompt_cache_and_answer_of_the_model_that_served():
    """By the catalogue at first and by the provider's list once it was read; whole and streamed alike,
    asked by name, by alias, or redirected by the provider.
    """
    provider = Provider()
    provider.lists = priced_list
    async with ScriptedUpstream(provider) as upstream, served(upstream, alias={"fast": PRICED}) as app:
        by_catalogue = await answers(app, PRICED)
        await listed(app)
        by_list, by_alias = await answers(app, PRICED), await answers(app, "fast")
        provider.served_as = PRICED
        redirected = await answers(app, "some/other")

    def costs(told):
        whole, _, completed = told
        return whole.usage.cost_nano_usd, completed.usage.cost_nano_usd

    assert (1000 * 150 + 10 * 600,) * 2 == costs(by_catalogue)
    expected = 600 * 1000 + 400 * 100 + 10 * 2000
    assert [(expected, expected)] * 3 == [costs(told) for told in (by_list, by_alias, redirected)]


async def test_rate_limits_reach_the_caller_the_record_and_the_gauges():
    """As they came, less what no trailer may carry; gauges appear with the first of them."""
    async with ScriptedUpstream(Provider()) as upstream, served(upstream) as app:
        before = await counts(app)
        whole, stream = (
            app.chat.Complete(request(model=PRICED)),
            app.chat.StreamComplete(request(model=PRICED)),
        )
        await whole
        assert [event async for event in stream]
        told = [
            {key: value for key, value in await call.trailing_metadata() if "limit" in key}
            for call in (whole, stream)
        ]
        after = await counts(app)
    legal = {"x-ratelimit-limit": "200", "x-ratelimit-remaining": "199"}
    assert [legal, legal] == told
    assert [] == [name for name in before if "limit" in name]
    assert (200, 199) == (after["upstream_ratelimit_limit"], after["upstream_ratelimit_remaining"])
    assert after["upstream_limits_age_s"] >= 0
    assert [legal, legal] == [record["rate_limits"] for record in app.records()]


async def test_a_refusal_for_the_rate_tells_the_limits_too():
    """The newest documentation promises the reset alone, and only here."""
    body = {"error": {"message": "slow down", "type": "dynamic_request_limited", "code": None}}
    refusal = json_answer(429, body, {"x-ratelimit-reset": "3"})
    async with ScriptedUpstream(lambda _: refusal) as upstream, served(upstream) as app:
        failure = await failing(app.chat.Complete(request(model=PRICED)))
        gauges = await counts(app)
    assert ("RATE_LIMITED_REQUESTS", "3") == (failure.info.reason, failure.trailers["x-ratelimit-reset"])
    assert 3 == gauges["upstream_ratelimit_reset"]
    assert {"x-ratelimit-reset": "3"} == app.records()[0]["rate_limits"]


async def test_limits_of_keys_that_callers_bring_are_no_gauges_of_the_service():
    """They come back to that caller alone."""
    async with (
        ScriptedUpstream(Provider()) as upstream,
        served(upstream, upstream_credentials="caller-then-server") as app,
    ):
        call = app.chat.Complete(request(model=PRICED), metadata=[("authorization", "Bearer mine")])
        await call
        gauges = await counts(app)
    assert ("x-ratelimit-limit", "200") in list(await call.trailing_metadata())
    assert [] == [name for name in gauges if "limit" in name]
