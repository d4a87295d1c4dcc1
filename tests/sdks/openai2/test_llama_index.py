"""Tests of LlamaIndex's OpenAILike against the HTTP listener."""

import asyncio

import httpx
import openai
import pydantic
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

from sdks.cancelling import cancelled_after

pytestmark = pytest.mark.client("llama-index-llms-openai-like (Python)")

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def model_of(base_url, model=MODEL, http_client=None):
    # docs: begin
    from llama_index.llms.openai_like import OpenAILike

    llm = OpenAILike(
        model=model,
        api_base=base_url,
        api_key="YOUR_KEY",
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        http_client=http_client,  # close your own one to leave a stream at once
    )
    # docs: end
    return llm


def says(text):
    return [ChatMessage(role="user", content=text)]


@pytest.mark.proves("call")
def test_a_call(base_url):
    """A chat and a completion return the text."""
    llm = model_of(base_url)

    assert "Hello there." == llm.chat(says("say: Hello there.")).message.content
    assert "Hello there." == llm.complete("say: Hello there.").text


@pytest.mark.proves("stream")
def test_a_stream(base_url):
    """A stream returns the text in several pieces."""
    deltas = [piece.delta for piece in model_of(base_url).stream_chat(says(f"say: {LONG}"))]

    assert LONG == "".join(deltas)
    assert len([delta for delta in deltas if delta]) > 1


@pytest.mark.proves("tools")
def test_a_tool(base_url):
    """A function is called with the arguments in the user's words."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    response = model_of(base_url).predict_and_call([FunctionTool.from_defaults(add)], "Call add(2, 12).")

    assert "14" == response.response


@pytest.mark.proves("schema")
def test_a_structured_model(base_url):
    """The output is a value of the class."""
    llm = model_of(base_url).as_structured_llm(Person)

    assert Person(name="Jason", age=25) == llm.complete("Extract: 'Jason' is 25.").raw


def test_a_structured_stream(base_url):
    """The value grows with the stream, and is complete at the end."""
    values = [
        piece.raw
        for piece in model_of(base_url).as_structured_llm(Person).stream_chat(says("'Jason' is 25."))
    ]

    assert ("Jason", 25) == (values[-1].name, values[-1].age)


@pytest.mark.proves("errors")
def test_an_error(base_url):
    """A 429 is raised as the error class of OpenAI's package."""
    with pytest.raises(openai.RateLimitError):
        model_of(base_url, "sandbox/error-429-quota").chat(says("Hi"))


@pytest.mark.proves("cancel")
async def test_cancelling_a_stream_releases_the_provider(base_url, served, stalling_model):
    """Cancelling the task that reads a stream closes the connection to the provider."""

    async def read():
        async for _ in await model_of(base_url, stalling_model).astream_chat(says("Hi")):
            started.set()

    started = asyncio.Event()
    await cancelled_after(started, read())

    assert "client_closed" == await asyncio.to_thread(served.wait_until_ended, stalling_model)


def test_closing_the_http_client_releases_the_provider(base_url, served, stalling_model):
    """Closing the generator leaves the connection to Python's garbage collector; closing its client does not."""
    with httpx.Client() as client:
        next(model_of(base_url, stalling_model, http_client=client).stream_chat(says("Hi")))

    assert "client_closed" == served.wait_until_ended(stalling_model)
