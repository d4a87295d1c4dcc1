"""Encoded completions, in the dialects of the real engines."""

import json
from itertools import groupby

import pytest

from togetherchat_sandbox.chunks import stream_chunks
from togetherchat_sandbox.dialects import (
    CALLS_WITHOUT_IDS,
    FLICKER,
    KIMI_K3,
    LATE_HEAD,
    NO_USAGE,
    SHARED_INDEX,
    SHIFTED_INDEX,
    TOGETHER,
    TRAILING_USAGE,
    USAGE_IF_REQUESTED,
    dialect_of,
    reasons_first,
)
from togetherchat_sandbox.encoding import encode
from togetherchat_sandbox.plan import NO_OVERRIDES, PlanOverrides, plan_completion
from togetherchat_sandbox.request import ChatMessage, ChatRequest, FunctionTool
from togetherchat_sandbox.tokens import END_OF_TURN_ID, log_probability, token_id
from togetherchat_sandbox.unary_body import Envelope, unary_body

LABEL = Envelope(id="id-1", created=1_786_490_531, model="some/model")
WEATHER = FunctionTool(name="get_weather", parameters={"properties": {"city": {"const": "Berlin"}}})


def says(text, **fields):
    return ChatRequest(model="some/model", messages=(ChatMessage(role="user", text=text),), **fields)


def planned(request, *, reasons=False, overrides=NO_OVERRIDES):
    return plan_completion(request, seed=0, reasons=reasons, overrides=overrides)


def body_of(request, dialect, **more):
    return json.loads(encode(unary_body(planned(request, **more), request, dialect, LABEL)))


def streamed(request, dialect, **more):
    return [
        json.loads(encode(chunk.body))
        for chunk in stream_chunks(planned(request, **more), request, dialect, LABEL)
    ]


def choices_of(events):
    return [event["choices"][0] for event in events if event["choices"]]


def test_the_body_of_a_plain_completion():
    """The body has every field of a recorded one, and the sandbox's fingerprint."""
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
    } == body_of(says("echo: hi", seed=7), TOGETHER)


def test_the_body_of_a_tool_call():
    """A call has its index, its id and its arguments as a string; the content is null."""
    (choice,) = body_of(says("hi", tools=(WEATHER,), tool_choice="required"), TOGETHER)["choices"]
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


def test_reasoning_in_a_body():
    """The reasoning is beside the content, and usage counts it."""
    answer = body_of(says("echo: hi"), TOGETHER, reasons=True)
    message = answer["choices"][0]["message"]
    assert ("hi", True) == (message["content"], len(message["reasoning"]) > 10)
    assert (
        answer["usage"]["completion_tokens"] - 1
        == answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    )


def test_log_probabilities_in_a_body():
    """Together's parallel arrays, with a map for each position."""
    measured = body_of(says("echo: one two", logprobs=2), TOGETHER)["choices"][0]["logprobs"]
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


def test_no_alternatives_where_none_are_requested():
    """`logprobs: 0` covers the tokens alone."""
    assert {"tokens", "token_ids", "token_logprobs"} == set(
        body_of(says("echo: one", logprobs=0), TOGETHER)["choices"][0]["logprobs"]
    )


def test_echo_returns_the_prompt():
    """With `echo` the prompt is returned, with log probabilities where they are requested."""
    (plain,) = body_of(says("echo: hi", echo=True), TOGETHER)["prompt"]
    (measured,) = body_of(says("echo: hi", echo=True, logprobs=1), TOGETHER)["prompt"]
    assert ({"text": "echo: hi", "logprobs": None}, ["echo", ":", " hi"]) == (
        plain,
        measured["logprobs"]["tokens"],
    )


def test_the_body_of_kimi_k3():
    """Kimi-K3 names its reasoning differently, omits Together's fields and nests the cached tokens."""
    answer = body_of(says("echo: hi"), KIMI_K3, reasons=True)
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
    """A dialect without usage has no `usage` field."""
    assert "usage" not in body_of(says("echo: hi"), NO_USAGE)


def test_the_chunks_of_a_plain_completion():
    """Each chunk has the role and the text; the last has seed and usage."""
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


def test_reasoning_in_chunks():
    """Reasoning comes first with empty content; afterwards the field is null."""
    deltas = [choice["delta"] for choice in choices_of(streamed(says("echo: hi"), TOGETHER, reasons=True))]
    thoughts = [delta for delta in deltas if delta["reasoning"] is not None]
    assert ({""}, ["hi", ""]) == (
        {delta["content"] for delta in thoughts},
        [delta["content"] for delta in deltas[len(thoughts) :]],
    )


def test_fragments_of_a_call():
    """The first fragment names the call; the others have neither id nor type."""
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
    """Between two calls the finish reason returns to null."""
    reasons = [
        choice["finish_reason"]
        for choice in choices_of(streamed(says("hi"), FLICKER, overrides=PlanOverrides(calls=2)))
    ]
    changes = [reason for reason, before in zip(reasons, ["", *reasons], strict=False) if reason != before]
    assert [None, "tool_calls", None, "tool_calls"] == changes
    assert ["tool_calls", "tool_calls"] == reasons[-2:]


