"""Tests of OpenAI's and Together's Python packages against the HTTP listener."""

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


def openai_client(base_url):
    # docs: begin openai (Python)
    import openai

    client = openai.OpenAI(base_url=base_url, api_key="YOUR_KEY")
    # docs: end
    return client


def together_client(base_url):
    # docs: begin together (Python)
    import together

    # The paths of Together's package contain `/v1` since its version 3.
    client = together.Together(base_url=base_url.removesuffix("/v1"), api_key="YOUR_KEY")
    # docs: end
    return client


CLIENTS = {"openai": openai_client, "together": together_client}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.client(f"{name} (Python)")) for name in sorted(CLIENTS)]
)
def name(request):
    return request.param


@pytest.fixture
def client(name, base_url):
    with CLIENTS[name](base_url) as client:
        yield client.with_options(default_headers={"x-provider": "together"})


def texts(stream):
    """Return the texts of a stream's chunks."""
    return [
        chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content
    ]


@pytest.mark.proves("call")
def test_a_call(client):
    """A call returns text, finish reason and usage."""
    response = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)

    assert "Hello there, friend." == response.choices[0].message.content
    assert ("stop", "assistant") == (response.choices[0].finish_reason, response.choices[0].message.role)
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


def test_usage_contains_the_cost(client):
    """The packages keep the unknown field usage.cost of completions and streams."""
    request = {"model": "openai/gpt-oss-120b", "messages": HELLO, "max_tokens": 50}
    response = client.chat.completions.create(**request)
    options = {"stream_options": {"include_usage": True}}
    *_, last = client.chat.completions.create(**request, stream=True, extra_body=options)

    assert response.usage.cost > 0
    assert last.usage.cost > 0


@pytest.mark.proves("stream")
def test_a_stream(client):
    """The chunks join to the text, and exactly one has a finish reason."""
    request = [{"role": "user", "content": f"say: {LONG}"}]
    chunks = list(client.chat.completions.create(model=MODEL, messages=request, stream=True))

    assert LONG == "".join(texts(chunks))
    assert len(texts(chunks)) > 1
    assert ["stop"] == [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]


def test_usage_of_a_stream(client):
    """With include_usage the last chunk has the usage and no choices."""
    options = {"stream_options": {"include_usage": True}}  # Together's package does not have the option
    *_, last = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_body=options)

    assert [] == last.choices
    assert last.usage.completion_tokens > 0


def test_a_stream_without_the_option_has_its_usage_in_the_finish_chunk(client):
    """Every chunk has a choice, since programs that did not ask for usage read `choices[0]`."""
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))

    assert all(chunk.choices for chunk in chunks)
    assert [False] * (len(chunks) - 1) + [True] == [bool(chunk.usage) for chunk in chunks]
    assert "stop" == chunks[-1].choices[0].finish_reason


def test_a_stream_has_no_usage_if_it_is_switched_off(client):
    """No chunk has usage, and none is without choices."""
    options = {"stream_options": {"include_usage": False}}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, extra_body=options)
    )

    assert all(chunk.choices and not chunk.usage for chunk in chunks)


@pytest.mark.proves("tools")
def test_a_tool_call_and_its_result(client):
    """The model calls a tool; the result is sent in the format of the package."""
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.chat.completions.create(
        model=MODEL, messages=question, tools=[WEATHER], tool_choice="required"
    )
    message = first.choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "Rain."}
    response = client.chat.completions.create(
        model=MODEL, messages=[*question, message.model_dump(exclude_none=True), result], tools=[WEATHER]
    )

    assert ("tool_calls", "get_weather") == (first.choices[0].finish_reason, call.function.name)
    assert "city" in json.loads(call.function.arguments)
    assert response.choices[0].message.content


def test_a_tool_call_in_a_stream(client):
    """The fragments of a streamed tool call join to complete arguments."""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    )
    deltas = [delta for chunk in stream for delta in (chunk.choices[0].delta.tool_calls or ())]

    assert ["get_weather"] == [delta.function.name for delta in deltas if delta.function.name]
    assert "city" in json.loads("".join(delta.function.arguments or "" for delta in deltas))


@pytest.mark.proves("schema")
def test_a_json_schema(client):
    """The response follows the schema."""
    response = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Who? Answer in JSON."}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": SCHEMA, "strict": True},
        },
    )

    assert {"name", "age"} == json.loads(response.choices[0].message.content).keys()


