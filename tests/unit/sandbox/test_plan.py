"""The planned completion and its usage."""

import json
from dataclasses import replace

import pytest

from togetherchat_sandbox.api_errors import RequestRejectedError
from togetherchat_sandbox.plan import NO_OVERRIDES, PlanOverrides, plan_completion
from togetherchat_sandbox.request import ChatMessage, ChatRequest, FunctionTool
from togetherchat_sandbox.schema import OutputFormat
from togetherchat_sandbox.texts import QUOTE_CHARACTERS_MAX

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = FunctionTool(name="get_weather", parameters=CITY)
TIME = FunctionTool(name="get_time", parameters={})


def says(text, **fields):
    return ChatRequest(model="some/model", messages=(ChatMessage(role="user", text=text),), **fields)


def planned(request, *, seed=0, reasons=False, overrides=NO_OVERRIDES):
    return plan_completion(request, seed=seed, reasons=reasons, overrides=overrides)


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
def test_echo_returns_the_text(word, text):
    """The completion of `echo: TEXT` is TEXT and nothing else."""
    assert text == content(says(f"{word}: {text}"))


def test_an_ordinary_completion_quotes_and_is_marked_as_simulated():
    """Any other message is quoted, shortened, in a completion that says that it is simulated."""
    question = "Why is the sky blue? " * 10
    actual = content(says(question))
    quote = actual.partition("“")[2].partition("”")[0]
    assert [True, True, True] == [
        "simulat" in actual.lower() or "sandbox" in actual,
        question.startswith(quote.removesuffix("…")),
        0 < len(quote) <= QUOTE_CHARACTERS_MAX + 1,
    ]


def test_the_same_request_has_the_same_completion():
    """A completion depends on the request and the sandbox's seed alone."""
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
def test_each_input_changes_the_completion(request_, seed):
    """The sandbox's seed, the model, the text and the request's seed all change the completion."""
    assert planned(says("hello"), seed=1).choices != planned(request_, seed=seed).choices


def test_choices_differ_and_count_up():
    """Several choices have texts and indexes of their own."""
    choices = planned(says("hello", choices=6)).choices
    assert [0, 1, 2, 3, 4, 5] == [choice.index for choice in choices]
    assert len({choice.content for choice in choices}) > 1


def test_the_seed_of_the_request_is_reported():
    """Each choice reports the requested seed."""
    assert [7, 7] == [choice.seed for choice in planned(says("hello", seed=7, choices=2)).choices]


def test_generated_seeds_exceed_int64_and_are_rounded():
    """Like recorded seeds, some are above int64 and all are rounded."""
    seeds = [planned(says(str(number))).choices[0].seed for number in range(40)]
    assert [True, True, True] == [
        any(seed > 2**63 for seed in seeds),
        all(0 <= seed < 2**64 for seed in seeds),
        all(seed % 10 == 0 for seed in seeds),
    ]


def test_max_tokens_truncates():
    """A truncated completion is a prefix of the whole one and has the finish reason `length`."""
    whole, cut = (
        planned(says("echo: one two three four")),
        planned(says("echo: one two three four", max_tokens=2)),
    )
    assert ("length", ("one", " two"), whole.choices[0].content[:2]) == (
        cut.choices[0].finish_reason,
        cut.choices[0].content,
        cut.choices[0].content,
    )


def test_a_completion_of_max_tokens_is_not_truncated():
    """A completion of exactly max_tokens has the finish reason `stop`."""
    assert "stop" == planned(says("echo: one two", max_tokens=2)).choices[0].finish_reason


def test_reasoning_counts_against_max_tokens():
    """Long reasoning leaves no tokens for the content."""
    (choice,) = planned(says("echo: hello", max_tokens=3), reasons=True).choices
    assert (3, (), "length") == (len(choice.reasoning), choice.content, choice.finish_reason)


def test_reasoning_tokens_are_counted():
    """Reasoning tokens are part of the completion tokens and are also counted separately."""
    answer = planned(says("echo: hello"), reasons=True)
    (choice,) = answer.choices
    assert ("hello", len(choice.reasoning), len(choice.reasoning) + 1) == (
        "".join(choice.content),
        answer.reasoning_tokens,
        answer.completion_tokens,
    )


