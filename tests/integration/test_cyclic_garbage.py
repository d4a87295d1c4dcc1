"""A call that has ended leaves nothing of ours to the garbage collector.

An exception refers to the frames that it passed through, and a frame that keeps the exception closes a
cycle. Everything in these frames, the prompt among it, would stay until the next collection, and full
collections stop every stream.
"""

import asyncio
import gc
from collections import Counter
from contextlib import contextmanager

import pytest

from support import openai
from support.app import collect, grpc_timeout, request
from support.http_client import COMPLETIONS, request_body, running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import Reset, Send, Stall, json_response, sse, sse_event, sse_head
from support.waiting import eventually

CALLS = 10
EVENT = sse_event(openai.chunk("word "))
DEADLINE_MS = 400

RESPONSES = {
    "a completion": json_response(200, openai.completion("Hi")),
    "a stream": sse([openai.chunk("Hi", finish_reason="stop"), "[DONE]"]),
    "status 503": json_response(503, openai.error("overloaded")),
    "status 400": json_response(400, openai.error("no")),
    "malformed JSON": json_response(200, "no"),
    "a stream with an error": sse([openai.chunk("Hi"), {"error": {"message": "no"}}]),
    "a stream with a malformed event": sse([openai.chunk("Hi"), "{"]),
    "a stream that is cut": (Send(sse_head() + EVENT), Reset()),
    "a reset": (Reset(),),
}


def alive():
    """Count our objects by type."""
    kinds = (type(one) for one in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith("togetherchat_server.")
    )


@contextmanager
def without_collections():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def leaves_nothing(service, call):
    """Make calls one after the other, and wait until all of our objects that they created are gone."""
    await call()  # what stays after a first call is kept on purpose
    await eventually(lambda: not service.app.admission.in_flight)
    with without_collections():
        before = alive()
        for _ in range(CALLS):
            await call()

        def left():
            grown = alive() - before
            return {kind: count for kind, count in grown.items() if count >= CALLS}

        try:
            await eventually(lambda: not left(), within_s=5)
        except TimeoutError:
            pytest.fail(f"left after {CALLS} calls: {left()}")


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("frontend", ["gRPC", "HTTP"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_response_leaves_no_garbage(frontend, response, stream):
    """Whatever the provider responds, with and without a fallback model."""
    async with (
        ScriptedUpstream(always(RESPONSES[response])) as upstream,
        running_http(upstream.base_url) as service,
    ):

        async def over_grpc():
            fields = {"fallback_models": ["other/model"]}
            if stream:
                await collect(service.app.chat.StreamComplete(request(**fields)))
            else:
                await asyncio.gather(service.app.chat.Complete(request(**fields)), return_exceptions=True)

        async def over_http():
            if not stream:
                await service.complete()
                return
            asked = service.client.stream("POST", COMPLETIONS, json=request_body(stream=True))
            async with asked as answer:
                async for line in answer.aiter_lines():
                    if '"error"' in line:  # the body has no end after that
                        break

        await leaves_nothing(service, over_grpc if frontend == "gRPC" else over_http)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("begun", [(), (Send(sse_head() + EVENT),)], ids=["before the head", "in the body"])
async def test_an_early_end_leaves_no_garbage(begun, stream):
    """The caller cancels the call, or its deadline passes."""
    async with (
        ScriptedUpstream(always((*begun, Stall()))) as upstream,
        running_http(upstream.base_url) as service,
    ):
        method = service.app.chat.StreamComplete if stream else service.app.chat.Complete

        async def cancelled():
            reached = len(upstream.request_log.requests) + 1
            call = method(request())
            waiting = asyncio.ensure_future(call.wait_for_connection())
            await upstream.until(lambda log: len(log.requests) >= reached)
            call.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

        async def expired():
            call = method(request(), metadata=grpc_timeout(DEADLINE_MS))
            await (collect(call) if stream else asyncio.gather(call, return_exceptions=True))

        await leaves_nothing(service, cancelled)
        await leaves_nothing(service, expired)


async def test_a_rejected_request_leaves_no_garbage():
    """A request that is not valid is rejected before it reaches the provider."""
    async with running_http("http://127.0.0.1:9") as service:

        async def rejected():
            await asyncio.gather(service.app.chat.Complete(request(model="")), return_exceptions=True)
            await service.client.post("/v1/chat/completions", content=b"{")

        await leaves_nothing(service, rejected)
