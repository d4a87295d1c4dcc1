"""What the sandbox answers, and what that costs."""

import json
from dataclasses import replace

import pytest

from togetherchat_sandbox.answers import NOTHING_MORE, Wishes, plan
from togetherchat_sandbox.refusals import Refused
from togetherchat_sandbox.request import ChatRequest, Format, Message, Tool
from togetherchat_sandbox.texts import QUOTE_CHARACTERS_MAX

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="get_weather", parameters=CITY)
TIME = Tool(name="get_time", parameters={})


def says(text, **fields):
    return ChatRequest(model="some/model", messages=(Message(role="user", text=text),), **fields)


def planned(request, *, seed=0, thinks=False, wishes=NOTHING_MORE):
    return plan(request, seed=seed, thinks=thinks, wishes=wishes)


def content(request, **more):
    return "".join(planned(request, **more).choices[0].content)


def calls(request, **more):
    return [
        (call.name, json.loads("".join(call.fragments))) for call in planned(request, **more).choices[0].calls
    ]


@pytest.mark.parametrize(
    "text", ["hello", "", " two spaces  ", "a\u2028b", "👩‍🚀 नमस्ते\r\n", '{"a": 1}', "echo: x"]
)
@pytest.mark.parametrize("word", ["echo", "say"])
def test_echo_answers_exactly(word, text):
    """`echo: TEXT` is answered with TEXT and nothing else."""
    assert text == content(says(f"{word}: {text}"))


def test_an_ordinary_answer_says_what_it_is_and_quotes():
    """Any other question is quoted, cut, in an answer that admits to be simulated."""
    question = "Why is the sky blue? " * 10
    told = content(says(question))
    quote = told.partition("“")[2].partition("”")[0]
    assert [True, True, True] == [
        "simulat" in told.lower() or "sandbox" in told,
        question.startswith(quote.removesuffix("…")),
        0 < len(quote) <= QUOTE_CHARACTERS_MAX + 1,
    ]


def test_same_request_same_answer():
    """An answer depends on the request and the sandbox's seed, on nothing else."""
    assert planned(says("hello"), seed=1) == planned(says("hello"), seed=1)


@pytest.mark.parametrize(
    ("request_", "seed"),
    [
        (says("hello"), 2),
        (replace(says("hello"), model="other/model"), 1),
        (says("hello!"), 1),
        (says("hello", seed=7), 1),
    ],
)
def test_other_seed_model_words_or_request_seed_is_another_chance(request_, seed):
    """Each of the four parts of the chance counts."""
    assert planned(says("hello"), seed=1).choices != planned(request_, seed=seed).choices


def test_choices_differ_and_count_up():
    """Several choices have their own words and numbers."""
    choices = planned(says("hello", choices=6)).choices
    assert [0, 1, 2, 3, 4, 5] == [choice.index for choice in choices]
    assert len({choice.content for choice in choices}) > 1


def test_a_seed_of_the_request_comes_back():
    """The seed that was asked for is the seed that is reported."""
    assert [7, 7] == [choice.seed for choice in planned(says("hello", seed=7, choices=2)).choices]


def test_made_up_seeds_pass_the_signed_64_bits_and_stay_unsigned():
    """Some seeds are above int64, as real ones are, and all look rounded."""
    seeds = [planned(says(str(number))).choices[0].seed for number in range(40)]
    assert [True, True, True] == [
        any(seed > 2**63 for seed in seeds),
        all(0 <= seed < 2**64 for seed in seeds),
        all(seed % 10 == 0 for seed in seeds),
    ]


def test_max_tokens_cuts():
    """A cut answer is a beginning of the whole one and says `length`."""
    whole, cut = (
        planned(says("echo: one two three four")),
        planned(says("echo: one two three four", max_tokens=2)),
    )
    assert ("length", ("one", " two"), whole.choices[0].content[:2]) == (
        cut.choices[0].finish_reason,
        cut.choices[0].content,
        cut.choices[0].content,
    )


def test_max_tokens_that_just_fit_do_not_cut():
    """An answer of exactly max_tokens is whole."""
    assert "stop" == planned(says("echo: one two", max_tokens=2)).choices[0].finish_reason


def test_thinking_counts_against_max_tokens():
    """A model that thinks too long has nothing left to say."""
    (choice,) = planned(says("echo: hello", max_tokens=3), thinks=True).choices
    assert (3, (), "length") == (len(choice.reasoning), choice.content, choice.finish_reason)


def test_thinking_comes_before_the_answer_and_is_counted():
    """Thoughts are tokens of the completion, and counted apart too."""
    answer = planned(says("echo: hello"), thinks=True)
    (choice,) = answer.choices
    assert ("hello", len(choice.reasoning), len(choice.reasoning) + 1) == (
        "".join(choice.content),
        answer.reasoning_tokens,
        answer.completion_tokens,
    )


def test_no_thinking_where_it_is_switched_off():
    """`reasoning.enabled: false` leaves the answer alone."""
    assert () == planned(says("hello", may_think=False), thinks=True).choices[0].reasoning


