"""Models that the provider serves only as a stream."""

import json

import pytest

from support import openai
from support.app import failing, request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response, sse
from togetherchat_server.models.catalog import load_catalog
from togetherchat_server.providers.together import streaming_only
from togetherchat_server.runtime import wiring

REQUIRED = openai.error("This model only supports streaming.", code="streaming_required")
LISTED = """
[[lists]]
source = "a page"
as_of = "2026-11"
type = "chat"
availability = "SERVERLESS"
models = [{ id = "a/listed", display_name = "Listed", organization = "A", streaming_only = true }]
"""
STREAM = sse(
    [
        openai.chunk("Hel"),
        openai.chunk("lo"),
        openai.chunk(finish_reason="stop", usage=openai.usage(3, 2)),
        openai.DONE,
    ]
)


def provider(response=STREAM, *, rejection=None, status=400):
    """A provider that serves every model only as a stream."""
    rejected = json_response(status, REQUIRED if rejection is None else rejection)
    return lambda received: response if b'"stream":true' in received.body else rejected


def streamed(upstream):
    return [b'"stream":true' in sent.body for sent in upstream.request_log.requests]


@pytest.mark.parametrize(
    ("status", "rejection"),
    [
        (400, REQUIRED),
        (422, REQUIRED),
        (400, openai.error("Streaming only.", type="streaming_required")),
        (200, REQUIRED),
    ],
)
async def test_a_complete_is_repeated_as_a_stream_and_later_ones_begin_as_streams(status, rejection):
    """The caller gets the completion of the stream. Only the first call needs two requests."""
    async with (
        ScriptedUpstream(provider(rejection=rejection, status=status)) as upstream,
        running_app(upstream.base_url) as app,
    ):
        first = await app.chat.Complete(request(model="a/b"))
        second = await app.chat.Complete(request(model="a/b"))
        other = await app.chat.Complete(request(model="a/other"))

    assert ["Hello"] * 3 == [one.choices[0].message.content[0].text for one in (first, second, other)]
    assert [False, True, True, False, True] == streamed(upstream)
    assert (2, 1, 2) == (first.attempts, second.attempts, other.attempts)
    assert 2 == first.usage.completion_tokens
    assert ["OK", "OK", "OK"] == [record["code"] for record in app.records()]


async def test_a_unary_request_over_http_is_repeated_as_a_stream():
    """The response is one JSON body."""
    async with ScriptedUpstream(provider()) as upstream, running_http(upstream.base_url) as service:
        response = await service.complete()

    assert (200, "Hello") == (response.status_code, response.json()["choices"][0]["message"]["content"])
    assert [False, True] == streamed(upstream)


async def test_it_is_not_a_retry():
    """It happens without retries, without a share of their budget and without a delay."""
    async with (
        ScriptedUpstream(provider()) as upstream,
        running_app(upstream.base_url, max_retries=0) as app,
    ):
        models = [f"a/{number}" for number in range(40)]
        responses = [await app.chat.Complete(request(model=model)) for model in models]

    assert 80 == len(upstream.request_log.requests)
    assert all(response.choices for response in responses)


async def test_a_stream_that_is_rejected_too_fails():
    """The request is repeated once only."""
    async with (
        ScriptedUpstream(always(json_response(400, REQUIRED))) as upstream,
        running_app(upstream.base_url) as app,
    ):
        failure = await failing(app.chat.Complete(request()))

    assert ("UPSTREAM_INVALID_REQUEST", 2) == (failure.info.reason, len(upstream.request_log.requests))


async def test_a_model_that_the_catalog_lists_as_such_begins_as_a_stream(monkeypatch):
    """The first call needs one request."""
    catalog = load_catalog(LISTED.encode())
    monkeypatch.setattr(wiring, "configured_catalog", lambda _: catalog)
    async with ScriptedUpstream(provider()) as upstream, running_app(upstream.base_url) as app:
        response = await app.chat.Complete(request(model="a/listed"))

    assert ([True], 1) == (streamed(upstream), response.attempts)


async def test_a_fallback_is_remembered_by_its_own_name():
    """The model before it is tried as it was."""
    rejected = json_response(404, openai.error("Unable to access model x.", code="model_not_available"))

    def script(received):
        return rejected if b'"model":"a/gone"' in received.body else provider()(received)

    async with ScriptedUpstream(script) as upstream, running_app(upstream.base_url) as app:
        for _ in range(2):
            response = await app.chat.Complete(request(model="a/gone", fallback_models=["a/b"]))

    assert "Hello" == response.choices[0].message.content[0].text
    assert [False, False, True, False, True] == streamed(upstream)


async def test_what_a_stream_cannot_carry_is_named():
    """A request for the prompt and for alternatives is sent as a stream all the same."""
    async with ScriptedUpstream(provider()) as upstream, running_app(upstream.base_url) as app:
        plain = await app.chat.Complete(request())
        echoed = await app.chat.Complete(request(echo=True))
        alternatives = await app.chat.Complete(request(logprobs=2))

    assert not plain.warnings
    for response in (echoed, alternatives):
        assert [streaming_only.INCOMPLETE_WARNING] == [warning.message for warning in response.warnings]
    sent = [json.loads(received.body) for received in upstream.request_log.requests]
    assert [None, None, True, None] == [body.get("echo") for body in sent]
    assert [False, True, True, True] == streamed(upstream)


async def test_other_rejections_are_not_repeated():
    """A message that mentions streaming does not count as the code."""
    rejected = json_response(400, openai.error("streaming is required for this"))
    async with ScriptedUpstream(always(rejected)) as upstream, running_app(upstream.base_url) as app:
        failure = await failing(app.chat.Complete(request()))

    assert ("UPSTREAM_INVALID_REQUEST", 1) == (failure.info.reason, len(upstream.request_log.requests))


async def test_the_sandbox_has_such_a_model():
    """The same in the sandbox, over both frontends."""
    async with running_http() as service:
        whole = await service.app.chat.Complete(request("echo: Hi", model="sandbox/streaming-only"))
        over_http = await service.complete(model="sandbox/streaming-only")

    assert ("Hi", 2) == (whole.choices[0].message.content[0].text, whole.attempts)
    assert 200 == over_http.status_code
