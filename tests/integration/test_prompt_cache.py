"""Calls of one conversation reach one prompt cache, and no tenant reaches that of another."""

import json

import pytest

from support import openai
from support.app import request, running_app
from support.http_client import TOKEN, get_page, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import json_response, sse
from togetherchat.v1 import chat_pb2 as chat

COMPLETION = json_response(200, openai.completion())
STREAM = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE])
MODEL = "sandbox/prompt-cache"


def briefed(text="echo: Hi", **fields):
    """A request with instructions, which a prompt cache can hold."""
    asked = request(text, model=MODEL, **fields)
    asked.messages.insert(
        0,
        chat.Message(role=chat.ROLE_SYSTEM, content=[chat.ContentPart(text="Some long instructions.")]),
    )
    return asked


def keys_of(upstream):
    return [json.loads(sent.body).get("prompt_cache_key") for sent in upstream.request_log.requests]


async def test_a_conversation_hits_the_cache():
    """The second turn is cached, and another conversation is not."""
    async with running_app() as app:
        first = await app.chat.Complete(briefed())
        again = briefed()
        again.messages.append(first.choices[0].message)
        again.messages.append(request("echo: More").messages[0])
        second = await app.chat.Complete(again)
        other = await app.chat.Complete(briefed("echo: Something else"))

    assert [False, True, False] == [bool(one.usage.cached_tokens) for one in (first, second, other)]


async def test_unary_streamed_and_over_http_have_one_key():
    """The key depends on the prompt, not on how it is sent."""
    async with (
        ScriptedUpstream(lambda sent: STREAM if b'"stream":true' in sent.body else COMPLETION) as upstream,
        running_http(upstream.base_url, prompt_cache_affinity="on") as service,
    ):
        await service.app.chat.Complete(request("Hi"))
        assert [event async for event in service.app.chat.StreamComplete(request("Hi"))]
        await service.complete()
        await service.complete(stream=True)

    [key] = set(keys_of(upstream))
    assert 32 == len(key)


@pytest.mark.parametrize("affinity", ["off", "auto"])
async def test_no_key_is_derived_for_another_provider_or_if_that_is_off(affinity):
    """A caller's own key is sent unchanged."""
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        running_app(upstream.base_url, prompt_cache_affinity=affinity) as app,
    ):
        await app.chat.Complete(request())
        await app.chat.Complete(request(prompt_cache_key="mine"))

    assert [None, "mine"] == keys_of(upstream)


async def test_affinity_can_be_switched_off_for_the_sandbox():
    """Then nothing is cached by key, unless the caller sends one."""
    async with running_app(prompt_cache_affinity="off") as app:
        without = [await app.chat.Complete(briefed()) for _ in range(2)]
        with_key = [await app.chat.Complete(briefed(prompt_cache_key="k")) for _ in range(2)]

    assert [0, 0] == [one.usage.cached_tokens for one in without]
    assert [False, True] == [bool(one.usage.cached_tokens) for one in with_key]


@pytest.mark.parametrize(
    "fields", [{}, {"prompt_cache_key": "k"}, {"user": "u"}, {"prompt_cache_key": "k", "user": "u"}]
)
async def test_a_tenant_cannot_probe_the_cache_of_another(tmp_path, fields):
    """The same prompt, the same key and the same user: the other tenant finds nothing."""
    keys = Keys(tmp_path / "keys.jsonl")
    acme, other = bearer(keys.create("acme")), bearer(keys.create("other"))
    async with running_app(api_keys_file=str(keys.path)) as app:
        cached = []
        for caller in (acme, other, acme, other):
            response = await app.chat.Complete(briefed(**fields), metadata=caller)
            cached.append(bool(response.usage.cached_tokens))

    assert [False, False, True, True] == cached


async def test_nothing_of_the_prompt_is_in_the_key():
    """The tenant's name and the user are not either."""
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        running_app(upstream.base_url, prompt_cache_affinity="on", forward_user=False) as app,
    ):
        await app.chat.Complete(request("a secret word", user="alice"))
        await app.chat.Complete(request("a secret word", user="bob"))

    [key] = set(keys_of(upstream))
    assert all(letter in "0123456789abcdef" for letter in key)
    assert all(b"alice" not in sent.body for sent in upstream.request_log.requests)


async def test_a_callers_own_provider_key_has_caches_of_its_own():
    """The hash is keyed with the key that the request is sent with."""
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        running_app(
            upstream.base_url, prompt_cache_affinity="on", upstream_credentials="caller-then-server"
        ) as app,
    ):
        await app.chat.Complete(request())
        await app.chat.Complete(request(), metadata=bearer(TOKEN))

    assert 2 == len(set(keys_of(upstream)))


async def test_the_hit_ratio_is_in_the_metrics():
    """Tokens of prompts, by whether the provider read them from its cache; unknown ones are not counted."""
    usage = openai.usage(10, 1, prompt_tokens_details={"cached_tokens": 7})
    responses = iter([usage, openai.usage(5, 1, cached_tokens=0), openai.usage(100, 1)])
    async with (
        ScriptedUpstream(lambda _: json_response(200, openai.completion(usage=next(responses)))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        for _ in range(3):
            await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        page = await get_page(app.addresses.admin, "/metrics")

    name = "togetherchat_prompt_cache_tokens_total"
    found = [line for line in page.text.splitlines() if line.startswith(name)]
    assert [
        f'{name}{{model="openai/gpt-oss-120b",result="hit"}} 7.0',
        f'{name}{{model="openai/gpt-oss-120b",result="miss"}} 8.0',
    ] == sorted(found)