@pytest.mark.parametrize(
    ("model", "error", "times"),
    [
        ("sandbox/error-401", "AuthenticationError", 1),
        ("sandbox/error-404", "NotFoundError", 1),
        ("sandbox/context-length", "BadRequestError", 1),
        ("sandbox/error-500", "InternalServerError", 1),
        ("sandbox/error-503", "InternalServerError", 2),
        pytest.param("sandbox/error-429-x99", "RateLimitError", 2, marks=pytest.mark.proves("errors")),
        ("sandbox/error-429-quota", "RateLimitError", 1),
    ],
)
def test_errors_have_the_packages_classes_and_its_retries(name, client, served, model, error, times):
    """With one retry, the package retries exactly the errors that the service marks as retryable."""
    # Retry-After applies to all calls of a model, so the service would reject the next client without an attempt.
    model += "0" if name == "openai" and "-x" in model else ""
    before = len(served.requests(model))
    with pytest.raises(getattr(PACKAGES[name], error)) as caught:
        client.with_options(max_retries=1).chat.completions.create(model=model, messages=HELLO)

    assert times == len(served.requests(model)) - before
    assert caught.value.response.headers["x-request-id"]


def test_a_rate_limit_is_retried_after_the_wait(name, client):
    """The package waits for retry-after, retries and receives a completion."""
    request = [{"role": "user", "content": f"say: again, {name}"}]

    response = client.chat.completions.create(model="sandbox/error-429-x1", messages=request)

    assert f"again, {name}" == response.choices[0].message.content


def test_an_error_within_a_stream_is_raised(name, client):
    """The chunks before the error arrive; then the package raises."""
    seen = []
    stream = client.chat.completions.create(model="sandbox/stream-error-after-3", messages=HELLO, stream=True)
    with pytest.raises(PACKAGES[name].APIError):
        seen.extend(stream)

    assert seen


@pytest.mark.proves("cancel")
def test_a_closed_stream_closes_the_provider_connection(name, client, served):
    """Closing a stream in the middle closes the connection to the provider."""
    model = f"sandbox/stall-after-{5 if name == 'openai' else 6}"
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
    next(iter(stream))
    stream.close()

    assert "client_closed" == served.wait_until_ended(model)


def test_a_timeout_of_the_client_returns_504_and_is_not_retried(name, client, served):
    """The service knows the timeout of the client and responds before it."""
    model = f"sandbox/stall-after-{7 if name == 'openai' else 8}"
    with pytest.raises(PACKAGES[name].APIStatusError) as caught:
        client.with_options(timeout=4.0).chat.completions.create(model=model, messages=HELLO)

    assert 504 == caught.value.status_code
    assert "client_closed" == served.wait_until_ended(model)


def test_models_are_listed_and_retrieved(served):
    """OpenAI's package lists the models and retrieves one. (Together's package lists the models of a project.)"""
    with openai.OpenAI(api_key=KEY, base_url=served.base_url) as client:
        ids = [model.id for model in client.models.list()]
        one = client.models.retrieve(ids[0])

    assert len(ids) > 10
    assert (ids[0], "model") == (one.id, one.object)


def test_openais_log_probabilities(served):
    """`logprobs` and `top_logprobs` return log probabilities in OpenAI's format."""
    with openai.OpenAI(api_key=KEY, base_url=served.base_url) as client:
        response = client.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2)

    tokens = response.choices[0].logprobs.content
    assert "Hello there, friend." == "".join(token.token for token in tokens)
    assert {2} == {len(token.top_logprobs) for token in tokens}


def test_openais_parse_and_stream_helpers(served):
    """OpenAI's helpers for schemas and for streams return complete results."""

    class Person(pydantic.BaseModel):
        name: str
        age: int

    with openai.OpenAI(api_key=KEY, base_url=served.base_url) as client:
        request = [{"role": "user", "content": "Who? Answer in JSON."}]
        parsed = client.chat.completions.parse(model=MODEL, messages=request, response_format=Person)
        with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
            final = stream.get_final_completion()

    assert isinstance(parsed.choices[0].message.parsed, Person)
    assert "Hello there, friend." == final.choices[0].message.content
