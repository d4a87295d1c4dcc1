"""The sandbox's answers in forms of other engines reach callers as ordinary ones, over gRPC and HTTP."""

import json

import pytest

from support.app import collect, request
from support.http_client import COMPLETIONS, request_body, running_http
from togetherchat.v1 import chat_pb2 as chat
from togetherchat_sandbox.engine_quirks import MODELS

READABLE = ("content-parts", "gzip", "empty-events", "events-unrequested")
FOLDED = {"stream_upstream_min_tokens": 0}


@pytest.fixture(params=[{}, FOLDED], ids=["whole", "folded"])
async def service(request):
    async with running_http(sandbox_tokens_per_second=0, **request.param) as running:
        yield running


async def texts(service, name):
    """Return the text of a model's answer, by the ways in which a caller can ask."""
    model = f"sandbox/{name}"
    whole = await service.app.chat.Complete(request(model=model))
    events, failure = await collect(service.app.chat.StreamComplete(request(model=model)))
    assert None is failure
    response = await service.client.post(COMPLETIONS, json=request_body(model=model))
    streamed = await service.events(model=model)
    message = response.json()["choices"][0]["message"]
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed[:-1] if chunk["choices"]]
    return {
        "gRPC": (
            "".join(part.text for part in whole.choices[0].message.content),
            whole.choices[0].message.refusal,
        ),
        "gRPC, streamed": (
            "".join(event.delta.text for event in events),
            "".join(event.delta.refusal for event in events),
        ),
        "HTTP": (message["content"] or "", message.get("refusal") or ""),
        "HTTP, streamed": (
            "".join(delta.get("content") or "" for delta in deltas),
            "".join(delta.get("refusal") or "" for delta in deltas),
        ),
    }


@pytest.mark.parametrize("name", READABLE)
async def test_a_readable_form_is_an_ordinary_answer(service, name):
    """Each way has a text, and no refusal."""
    found = await texts(service, name)

    assert all(text and not refusal for text, refusal in found.values()), found


async def test_a_refusal_is_passed_on(service):
    """Apart from the content."""
    found = await texts(service, "refusal")

    assert all(refusal and not text for text, refusal in found.values()), found


@pytest.mark.parametrize("streamed", [False, True])
async def test_arguments_as_an_object_are_a_text_of_json(service, streamed):
    """As every client expects them."""
    tool = chat.Tool(function=chat.FunctionTool(name="get_weather"))
    asked = request(model="sandbox/object-arguments", tools=[tool])
    if streamed:
        events, failure = await collect(service.app.chat.StreamComplete(asked))
        assert None is failure
        calls = [call for event in events for call in event.delta.tool_calls]
        arguments = "".join(call.arguments for call in calls)
    else:
        answer = await service.app.chat.Complete(asked)
        (call,) = answer.choices[0].message.tool_calls
        arguments = call.function.arguments

    assert isinstance(json.loads(arguments), dict)


def test_every_form_has_a_test():
    """A new one is listed above."""
    assert {model.name for model in MODELS} == {*READABLE, "refusal", "object-arguments"}
