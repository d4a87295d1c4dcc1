"""Answers on the wire, in the dialects of the real engines."""

import json

import pytest

from togetherchat_sandbox.answers import NOTHING_MORE, Wishes, plan
from togetherchat_sandbox.chunks import chunks
from togetherchat_sandbox.request import ChatRequest, Message, Tool
from togetherchat_sandbox.styles import (
    FLICKER,
    KIMI_K3,
    NO_USAGE,
    TOGETHER,
    TRAILING_USAGE,
    USAGE_IF_ASKED,
    style_of,
    thinks_first,
)
from togetherchat_sandbox.tokens import END_OF_TURN_ID, log_probability, token_id
from togetherchat_sandbox.unary import Label, body
from togetherchat_sandbox.wire import encode

LABEL = Label(id="id-1", created=1_786_490_531, model="some/model")
WEATHER = Tool(name="get_weather", parameters={"properties": {"city": {"const": "Berlin"}}})


def says(text, **fields):
    return ChatRequest(model="some/model", messages=(Message(role="user", text=text),), **fields)


def planned(request, *, thinks=False, wishes=NOTHING_MORE):
    return plan(request, seed=0, thinks=thinks, wishes=wishes)


def told(request, style, **more):
    return json.loads(encode(body(planned(request, **more), request, style, LABEL)))


def streamed(request, style, **more):
    return [
        json.loads(encode(chunk.body)) for chunk in chunks(planned(request, **more), request, style, LABEL)
    ]


def choices_of(events):
    return [event["choices"][0] for event in events if event["choices"]]


def test_the_body_of_a_plain_answer():
    """Every field of a recorded plain answer is there, and the fingerprint that marks it as ours."""
    assert {
        "id": "id-1",
        "object": "chat.completion",
        "created": 1_786_490_531,
        "model": "some/model",
        "prompt": [],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "seed": 7,
                "logprobs": None,
                "message": {"role": "assistant", "content": "hi", "tool_calls": []},
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8, "cached_tokens": 0},
        "system_fingerprint": "sandbox",
    } == told(says("echo: hi", seed=7), TOGETHER)


def test_the_body_of_a_tool_call():
    """A call has its index, its identifier and its arguments as a string; the content is null."""
    (choice,) = told(says("hi", tools=(WEATHER,), tool_choice="required"), TOGETHER)["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (None, "tool_calls", 0, "function", "get_weather", '{"city":"Berlin"}') == (
        choice["message"]["content"],
        choice["finish_reason"],
        call["index"],
        call["type"],
        call["function"]["name"],
        call["function"]["arguments"],
    )
    assert call["id"].startswith("call_")


def test_thinking_in_a_body():
    """Thoughts stand beside the content, and usage counts them."""
    answer = told(says("echo: hi"), TOGETHER, thinks=True)
    message = answer["choices"][0]["message"]
    assert ("hi", True) == (message["content"], len(message["reasoning"]) > 10)
    assert (
        answer["usage"]["completion_tokens"] - 1
        == answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    )


def test_log_probabilities_in_a_body():
    """Together's parallel arrays, with a map for each position."""
    measured = told(says("echo: one two", logprobs=2), TOGETHER)["choices"][0]["logprobs"]
    assert (
        ["one", " two"],
        [token_id("one"), token_id(" two")],
        [log_probability("one", 0), log_probability(" two", 1)],
    ) == (
        measured["tokens"],
        measured["token_ids"],
        measured["token_logprobs"],
    )
    assert [["one", "one~"], [" two", " two~"]] == [list(rivals) for rivals in measured["top_logprobs"]]


def test_no_alternatives_where_none_are_asked_for():
    """`logprobs: 0` measures the tokens alone."""
    assert {"tokens", "token_ids", "token_logprobs"} == set(
        told(says("echo: one", logprobs=0), TOGETHER)["choices"][0]["logprobs"]
    )