def test_reasoning_can_be_disabled():
    """`reasoning.enabled: false` leaves only the content."""
    assert () == planned(says("hello", reasoning_enabled=False), reasons=True).choices[0].reasoning


def test_the_content_ends_before_a_stop_string():
    """The first stop string in the text ends it and is not part of it."""
    request = says("echo: one, two; three", stop=(";", ","))
    assert ("one", "stop") == (content(request), planned(request).choices[0].finish_reason)


def test_usage_counts_tokens_and_attachments():
    """A message counts its tokens plus a fixed overhead; an attachment counts a fixed number."""
    request = ChatRequest(model="m", messages=(ChatMessage(role="user", text="echo: a b", attachments=1),))
    answer = planned(request)
    assert (4 + 4 + 256, 2) == (answer.prompt_tokens, answer.completion_tokens)


def test_a_follow_up_has_cached_tokens():
    """From the third message on, all messages but the last count as cached."""
    turns = tuple(ChatMessage(role=role, text="hi") for role in ("user", "assistant", "user"))
    request = ChatRequest(model="m", messages=turns)
    assert (0, 10) == (planned(says("hi")).cached_tokens, planned(request).cached_tokens)


def test_json_mode_returns_an_object():
    """`json_object` returns an object with `simulated: true`."""
    assert json.loads(content(says("hello", format=OutputFormat.JSON_OBJECT)))["simulated"] is True


def test_a_schema_is_satisfied():
    """`json_schema` returns a value that fits the schema."""
    request = says("hello", format=OutputFormat.JSON_SCHEMA, schema=CITY)
    assert {"city": "sample city"} == json.loads(content(request))


def test_a_regular_expression_is_matched():
    """`regex` returns a string that matches."""
    assert "positive" == content(says("hello", format=OutputFormat.REGEX, pattern="(positive|negative)"))


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
    """`required` calls the first function, a name calls that one, `none` and an unprompted `auto` call none."""
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
def test_auto_calls_the_mentioned_function(expected, text):
    """`auto` reacts to a function's name, the weather and the word tool, but not in an echo."""
    assert expected == [name for name, _ in calls(says(text, tools=(TIME, WEATHER)))]


def test_a_call_has_its_own_finish_reason():
    """A completion with a call has no content and the finish reason `tool_calls`."""
    (choice,) = planned(says("hello", tools=(WEATHER,), tool_choice="required")).choices
    assert ((), "tool_calls") == (choice.content, choice.finish_reason)


def test_arguments_are_split_into_fragments():
    """The arguments are split into small fragments of JSON."""
    (choice,) = planned(says("hello", tools=(WEATHER,), tool_choice="required")).choices
    assert len(choice.calls[0].fragments) > 3


def test_a_call_can_be_truncated():
    """max_tokens truncates arguments as well; the finish reason is then `length`."""
    (choice,) = planned(says("hello", tools=(WEATHER,), tool_choice="required", max_tokens=2)).choices
    assert (2, "length") == (len(choice.calls[0].fragments), choice.finish_reason)


def test_the_completion_after_a_tool_message_quotes_it():
    """After a tool message the completion is text that quotes the message."""
    turns = (ChatMessage(role="user", text="weather?"), ChatMessage(role="tool", text="18 degrees"))
    request = ChatRequest(model="m", messages=turns, tools=(WEATHER,))
    assert ([], True) == (calls(request), "18 degrees" in content(request))


def test_a_model_can_require_two_calls():
    """A sandbox model gets its number of calls, of a default function where the request has none."""
    assert ["get_weather", "get_weather"] == [
        name for name, _ in calls(says("hi"), overrides=PlanOverrides(calls=2))
    ]