def test_stop_strings_end_the_answer_before_them():
    """The first stop string that occurs ends the text, and is not part of it."""
    request = says("echo: one, two; three", stop=(";", ","))
    assert ("one", "stop") == (content(request), planned(request).choices[0].finish_reason)


def test_usage_counts_what_the_tokeniser_counts():
    """A message costs its tokens and a few for its frame, an attachment a lump."""
    request = ChatRequest(model="m", messages=(Message(role="user", text="echo: a b", attachments=1),))
    answer = planned(request)
    assert (4 + 4 + 256, 2) == (answer.prompt_tokens, answer.completion_tokens)


def test_a_follow_up_finds_the_rest_cached():
    """From the third message on, all but the last are in the cache."""
    turns = tuple(Message(role=role, text="hi") for role in ("user", "assistant", "user"))
    request = ChatRequest(model="m", messages=turns)
    assert (0, 10) == (planned(says("hi")).cached_tokens, planned(request).cached_tokens)


def test_json_mode_answers_an_object():
    """`json_object` gives an object that says it is simulated."""
    assert json.loads(content(says("hello", format=Format.JSON_OBJECT)))["simulated"] is True


def test_a_schema_is_fitted():
    """`json_schema` gives an instance of the schema."""
    request = says("hello", format=Format.JSON_SCHEMA, schema=CITY)
    assert {"city": "sample city"} == json.loads(content(request))


def test_a_regular_expression_is_fitted():
    """`regex` gives a string that matches."""
    assert "positive" == content(says("hello", format=Format.REGEX, pattern="(positive|negative)"))


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        ([("get_weather", {"city": "sample city"})], {"tool_choice": "required"}),
        ([("get_time", {})], {"tool_choice": "get_time"}),
        ([], {"tool_choice": "none"}),
        ([], {}),
    ],
)
def test_tool_choice_rules(expected, fields):
    """Required takes the first function, a name takes that one, none and an idle auto take none."""
    assert expected == calls(says("hello", tools=(WEATHER, TIME), **fields))


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (["get_time"], "please run get_time now"),
        (["get_weather"], "What is the Weather like?"),
        (["get_time"], "use a tool"),
        ([], "echo: what is the weather?"),
    ],
)
def test_auto_calls_what_the_user_speaks_of(expected, text):
    """With auto a call is made for a function's name, the weather or the word tool, never over an echo."""
    assert expected == [name for name, _ in calls(says(text, tools=(TIME, WEATHER)))]


def test_a_call_ends_with_its_own_reason():
    """An answer that calls has no content and says `tool_calls`."""
    (choice,) = planned(says("hello", tools=(WEATHER,), tool_choice="required")).choices
    assert ((), "tool_calls") == (choice.content, choice.finish_reason)


def test_arguments_come_in_fragments():
    """The arguments are cut into small pieces of JSON."""
    (choice,) = planned(says("hello", tools=(WEATHER,), tool_choice="required")).choices
    assert len(choice.calls[0].fragments) > 3


def test_a_call_can_be_cut_too():
    """max_tokens cuts arguments as well; the reason is then `length`."""
    (choice,) = planned(says("hello", tools=(WEATHER,), tool_choice="required", max_tokens=2)).choices
    assert (2, "length") == (len(choice.calls[0].fragments), choice.finish_reason)


def test_the_answer_to_a_tool_uses_what_it_said():
    """After a tool message the answer is text that quotes it."""
    turns = (Message(role="user", text="weather?"), Message(role="tool", text="18 degrees"))
    request = ChatRequest(model="m", messages=turns, tools=(WEATHER,))
    assert ([], True) == (calls(request), "18 degrees" in content(request))


def test_a_name_can_ask_for_two_calls():
    """So many calls as a misbehaving name wants, of a made-up function where there is none."""
    assert ["get_weather", "get_weather"] == [name for name, _ in calls(says("hi"), wishes=Wishes(calls=2))]


def test_a_name_can_ask_for_length():
    """So many tokens as a misbehaving name wants, within max_tokens."""
    long = planned(says("hi"), wishes=Wishes(tokens=10_000))
    cut = planned(says("hi", max_tokens=100), wishes=Wishes(tokens=10_000))
    assert [(10_000, "stop"), (100, "length")] == [
        (answer.completion_tokens, answer.choices[0].finish_reason) for answer in (long, cut)
    ]


def test_more_than_the_context_is_refused():
    """An input as long as the context is 400, in Together's words."""
    request = replace(says("a " * 40_000), model="Qwen/Qwen2.5-7B-Instruct-Turbo")
    with pytest.raises(Refused) as caught:
        planned(request)
    assert (400, True) == (
        caught.value.refusal.status,
        "longer than the model's context length (32768 tokens)" in caught.value.refusal.message,
    )


def test_max_tokens_over_the_context_are_refused_or_lowered():
    """max_tokens that do not fit are 422, or are lowered where the request says so."""
    request = says("long", max_tokens=200_000)
    with pytest.raises(Refused) as caught:
        planned(request)
    assert 422 == caught.value.refusal.status
    assert "stop" == planned(replace(request, truncate=True)).choices[0].finish_reason
