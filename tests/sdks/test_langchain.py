"""Tests of LangChain's model for OpenAI's API against the HTTP listener."""

import json

import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


@pytest.fixture
def chat(served):
    return ChatOpenAI(model=MODEL, api_key="tok_any", base_url=served.base_url, max_retries=0)


def test_a_call(chat):
    """A call with a system message returns text and usage."""
    response = chat.invoke([("system", "Be brief."), ("human", "say: Hello there.")])

    assert "Hello there." == response.content
    assert response.usage_metadata["total_tokens"] > 0


def test_a_stream(chat):
    """A stream returns the text in several chunks."""
    chunks = [chunk.content for chunk in chat.stream(f"say: {LONG}")]

    assert LONG == "".join(chunks)
    assert len([chunk for chunk in chunks if chunk]) > 1


@pytest.mark.parametrize("stream_usage", [None, True, False])
def test_the_usage_of_a_stream_is_counted_once(chat, stream_usage):
    """LangChain adds up the usage of all chunks, so two chunks with usage would double the tokens."""
    asked = chat.model_copy(update={"stream_usage": stream_usage})
    whole = chat.invoke("say: Hello there.").usage_metadata
    found = [chunk.usage_metadata for chunk in asked.stream("say: Hello there.") if chunk.usage_metadata]

    assert [whole["total_tokens"]] == [usage["total_tokens"] for usage in found]


def test_a_tool_call(chat):
    """A Python function is bound as a tool and called."""
    response = chat.bind_tools([get_weather], tool_choice="get_weather").invoke(
        "What is the weather in Paris?"
    )

    assert ["get_weather"] == [call["name"] for call in response.tool_calls]
    assert "city" in response.tool_calls[0]["args"]


def test_structured_output(chat):
    """The response is parsed into the model of the JSON schema."""
    found = chat.with_structured_output(Person, method="json_schema").invoke("Who? Answer in JSON.")

    assert isinstance(found, Person)
    assert json.loads(found.model_dump_json()).keys() == {"name", "age"}


def test_an_error(chat):
    """A 429 is raised as the error class of OpenAI's package."""
    with pytest.raises(openai.RateLimitError):
        chat.bind(model="sandbox/error-429").invoke("Hi")