def test_a_model_can_require_a_length():
    """A sandbox model gets its number of tokens, within max_tokens."""
    long = planned(says("hi"), overrides=PlanOverrides(tokens=10_000))
    cut = planned(says("hi", max_tokens=100), overrides=PlanOverrides(tokens=10_000))
    assert [(10_000, "stop"), (100, "length")] == [
        (answer.completion_tokens, answer.choices[0].finish_reason) for answer in (long, cut)
    ]


def test_an_input_longer_than_the_context_is_rejected():
    """An input as long as the context gets 400, with Together's message."""
    request = replace(says("a " * 40_000), model="Qwen/Qwen2.5-7B-Instruct-Turbo")
    with pytest.raises(RequestRejectedError) as caught:
        planned(request)
    assert (400, True) == (
        caught.value.error.status,
        "longer than the model's context length (32768 tokens)" in caught.value.error.message,
    )


def test_max_tokens_over_the_context_are_rejected_or_lowered():
    """max_tokens that do not fit get 422, or are lowered where the request allows truncation."""
    request = says("long", max_tokens=200_000)
    with pytest.raises(RequestRejectedError) as caught:
        planned(request)
    assert 422 == caught.value.error.status
    assert "stop" == planned(replace(request, truncate=True)).choices[0].finish_reason


ADD = FunctionTool(
    name="add",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)


def test_arguments_are_taken_from_the_users_words():
    """Literals in the last user message become arguments by type and by name."""
    assert [("add", {"a": 2, "b": 12})] == calls(says("What is 2 plus 12? Call add.", tools=(ADD,)))
    assert [("get_weather", {"city": "Rome"})] == calls(says("The weather, city: Rome", tools=(WEATHER,)))


def test_each_expression_is_a_call():
    """`add(1, 2)` and `add(3, 4)` are two calls, unless parallel calls are off."""
    request = says("Use add(1, 2) and add(b=3, a=4).", tools=(WEATHER, ADD))
    assert [("add", {"a": 1, "b": 2}), ("add", {"a": 4, "b": 3})] == calls(request)
    assert [("add", {"a": 1, "b": 2})] == calls(replace(request, parallel_tool_calls=False))


def test_a_required_call_makes_progress():
    """After a call in the same turn, `required` calls the next function; after all, the first again."""
    turn = (
        ChatMessage(role="user", text="hello"),
        ChatMessage(role="assistant", text="", calls=("get_weather",)),
        ChatMessage(role="tool", text="Rain."),
    )
    request = ChatRequest(model="m", messages=turn, tools=(WEATHER, TIME), tool_choice="required")
    assert ["get_time"] == [name for name, _ in calls(request)]
    later = (*turn, ChatMessage(role="user", text="again"))
    assert ["get_weather"] == [name for name, _ in calls(replace(request, messages=later))]
    assert ["get_weather"] == [name for name, _ in calls(replace(request, tools=(WEATHER,)))]


PROMPT = f"Say who, in a JSON object. Respond with JSON that matches: {json.dumps(CITY)}"


@pytest.mark.parametrize("output_format", [OutputFormat.TEXT, OutputFormat.JSON_OBJECT])
def test_a_schema_in_the_prompt_is_followed(output_format):
    """A prompt that asks for JSON by a schema gets it, with JSON mode and without."""
    assert {"city": "sample city"} == json.loads(content(says(PROMPT, format=output_format)))


def test_a_schema_in_the_instructions_is_followed_after_a_tool():
    """A system message describes the JSON of every completion of the conversation."""
    turns = (
        ChatMessage(role="system", text=PROMPT),
        ChatMessage(role="user", text="The city is 'Rome'."),
        ChatMessage(role="tool", text="Rain."),
    )
    assert {"city": "Rome"} == json.loads(content(ChatRequest(model="m", messages=turns)))


def test_a_fence_is_sent_if_the_prompt_asks_for_it():
    """The JSON is in a Markdown block, but not in JSON mode."""
    fenced = says(f"{PROMPT}\nReturn it within a ```json codeblock.")
    assert '```json\n{"city":"sample city"}\n```' == content(fenced)
    assert '{"city":"sample city"}' == content(replace(fenced, format=OutputFormat.JSON_OBJECT))
