"""A dedicated endpoint that is not running: a failure that passes when the endpoint has been started."""

import grpc
import pytest

from support import openai
from support.app import collect, failing, request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import json_response

STOPPED = json_response(400, openai.error("The endpoint is stopped.", code="dedicated_endpoint_not_running"))
MODEL = "sandbox/error-400-stopped"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_grpc_client_must_not_retry_and_a_caller_may_after_a_minute(stream):
    """The pushback is -1, and RetryInfo has 60 s. The provider received one request."""
    async with (
        ScriptedUpstream(always(STOPPED)) as upstream,
        running_app(upstream.base_url, max_retries=2) as app,
    ):
        if stream:
            _, failure = await collect(app.chat.StreamComplete(request()))
        else:
            failure = await failing(app.chat.Complete(request()))

    assert (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_ENDPOINT_NOT_RUNNING") == (
        failure.code,
        failure.info.reason,
    )
    assert ("-1", 60, "false") == (
        failure.pushback,
        failure.details["RetryInfo"].retry_delay.seconds,
        failure.trailers["x-error-retryable"],
    )
    assert 1 == len(upstream.request_log.requests)


@pytest.mark.parametrize("stream", [False, True])
async def test_over_http_it_is_a_503_with_retry_after(stream):
    """OpenAI's clients do not retry it, because `x-should-retry` comes before the status."""
    async with running_http() as service:
        response = await service.complete(model=MODEL, stream=stream)

    assert (503, "60", "false") == (
        response.status_code,
        response.headers["retry-after"],
        response.headers["x-should-retry"],
    )
    assert "upstream_endpoint_not_running" == response.json()["error"]["code"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fallback_takes_over(stream):
    """The warnings and the model say which one served."""
    async with running_app() as app:
        asked = request("echo: Hi", model=MODEL, fallback_models=["some/model"])
        if stream:
            events, failure = await collect(app.chat.StreamComplete(asked))
            assert failure is None
            model = events[0].started.model
        else:
            model = (await app.chat.Complete(asked)).model

    assert "some/model" == model


async def test_the_adaptive_throttle_does_not_count_it():
    """However often it fails, the next request is sent: the endpoint may have been started."""
    async with running_app() as app:
        for number in range(30):
            await failing(app.chat.Complete(request(f"echo: {number}", model=MODEL)))
        failure = await failing(app.chat.Complete(request(model=MODEL)))

    assert ("UPSTREAM_ENDPOINT_NOT_RUNNING", "1") == (failure.info.reason, failure.info.metadata["attempts"])
