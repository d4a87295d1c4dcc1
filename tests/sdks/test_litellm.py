"""Tests of litellm, as a client, against the HTTP listener."""

import json

import litellm
import pydantic
import pytest

pytestmark = pytest.mark.client("litellm (Python)")

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def completion(base_url, text, *, model=MODEL, **options):
    # docs: begin
    from functools import partial

    import litellm

    # `openai/` selects the protocol; what follows is the model of the service.
    complete = partial(litellm.completion, model=f"openai/{model}", api_base=base_url, api_key="YOUR_KEY")
    # docs: end
    return complete(messages=[{"role": "user", "content": text}], **options)


@pytest.mark.proves("call")
def test_a_call(base_url):
    """A call returns text and usage."""
    response = completion(base_url, "say: Hello there.")

    assert "Hello there." == response.choices[0].message.content
    assert response.usage.completion_tokens > 0


def test_the_provider_for_together(base_url):
    """litellm's own provider for Together works with the service's address, too."""
    messages = [{"role": "user", "content": "say: Hello."}]
    response = litellm.completion(
        model=f"together_ai/{MODEL}", api_base=base_url, api_key="YOUR_KEY", messages=messages
    )

    assert "Hello." == response.choices[0].message.content


@pytest.mark.proves("stream")
def test_a_stream(base_url):
    """A stream returns the text in several chunks, and its usage."""
    chunks = list(completion(base_url, f"say: {LONG}", stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]

    assert LONG == "".join(texts)
    assert len([text for text in texts if text]) > 1
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, pytest.param(True, marks=pytest.mark.proves("tools"))])
def test_a_tool(base_url, stream):
    """A tool is called with the arguments in the user's words, also from a stream."""
    response = completion(base_url, "Call add(2, 12).", tools=[ADD], stream=stream)
    if stream:
        response = litellm.stream_chunk_builder(list(response))
    (call,) = response.choices[0].message.tool_calls

    assert ("add", {"a": 2, "b": 12}) == (call.function.name, json.loads(call.function.arguments))


@pytest.mark.proves("schema")
def test_a_schema(base_url):
    """The content fits the class."""
    response = completion(base_url, "Extract: 'Jason' is 25.", response_format=Person)

    assert Person(name="Jason", age=25) == Person.model_validate_json(response.choices[0].message.content)


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sandbox/error-401", litellm.AuthenticationError),
        ("sandbox/error-404", litellm.NotFoundError),
        pytest.param("sandbox/error-429-quota", litellm.RateLimitError, marks=pytest.mark.proves("errors")),
        ("sandbox/error-500", litellm.InternalServerError),
        ("sandbox/context-length", litellm.ContextWindowExceededError),
    ],
)
def test_errors_have_litellms_classes(base_url, model, error):
    """Each failure is raised as the class that litellm has for it."""
    with pytest.raises(error):
        completion(base_url, "Hi", model=model, max_retries=0)


@pytest.mark.proves("cancel")
def test_leaving_a_stream_releases_the_provider(base_url, served, stalling_model):
    """Closing the stream within litellm's wrapper closes the connection to the provider."""
    stream = completion(base_url, "Hi", model=stalling_model, stream=True)
    next(iter(stream))
    stream.completion_stream.close()

    assert "client_closed" == served.wait_until_ended(stalling_model)
