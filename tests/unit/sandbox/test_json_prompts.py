"""JSON that a prompt describes in words."""

import json

import pytest

from togetherchat_sandbox.json_prompts import KEYS_MAX, OBJECTS_MAX, find_json_prompt, without_json

JOKE = {"type": "object", "properties": {"setup": {"type": "string"}}, "required": ["setup"]}
ASK = "Respond in JSON. "


def schema_of(*texts):
    prompt = find_json_prompt(texts)
    return prompt and prompt.schema


def keys(**types):
    return {
        "type": "object",
        "properties": {name: {"type": json_type} for name, json_type in types.items()},
        "required": [*types],
    }


# The words of the libraries, shortened.
INSTRUCTOR = f"""As a genius expert, your task is to understand the content and provide
the parsed objects in json that match the following json_schema:\n
{json.dumps(JOKE, indent=2)}

Make sure to return an instance of the JSON, not the schema itself"""
LANGCHAIN = f"""The output should be formatted as a JSON instance that conforms to the JSON schema below.
As an example, for the schema {{"properties": {{"foo": {{"type": "array", "items": {{"type": "string"}}}}}}}}
the object {{"foo": ["bar", "baz"]}} is a well-formatted instance of the schema.

Here is the output schema (for readability only: do not put Markdown or a code block in your output):
```
{json.dumps(JOKE)}
```"""
PYDANTIC_AI = f"""Always respond with a JSON object that's compatible with this schema:

{json.dumps({**JOKE, "title": "Joke"})}

Don't include any text or Markdown fencing before or after."""
AI_SDK = f"JSON schema:\n{json.dumps(JOKE)}\nYou MUST answer with a JSON object that matches the JSON schema above."


@pytest.mark.parametrize("text", [INSTRUCTOR, LANGCHAIN, PYDANTIC_AI, AI_SDK])
def test_the_schema_of_a_librarys_prompt_is_found(text):
    """The last schema in the text is the one to follow, and is not to be fenced."""
    prompt = find_json_prompt([text])
    assert (JOKE["properties"], False) == (prompt.schema["properties"], prompt.fenced)


@pytest.mark.parametrize(
    "wrapper",
    [
        lambda schema: {"name": "joke", "schema": schema},
        lambda schema: {"type": "json_schema", "json_schema": {"name": "joke", "schema": schema}},
        lambda schema: {"name": "joke", "parameters": schema},
    ],
)
def test_a_wrapped_schema_is_found(wrapper):
    """A schema may be a member of the object in the text."""
    assert JOKE == schema_of(ASK + json.dumps(wrapper(JOKE)))


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (
            keys(setup="string", punchline="string"),
            "Return the result as JSON with `setup` and `punchline` keys.",
        ),
        (
            keys(answer="string", score="integer"),
            "Respond with a JSON object. Fields: `answer`, `score` (must be formatted as a valid Python int).",
        ),
        (
            keys(setup="string", punchline="string"),
            "Return the result as a JSON with 'setup' and 'punchline' keys. Return nothing other than JSON.",
        ),
        (keys(a="integer"), 'Return JSON with the key "a" (int).'),
        (keys(a="boolean", b="array"), "Output JSON with the fields `a` (bool) and `b` (list)."),
    ],
)
def test_keys_in_backticks_or_quotes_are_found(expected, text):
    """Keys in backticks, or else in quotes, have the type that is named beside them, or are texts."""
    assert expected == schema_of(text)


def test_an_example_is_followed():
    """Without a schema and keys, an example has the form of the completion."""
    assert keys(name="string", age="integer", tags="array", ok="boolean", size="number") == schema_of(
        ASK + '{"name": "...", "age": 0, "tags": [], "ok": true, "size": 0.5}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "Who? Answer in JSON.",
        "What is `json`?",
        json.dumps(JOKE),
        "Explain JSON. See `keys` here.",
        "",
    ],
)
def test_other_prompts_describe_no_json(text):
    """Words about JSON, or a schema that nobody asks to follow, are an ordinary prompt."""
    assert None is find_json_prompt([text])


def test_a_schema_has_precedence_over_keys_and_an_earlier_text_over_a_later():
    """The first text with a schema counts, then the first with keys."""
    with_keys = "Return JSON with the keys `a`."
    other = {**JOKE, "title": "Other"}
    assert JOKE == schema_of(with_keys, INSTRUCTOR, ASK + json.dumps(other))


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (True, "Return the correct JSON response within a ```json codeblock. not the JSON_SCHEMA"),
        (True, "Return a fenced block of JSON."),
        (False, "Respond in JSON, without a code block."),
        (False, "Respond in JSON. Don't use ```json fences."),
        (False, "Respond in JSON. The schema:\n```json\n"),
    ],
)
def test_a_fence_is_asked_for(expected, words):
    """A Markdown block is asked for in words that have no negation; a fence around a schema asks for nothing."""
    assert expected is find_json_prompt([words + "\n" + json.dumps(JOKE)]).fenced


@pytest.mark.parametrize(("before", "after"), [('{"a":', "1}"), ("[", "]"), ('{"schema":', "1}")])
def test_deep_examples_are_followed_to_a_depth(before, after):
    """An example of any depth describes JSON of a bounded one."""
    middle = "".join([before * 400, "{}" if after == "]" else "1", after.replace("1", "") * 400])
    assert {} != schema_of(ASK + '{"deep": ' + middle + "}")


def test_the_words_without_json():
    """Objects are cut out; whatever is not JSON stays."""
    assert "a  b {c} d" == without_json('a {"x": {"y": 1}} b {c} d')


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"a":' * 100_000,
        '{"a": NaN}',
        "{}" * (OBJECTS_MAX * 2),
        '{"a": "\ud800"}',
        "`a` (" * 50_000,
    ],
)
def test_hostile_text_is_bounded(text):
    """Any text is read in bounded time, and describes no JSON."""
    assert None is find_json_prompt(["Return JSON: " + text])
    assert len(find_json_prompt(["Return JSON with the keys `a`: " + text]).schema["properties"]) <= KEYS_MAX
    assert len(without_json(text)) <= len(text)