def test_echo_returns_the_prompt():
    """With `echo` the prompt comes back, measured where log probabilities are asked for."""
    (plain,) = told(says("echo: hi", echo=True), TOGETHER)["prompt"]
    (measured,) = told(says("echo: hi", echo=True, logprobs=1), TOGETHER)["prompt"]
    assert ({"text": "echo: hi", "logprobs": None}, ["echo", ":", " hi"]) == (
        plain,
        measured["logprobs"]["tokens"],
    )


def test_the_body_of_kimi_k3():
    """Kimi-K3 spells its thoughts differently, leaves Together's fields out and nests the cached tokens."""
    answer = told(says("echo: hi"), KIMI_K3, thinks=True)
    assert (
        {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"},
        {"index", "finish_reason", "message"},
        {"role", "content", "reasoning_content"},
        {"cached_tokens": 0},
    ) == (
        set(answer),
        set(answer["choices"][0]),
        set(answer["choices"][0]["message"]),
        answer["usage"]["prompt_tokens_details"],
    )


def test_a_body_without_usage():
    """An engine that reports no usage has no such field."""
    assert "usage" not in told(says("echo: hi"), NO_USAGE)


def test_the_chunks_of_a_plain_answer():
    """The role and the text beside the delta in each chunk; seed and usage on the last."""
    first, last = streamed(says("echo: hi", seed=7), TOGETHER)
    assert {
        "id": "id-1",
        "object": "chat.completion.chunk",
        "created": 1_786_490_531,
        "choices": [
            {
                "index": 0,
                "text": "hi",
                "logprobs": None,
                "finish_reason": None,
                "seed": None,
                "delta": {"token_id": token_id("hi"), "role": "assistant", "content": "hi"},
            }
        ],
        "model": "some/model",
        "system_fingerprint": "sandbox",
        "usage": None,
    } == first
    assert (
        {
            "index": 0,
            "text": "",
            "logprobs": None,
            "finish_reason": "stop",
            "seed": 7,
            "delta": {"token_id": END_OF_TURN_ID, "role": "assistant", "content": ""},
        },
        {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8, "cached_tokens": 0},
    ) == (last["choices"][0], last["usage"])


def test_thinking_in_chunks():
    """Thoughts come first with empty content; then they are null."""
    deltas = [choice["delta"] for choice in choices_of(streamed(says("echo: hi"), TOGETHER, thinks=True))]
    thoughts = [delta for delta in deltas if delta["reasoning"] is not None]
    assert ({""}, ["hi", ""]) == (
        {delta["content"] for delta in thoughts},
        [delta["content"] for delta in deltas[len(thoughts) :]],
    )


def test_fragments_of_a_call():
    """The first fragment names the call; the others have neither identifier nor type."""
    deltas = [
        choice["delta"]
        for choice in choices_of(streamed(says("hi", tools=(WEATHER,), tool_choice="required"), TOGETHER))
    ]
    (naming, *rest) = [fragment for delta in deltas for fragment in delta.get("tool_calls", ())]
    assert ("get_weather", "", {"index", "function"}, '{"city":"Berlin"}') == (
        naming["function"]["name"],
        naming["function"]["arguments"],
        set().union(*rest),
        "".join(fragment["function"]["arguments"] for fragment in rest),
    )


def test_flickering_finish_reasons():
    """Two calls, and a reason that goes back to null between them."""
    reasons = [
        choice["finish_reason"]
        for choice in choices_of(streamed(says("hi"), FLICKER, wishes=Wishes(calls=2)))
    ]
    changes = [reason for reason, before in zip(reasons, ["", *reasons], strict=False) if reason != before]
    assert [None, "tool_calls", None, "tool_calls"] == changes
    assert ["tool_calls", "tool_calls"] == reasons[-2:]


def test_log_probabilities_in_chunks():
    """A bare number and a map, on the chunks that carry content."""
    choices = choices_of(streamed(says("echo: one two", logprobs=2), TOGETHER))
    assert [log_probability("one", 0), log_probability(" two", 1), None] == [
        choice["logprobs"] for choice in choices
    ]
    assert ["one", "one~"] == list(choices[0]["top_logprobs"])


def test_choices_take_turns():
    """Several choices come interleaved; usage comes with the last end."""
    events = streamed(says("echo: a b", choices=2), TOGETHER)
    assert ([0, 1, 0, 1, 0, 1], [False] * 5 + [True]) == (
        [choice["index"] for choice in choices_of(events)],
        [event["usage"] is not None for event in events],
    )


def test_usage_waits_for_the_longest_choice():
    """However the choices end, exactly one chunk carries usage, and it is the last."""
    events = streamed(says("hello", choices=7), TOGETHER)
    assert [len(events) - 1] == [place for place, event in enumerate(events) if event["usage"]]


def test_usage_in_a_chunk_of_its_own():
    """The trailing style ends with a chunk that has usage and no choices."""
    *events, last = streamed(says("echo: hi"), TRAILING_USAGE)
    assert ([], 8, {None}) == (
        last["choices"],
        last["usage"]["total_tokens"],
        {event["usage"] for event in events},
    )


@pytest.mark.parametrize("asked", [False, True])
def test_usage_only_if_asked(asked):
    """The GLM style reports usage when `include_usage` asks for it, else nowhere."""
    events = streamed(says("echo: hi", include_usage=asked), USAGE_IF_ASKED)
    assert asked is any(event.get("usage") for event in events)


def test_the_chunks_of_kimi_k3():
    """The role only once, the last delta empty, usage inside the choice, nothing of Together's."""
    events = streamed(says("echo: hi"), KIMI_K3)
    opening, token, last = choices_of(events)
    assert (
        {"role": "assistant", "content": ""},
        {"content": "hi"},
        {},
        8,
        {"id", "object", "created", "choices", "model", "system_fingerprint"},
    ) == (
        opening["delta"],
        token["delta"],
        last["delta"],
        last["usage"]["total_tokens"],
        set().union(*events),
    )


def test_kimi_k3_gives_usage_at_the_top_when_asked():
    """With `include_usage` it is in a chunk of its own and no longer in the choice."""
    *events, last = streamed(says("echo: hi", include_usage=True), KIMI_K3)
    assert ([], 8, False) == (
        last["choices"],
        last["usage"]["total_tokens"],
        any("usage" in choice for choice in choices_of(events)),
    )


@pytest.mark.parametrize("style", [TOGETHER, TRAILING_USAGE, KIMI_K3, USAGE_IF_ASKED, NO_USAGE])
def test_every_style_tells_the_same(style):
    """Streamed or not, in whatever dialect, the words and the reason are the same."""
    request = says("What is the matter?")
    choices = choices_of(streamed(request, style))
    whole = told(request, style)["choices"][0]
    assert (whole["message"]["content"], whole["finish_reason"]) == (
        "".join(choice["delta"].get("content", "") for choice in choices),
        choices[-1]["finish_reason"],
    )


@pytest.mark.parametrize(
    ("style", "thinks", "model"),
    [
        (TOGETHER, False, "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        (TOGETHER, False, "made/up"),
        (TOGETHER, True, "openai/gpt-oss-120b"),
        (TOGETHER, True, "deepseek-ai/DeepSeek-R1"),
        (TOGETHER, True, "sandbox/reasoning"),
        (KIMI_K3, True, "moonshotai/Kimi-K3"),
        (TRAILING_USAGE, True, "moonshotai/Kimi-K2.7-Code"),
        (USAGE_IF_ASKED, True, "zai-org/GLM-5.2"),
    ],
)
def test_who_speaks_how(style, thinks, model):
    """A model's name decides its dialect and whether it thinks first."""
    assert (style, thinks) == (style_of(model), thinks_first(model))