def test_log_probabilities_in_chunks():
    """Chunks with content have a number and a map."""
    choices = choices_of(streamed(says("echo: one two", logprobs=2), TOGETHER))
    assert [log_probability("one", 0), log_probability(" two", 1), None] == [
        choice["logprobs"] for choice in choices
    ]
    assert ["one", "one~"] == list(choices[0]["top_logprobs"])


def test_choices_alternate():
    """Several choices are interleaved; the last finish chunk has usage."""
    events = streamed(says("echo: a b", choices=2), TOGETHER)
    assert ([0, 1, 0, 1, 0, 1], [False] * 5 + [True]) == (
        [choice["index"] for choice in choices_of(events)],
        [event["usage"] is not None for event in events],
    )


def test_usage_follows_the_longest_choice():
    """Exactly one chunk has usage, and it is the last."""
    events = streamed(says("hello", choices=7), TOGETHER)
    assert [len(events) - 1] == [place for place, event in enumerate(events) if event["usage"]]


def test_usage_in_a_chunk_of_its_own():
    """The trailing dialect ends with a chunk that has usage and no choices."""
    *events, last = streamed(says("echo: hi"), TRAILING_USAGE)
    assert ([], 8, {None}) == (
        last["choices"],
        last["usage"]["total_tokens"],
        {event["usage"] for event in events},
    )


@pytest.mark.parametrize("requested", [False, True])
def test_usage_only_if_requested(requested):
    """The GLM dialect reports usage only when `include_usage` requests it."""
    events = streamed(says("echo: hi", include_usage=requested), USAGE_IF_REQUESTED)
    assert requested is any(event.get("usage") for event in events)


def test_the_chunks_of_kimi_k3():
    """The role occurs once, the last delta is empty, usage is inside the choice, Together's fields are absent."""
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


def test_kimi_k3_gives_usage_at_the_top_when_requested():
    """With `include_usage`, usage is in a chunk of its own and not in the choice."""
    *events, last = streamed(says("echo: hi", include_usage=True), KIMI_K3)
    assert ([], 8, False) == (
        last["choices"],
        last["usage"]["total_tokens"],
        any("usage" in choice for choice in choices_of(events)),
    )


@pytest.mark.parametrize("dialect", [TOGETHER, TRAILING_USAGE, KIMI_K3, USAGE_IF_REQUESTED, NO_USAGE])
def test_every_dialect_has_the_same_completion(dialect):
    """In every dialect, streamed or not, the text and the finish reason are equal."""
    request = says("What is the matter?")
    choices = choices_of(streamed(request, dialect))
    whole = body_of(request, dialect)["choices"][0]
    assert (whole["message"]["content"], whole["finish_reason"]) == (
        "".join(choice["delta"].get("content", "") for choice in choices),
        choices[-1]["finish_reason"],
    )


@pytest.mark.parametrize(
    ("dialect", "reasons", "model"),
    [
        (TOGETHER, False, "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        (TOGETHER, False, "made/up"),
        (TOGETHER, True, "openai/gpt-oss-120b"),
        (TOGETHER, True, "deepseek-ai/DeepSeek-R1"),
        (TOGETHER, True, "sandbox/reasoning"),
        (KIMI_K3, True, "moonshotai/Kimi-K3"),
        (TRAILING_USAGE, True, "moonshotai/Kimi-K2.7-Code"),
        (USAGE_IF_REQUESTED, True, "zai-org/GLM-5.2"),
    ],
)
def test_the_dialect_of_a_model(dialect, reasons, model):
    """A model's id decides its dialect and whether it reasons first."""
    assert (dialect, reasons) == (dialect_of(model), reasons_first(model))


@pytest.mark.parametrize(
    ("dialect", "indexes", "ids"),
    [
        (SHARED_INDEX, [0], 2),
        (SHIFTED_INDEX, [1, 0, 2, 1], 2),
        (CALLS_WITHOUT_IDS, [None], 0),
    ],
)
def test_tool_calls_in_other_styles(dialect, indexes, ids):
    """The calls are those of Together's own dialect, with other indexes and ids."""
    request, two = says("hi", tools=(WEATHER,)), PlanOverrides(calls=2)
    choices = choices_of(streamed(request, dialect, overrides=two))
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    whole = body_of(request, dialect, overrides=two)["choices"][0]

    changes = [index for index, _ in groupby(call.get("index") for call in calls)]
    named = [call for call in calls if "name" in call["function"]]
    assert (indexes, 2, ids) == (changes, len(named), len([call for call in calls if "id" in call]))
    assert "".join(call["function"]["arguments"] for call in whole["message"]["tool_calls"]) == "".join(
        call["function"]["arguments"] for call in calls
    )
    assert whole["finish_reason"] == choices[-1]["finish_reason"]
    assert ("stop" if dialect is CALLS_WITHOUT_IDS else "tool_calls") == whole["finish_reason"]


def test_a_late_head():
    """The first chunk tells nothing; the second one has the head of the completion."""
    first, second, *_ = streamed(says("echo: hi"), LATE_HEAD)
    assert ("", 0, [], "id-1") == (first["id"], first["created"], first["choices"], second["id"])
