"""Fields of a request through a real channel, to the body that the provider receives."""

import json

import pytest

from support import openai
from support.app import failing, request, running_app
from support.http_client import get_page
from support.scripted_upstream import ScriptedUpstream, always, in_turn
from support.upstream_script import json_response, sse
from togetherchat.v1 import chat_pb2 as chat

COMPLETION = json_response(200, openai.completion())
USER = "user-7f3a"


def seeded(seed):
    """A response whose choice has this seed."""
    choice = openai.choice({"role": "assistant", "content": "Hi"}, seed=seed)
    return json_response(200, openai.completion(choices=[choice]))


def body_of(upstream, number=0):
    return json.loads(upstream.request_log.requests[number].body)


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 1])
async def test_the_seed_of_a_response_is_a_seed_of_a_request(seed):
    """The provider receives the integer that it returned, digit by digit."""
    async with (
        ScriptedUpstream(in_turn(seeded(seed), COMPLETION)) as upstream,
        running_app(upstream.base_url) as app,
    ):
        first = await app.chat.Complete(request())
        await app.chat.Complete(request(seed=first.choices[0].seed))

    assert seed == first.choices[0].seed
    assert f'"seed":{seed}'.encode() in upstream.request_log.requests[1].body


@pytest.mark.parametrize("seed", [-(2**63), -1])
async def test_a_negative_seed_travels_in_the_extra_body(seed):
    """It is the one covered key that is allowed there, because the field is unsigned."""
    async with ScriptedUpstream(always(COMPLETION)) as upstream, running_app(upstream.base_url) as app:
        await app.chat.Complete(request(extra_body_json=f'{{"seed": {seed}}}'))

    assert seed == body_of(upstream)["seed"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("forward", "sent"), [(True, USER), (False, None)])
async def test_user_is_forwarded_unless_that_is_switched_off(forward, sent, stream):
    """It may be personal data: it is in no log, metric or trailer."""
    response = sse([openai.chunk("Hi", finish_reason="stop"), openai.DONE]) if stream else COMPLETION
    async with (
        ScriptedUpstream(always(response)) as upstream,
        running_app(upstream.base_url, forward_user=forward) as app,
    ):
        call = (app.chat.StreamComplete if stream else app.chat.Complete)(request(user=USER))
        if stream:
            assert [event async for event in call][-1].HasField("completed")
        else:
            await call
        trailers = await call.trailing_metadata()
        metrics = await get_page(app.addresses.admin, "/metrics")

    assert sent == body_of(upstream).get("user")
    assert USER not in app.log.getvalue() + metrics.text + str(trailers)


async def test_an_error_does_not_repeat_user():
    """The bound is 256 characters, and the status names the field alone."""
    async with ScriptedUpstream(always(COMPLETION)) as upstream, running_app(upstream.base_url) as app:
        failure = await failing(app.chat.Complete(request(user=USER * 32)))

    assert "user: must have at most 256 characters" == failure.message
    assert not upstream.request_log.requests


@pytest.mark.parametrize(
    ("behavior", "sent"),
    [
        (chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_UNSPECIFIED, None),
        (chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR, "error"),
        (chat.CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_TRUNCATE, "truncate"),
    ],
)
async def test_a_behavior_is_sent_as_the_providers_word(behavior, sent):
    """Unspecified is left out."""
    async with ScriptedUpstream(always(COMPLETION)) as upstream, running_app(upstream.base_url) as app:
        await app.chat.Complete(request(context_length_exceeded_behavior=behavior))

    assert sent == body_of(upstream).get("context_length_exceeded_behavior")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_returns_to_the_field_it_came_from(name):
    """An assistant's message is appended unchanged, and the provider reads it where it wrote it."""
    message = {"role": "assistant", "content": "Hi", name: "Hm."}
    first = json_response(200, openai.completion(choices=[openai.choice(message)]))
    async with (
        ScriptedUpstream(in_turn(first, COMPLETION)) as upstream,
        running_app(upstream.base_url) as app,
    ):
        response = await app.chat.Complete(request())
        again = request()
        again.messages.append(response.choices[0].message)
        await app.chat.Complete(again)

    assert message == body_of(upstream, 1)["messages"][1]


async def test_a_refusal_returns_to_the_provider():
    """An assistant's message is appended unchanged, whether it has content or a refusal."""
    message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    first = json_response(200, openai.completion(choices=[openai.choice(message)]))
    async with (
        ScriptedUpstream(in_turn(first, COMPLETION)) as upstream,
        running_app(upstream.base_url) as app,
    ):
        response = await app.chat.Complete(request())
        again = request()
        again.messages.append(response.choices[0].message)
        await app.chat.Complete(again)

    assert "I cannot help with that." == response.choices[0].message.refusal
    assert message == body_of(upstream, 1)["messages"][1]
