"""The warning about a completion without text, over both frontends, streamed, unary and accumulated."""

import pytest

from support.app import request, running_app
from support.http_client import running_http

MODEL = "sandbox/reasoning"
START = "The completion has no text: reasoning used up max_tokens."


@pytest.mark.parametrize("accumulated", [False, True])
async def test_a_unary_completion_has_the_warning(accumulated):
    """The same warning, whether the provider was asked for a stream or not."""
    settings = {"stream_upstream_min_tokens": 0} if accumulated else {}
    async with running_app(**settings) as app:
        lost = await app.chat.Complete(request("echo: Hi", model=MODEL, max_tokens=2))
        whole = await app.chat.Complete(request("echo: Hi", model=MODEL))

    assert [True] == [warning.message.startswith(START) for warning in lost.warnings]
    assert not lost.choices[0].message.content
    assert not whole.warnings


async def test_a_stream_has_the_warning_at_its_end():
    """`completed` carries it."""
    async with running_app() as app:
        call = app.chat.StreamComplete(request("echo: Hi", model=MODEL, max_tokens=2))
        events = [event async for event in call]

    assert [True] == [warning.message.startswith(START) for warning in events[-1].completed.warnings]


async def test_over_http_a_response_has_the_warning_and_a_stream_has_a_comment():
    """OpenAI's clients ignore both."""
    async with running_http() as service:
        response = await service.complete(model=MODEL, max_tokens=2)
        stream = await service.complete(model=MODEL, max_tokens=2, stream=True)

    assert [True] == [warning["message"].startswith(START) for warning in response.json()["warnings"]]
    assert f": {START}" in stream.text
