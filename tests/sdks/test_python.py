"""OpenAI's and Together's own Python packages, as they are installed, against the door."""

import json

import openai
import pydantic
import pytest
import together

KEY = "tok_any"
MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
HELLO = [{"role": "user", "content": "say: Hello there, friend."}]
LONG = " ".join(["Hello there, friend."] * 20)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PACKAGES = {"openai": openai, "together": together}
CLIENTS = {"openai": openai.OpenAI, "together": together.Together}


@pytest.fixture(params=sorted(CLIENTS))
def name(request):
    return request.param


@pytest.fixture
def client(name, served):
    # Together's package, from its version 3 on, has the `/v1` in its paths.
    base_url = served.base_url if name == "openai" else served.base_url.removesuffix("/v1")
    headers = {"x-provider": "together"}
    with CLIENTS[name](api_key=KEY, base_url=base_url, default_headers=headers) as client:
        yield client


def texts(stream):
    """The pieces of text of a stream."""
    return [
        chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content
    ]


def test_a_call(client):
    """A conversation is answered, with its usage."""
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)

    assert "Hello there, friend." == answer.choices[0].message.content
    assert ("stop", "assistant") == (answer.choices[0].finish_reason, answer.choices[0].message.role)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_cost_beside_the_usage(client):
    """The packages keep a member that they do not know, whole and streamed."""
    ask = {"model": "openai/gpt-oss-120b", "messages": HELLO, "max_tokens": 50}
    answer = client.chat.completions.create(**ask)
    options = {"stream_options": {"include_usage": True}}
    *_, last = client.chat.completions.create(**ask, stream=True, extra_body=options)

    assert answer.usage.cost > 0
    assert last.usage.cost > 0


def test_a_stream(client):
    """Its pieces make the same answer; the last chunk before the end has the finish reason."""
    ask = [{"role": "user", "content": f"say: {LONG}"}]
    chunks = list(client.chat.completions.create(model=MODEL, messages=ask, stream=True))

    assert LONG == "".join(texts(chunks))
    assert len(texts(chunks)) > 1
    assert ["stop"] == [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]


def test_usage_of_a_stream(client):
    """Where it is asked for, it comes last and without choices."""
    options = {"stream_options": {"include_usage": True}}  # Together's package has no word for it
    *_, last = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_body=options)

    assert [] == last.choices
    assert last.usage.completion_tokens > 0


def test_a_tool_and_its_result(client):
    """The call goes out, its result goes back, appended as the client has it."""
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked = client.chat.completions.create(
        model=MODEL, messages=question, tools=[WEATHER], tool_choice="required"
    )
    message = asked.choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "Rain."}
    answer = client.chat.completions.create(
        model=MODEL, messages=[*question, message.model_dump(exclude_none=True), result], tools=[WEATHER]
    )

    assert ("tool_calls", "get_weather") == (asked.choices[0].finish_reason, call.function.name)
    assert "city" in json.loads(call.function.arguments)
    assert answer.choices[0].message.content


def test_a_tool_in_a_stream(client):
    """Fragments are joined by index to a call with whole arguments."""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    )
    pieces = [piece for chunk in stream for piece in (chunk.choices[0].delta.tool_calls or ())]

    assert ["get_weather"] == [piece.function.name for piece in pieces if piece.function.name]
    assert "city" in json.loads("".join(piece.function.arguments or "" for piece in pieces))


def test_json_that_follows_a_schema(client):
    """The schema reaches the provider."""
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Who? Answer in JSON."}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": SCHEMA, "strict": True},
        },
    )

    assert {"name", "age"} == json.loads(answer.choices[0].message.content).keys()


@pytest.mark.parametrize(
    ("model", "error", "times"),
    [
        ("sandbox/error-401", "AuthenticationError", 1),
        ("sandbox/error-404", "NotFoundError", 1),
        ("sandbox/context-length", "BadRequestError", 1),
        ("sandbox/error-500", "InternalServerError", 1),
        ("sandbox/error-503", "InternalServerError", 2),
        ("sandbox/error-429-x99", "RateLimitError", 2),
        ("sandbox/error-429-quota", "RateLimitError", 1),
    ],
)
def test_errors_are_the_packages_own_and_are_retried_where_that_helps(
    name, client, served, model, error, times
):
    """Given one retry, the package uses it where the door says so, and nowhere else."""
    # A wait that was asked for holds for a model, and the next client would be refused unasked.
    model += "0" if name == "openai" and "-x" in model else ""
    before = len(served.requests(model))
    with pytest.raises(getattr(PACKAGES[name], error)) as caught:
        client.with_options(max_retries=1).chat.completions.create(model=model, messages=HELLO)

    assert times == len(served.requests(model)) - before
    assert caught.value.response.headers["x-request-id"]


def test_a_rate_limit_that_passes_is_survived(name, client):
    """The package comes back after the wait that it was told, and is answered."""
    ask = [{"role": "user", "content": f"say: again, {name}"}]

    answer = client.chat.completions.create(model="sandbox/error-429-x1", messages=ask)

    assert f"again, {name}" == answer.choices[0].message.content


def test_an_error_within_a_stream_is_raised(name, client):
    """What came before it has been seen; the stream does not end as if all were well."""
    seen = []
    stream = client.chat.completions.create(model="sandbox/stream-error-after-3", messages=HELLO, stream=True)
    with pytest.raises(PACKAGES[name].APIError):
        seen.extend(stream)

    assert seen


def test_a_stream_that_is_abandoned_releases_the_provider(name, client, served):
    """Closing it in the middle is noticed upstream."""
    model = f"sandbox/stall-after-{5 if name == 'openai' else 6}"
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
    next(iter(stream))
    stream.close()

    assert "client_closed" == served.wait_until_ended(model)


def test_a_timeout_of_the_client_is_answered_and_not_tried_again(name, client, served):
    """The door knows how long the client waits, and speaks before its timer does."""
    model = f"sandbox/stall-after-{7 if name == 'openai' else 8}"
    with pytest.raises(PACKAGES[name].APIStatusError) as caught:
        client.with_options(timeout=4.0).chat.completions.create(model=model, messages=HELLO)

    assert 504 == caught.value.status_code
    assert "client_closed" == served.wait_until_ended(model)


def test_the_models_are_listed(served):
    """All of them, and one. (Together's package lists the models of a project, which is another thing.)"""
    with openai.OpenAI(api_key=KEY, base_url=served.base_url) as client:
        ids = [model.id for model in client.models.list()]
        one = client.models.retrieve(ids[0])

    assert len(ids) > 10
    assert (ids[0], "model") == (one.id, one.object)


def test_openais_log_probabilities(served):
    """A switch and a number, and OpenAI's shape in the answer."""
    with openai.OpenAI(api_key=KEY, base_url=served.base_url) as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2)

    tokens = answer.choices[0].logprobs.content
    assert "Hello there, friend." == "".join(token.token for token in tokens)
    assert {2} == {len(token.top_logprobs) for token in tokens}


def test_the_packages_parsed_answers(served):
    """OpenAI's helpers for schemas and for whole streams."""

    class Person(pydantic.BaseModel):
        name: str
        age: int

    with openai.OpenAI(api_key=KEY, base_url=served.base_url) as client:
        ask = [{"role": "user", "content": "Who? Answer in JSON."}]
        parsed = client.chat.completions.parse(model=MODEL, messages=ask, response_format=Person)
        with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
            final = stream.get_final_completion()

    assert isinstance(parsed.choices[0].message.parsed, Person)
    assert "Hello there, friend." == final.choices[0].message.content
