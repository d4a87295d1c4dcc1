"""A reasoning effort that the model does not know: what the provider receives, and what the caller is told."""

import json

import pytest

from support import openai
from support.app import request, running_app
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import json_response, sse

COMPLETION = json_response(200, openai.completion())
STREAM = sse([openai.chunk("Hi", finish_reason="stop", usage=openai.usage(3, 1)), openai.DONE])
GPT_OSS, KIMI = "openai/gpt-oss-120b", "moonshotai/Kimi-K3"
OFF = {"reasoning": {"enabled": False}}
CASES = [
    (GPT_OSS, "none", {"reasoning_effort": "low"}),
    (GPT_OSS, "max", {"reasoning_effort": "high"}),
    (GPT_OSS, "medium", {"reasoning_effort": "medium"}),
    (KIMI, "none", OFF),
    (KIMI, "xhigh", {"reasoning_effort": "max"}),
    ("zai-org/GLM-5.2", "none", OFF),
    ("my/own", "none", {"reasoning_effort": "none"}),
]


def sent(upstream, number=-1):
    """The members about reasoning that the provider received."""
    body = json.loads(upstream.request_log.requests[number].body)
    return {name: value for name, value in body.items() if name.startswith("reasoning")}


@pytest.mark.parametrize(("model", "word", "expected"), CASES)
async def test_unary_accumulated_and_streamed(model, word, expected):
    """The provider receives the same, and the caller the same warning."""
    changed = expected != {"reasoning_effort": word}
    asked = request(model=model, reasoning_effort=word)
    async with (
        ScriptedUpstream(in_turn(COMPLETION, STREAM, STREAM)) as upstream,
        running_app(upstream.base_url, stream_upstream_min_tokens=100) as app,
    ):
        unary = await app.chat.Complete(asked)
        asked.max_tokens = 100
        accumulated = await app.chat.Complete(asked)
        events = [event async for event in app.chat.StreamComplete(asked)]

    assert [expected] * 3 == [sent(upstream, number) for number in range(3)]
    for warnings in (unary.warnings, accumulated.warnings, events[-1].completed.warnings):
        assert changed == bool(warnings)
        assert all(model in warning.message and word in warning.message for warning in warnings)


@pytest.mark.parametrize(
    "members", [{"reasoning_effort": "none"}, {"reasoning": {"effort": "none"}}], ids=["flat", "nested"]
)
async def test_over_http_the_warning_is_in_the_body_and_in_a_comment(members):
    """Both spellings of the member are adapted."""
    async with (
        ScriptedUpstream(in_turn(COMPLETION, STREAM)) as upstream,
        running_http(upstream.base_url) as service,
    ):
        response = await service.complete(model=KIMI, **members)
        stream = await service.complete(model=KIMI, stream=True, **members)

    assert [OFF, OFF] == [sent(upstream, 0), sent(upstream, 1)]
    [warning] = response.json()["warnings"]
    assert f": {warning['message']}" in stream.text


@pytest.mark.parametrize("value", ["false", "False", "off", "0"])
async def test_a_caller_can_opt_out(value):
    """Over both frontends the word is then sent as it is, without a warning."""
    header = ("x-adapt-reasoning-effort", value)
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        running_http(upstream.base_url, headers=dict([header])) as service,
    ):
        asked = request(model=GPT_OSS, reasoning_effort="max")
        over_grpc = await service.app.chat.Complete(asked, metadata=[header])
        over_http = await service.complete(model=GPT_OSS, reasoning_effort="max")

    assert [{"reasoning_effort": "max"}] * 2 == [sent(upstream, 0), sent(upstream, 1)]
    assert not over_grpc.warnings
    assert "warnings" not in over_http.json()


@pytest.mark.parametrize("settings", [{"adapt_reasoning_effort": False}, {"model_catalog": "off"}])
async def test_an_operator_can_switch_it_off(settings):
    """Without the catalog nothing is known of models, so nothing is adapted either."""
    async with (
        ScriptedUpstream(always(COMPLETION)) as upstream,
        running_app(upstream.base_url, **settings) as app,
    ):
        response = await app.chat.Complete(request(model=GPT_OSS, reasoning_effort="max"))

    assert {"reasoning_effort": "max"} == sent(upstream)
    assert not response.warnings


async def test_a_fallback_gets_its_own_effort():
    """The caller's word is adapted to each model that is tried."""
    rejected = json_response(404, openai.error("Unable to access model x.", code="model_not_available"))
    async with (
        ScriptedUpstream(in_turn(rejected, COMPLETION)) as upstream,
        running_app(upstream.base_url) as app,
    ):
        await app.chat.Complete(request(model=KIMI, reasoning_effort="none", fallback_models=[GPT_OSS]))

    assert [OFF, {"reasoning_effort": "low"}] == [sent(upstream, 0), sent(upstream, 1)]


async def test_the_sandbox_switches_reasoning_off():
    """A hybrid model of the sandbox sends none; gpt-oss sends it all the same."""
    async with running_app() as app:
        hybrid = await app.chat.Complete(request("echo: Hi", model=KIMI, reasoning_effort="none"))
        always_on = await app.chat.Complete(request("echo: Hi", model=GPT_OSS, reasoning_effort="none"))

    assert not hybrid.choices[0].message.reasoning
    assert always_on.choices[0].message.reasoning
    assert ["cannot switch reasoning off" in warning.message for warning in always_on.warnings] == [True]
