"""LangChain's model for OpenAI's API, as it is installed, against the door."""

import json

import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)


class Person(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


@pytest.fixture
def chat(served):
    return ChatOpenAI(model=MODEL, api_key="tok_any", base_url=served.base_url, max_retries=0)


def test_a_call(chat):
    """A system message, a question, an answer."""
    answer = chat.invoke([("system", "Be brief."), ("human", "say: Hello there.")])

    assert "Hello there." == answer.content
    assert answer.usage_metadata["total_tokens"] > 0


def test_a_stream(chat):
    """Piece by piece."""
    pieces = [piece.content for piece in chat.stream(f"say: {LONG}")]

    assert LONG == "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 1


def test_a_tool(chat):
    """Bound as a Python function."""
    answer = chat.bind_tools([get_weather], tool_choice="get_weather").invoke("What is the weather in Paris?")

    assert ["get_weather"] == [call["name"] for call in answer.tool_calls]
    assert "city" in answer.tool_calls[0]["args"]


def test_structured_output(chat):
    """By JSON schema."""
    found = chat.with_structured_output(Person, method="json_schema").invoke("Who? Answer in JSON.")

    assert isinstance(found, Person)
    assert json.loads(found.model_dump_json()).keys() == {"name", "age"}


def test_an_error(chat):
    """It is OpenAI's own."""
    with pytest.raises(openai.RateLimitError):
        chat.bind(model="sandbox/error-429").invoke("Hi")
