"""Tests of LangChain's models for OpenAI's and Together's API against the HTTP listener."""

import json
from typing import Literal

import openai
import pydantic
import pytest
from langchain_core.messages import HumanMessage, ToolMessage

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


class Hotel(pydantic.BaseModel):
    """A hotel."""

    name: str
    stars: int = pydantic.Field(ge=1, le=5)


class Trip(pydantic.BaseModel):
    """A trip, with every kind of field that models are asked for."""

    city: str
    season: Literal["winter", "summer"]
    hotel: Hotel
    tags: list[str]
    days: int | None = None


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


def chat_openai(base_url, model=MODEL):
    # docs: begin langchain-openai (Python)
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=model, base_url=base_url, api_key="YOUR_KEY")
    # docs: end
    return chat


def chat_together(base_url, model=MODEL):
    # docs: begin langchain-together (Python)
    from langchain_together import ChatTogether

    chat = ChatTogether(model=model, base_url=base_url, api_key="YOUR_KEY")
    # docs: end
    return chat


@pytest.fixture(
    params=[
        pytest.param(chat_openai, marks=pytest.mark.client("langchain-openai (Python)")),
        pytest.param(chat_together, marks=pytest.mark.client("langchain-together (Python)")),
    ],
    ids=["ChatOpenAI", "ChatTogether"],
)
def chat(request, base_url):
    return request.param(base_url)


@pytest.mark.proves("call")
def test_a_call(chat):
    """A call with a system message returns text and usage."""
    response = chat.invoke([("system", "Be brief."), ("human", "say: Hello there.")])

    assert "Hello there." == response.content
    assert response.usage_metadata["total_tokens"] > 0


@pytest.mark.proves("stream")
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


@pytest.mark.proves("tools")
def test_a_tool_call(chat):
    """A Python function is bound as a tool and called."""
    response = chat.bind_tools([get_weather], tool_choice="get_weather").invoke(
        "What is the weather in Paris?"
    )

    assert ["get_weather"] == [call["name"] for call in response.tool_calls]
    assert "city" in response.tool_calls[0]["args"]


@pytest.mark.proves("schema")
def test_structured_output(chat):
    """The response is parsed into the model of the JSON schema."""
    found = chat.with_structured_output(Person, method="json_schema").invoke("Who? Answer in JSON.")

    assert isinstance(found, Person)
    assert json.loads(found.model_dump_json()).keys() == {"name", "age"}


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_nested_and_optional_fields(chat, method):
    """Nested, literal, repeated and optional fields have the values of the user's words."""
    found = chat.with_structured_output(Trip, method=method).invoke(
        "A summer trip, city: Rome, for days: 3, to the hotel 'Roma' with 4 stars."
    )

    assert ("Rome", "summer", Hotel(name="Roma", stars=4)) == (found.city, found.season, found.hotel)
    assert [3, True] == [found.days, len(found.tags) > 0]


def test_json_mode_by_a_prompt(chat):
    """JSON mode follows the schema in the system message."""
    instructions = f"Respond with JSON that matches this schema: {json.dumps(Person.model_json_schema())}"
    found = chat.with_structured_output(Person, method="json_mode").invoke(
        [("system", instructions), ("human", "Who? 'Ada', 36.")]
    )

    assert Person(name="Ada", age=36) == found


def test_several_calls_and_their_results(chat):
    """Two calls of one response are answered by two tool messages."""
    bound = chat.bind_tools([get_weather])
    question = HumanMessage("Call get_weather(city='Rome') and get_weather(city='Oslo').")
    response = bound.invoke([question])
    results = [
        ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"]) for call in response.tool_calls
    ]

    assert [{"city": "Rome"}, {"city": "Oslo"}] == [call["args"] for call in response.tool_calls]
    assert "Rain in Oslo." in bound.invoke([question, response, *results]).content


@pytest.mark.proves("errors")
def test_an_error(chat):
    """A 429 is raised as the error class of OpenAI's package."""
    with pytest.raises(openai.RateLimitError):
        chat.bind(model="sandbox/error-429-quota").invoke("Hi")


@pytest.mark.proves("cancel")
def test_closing_a_stream_releases_the_provider(chat, served, stalling_model):
    """Closing the generator of a stream closes the connection to the provider."""
    stream = chat.stream("Hi", model=stalling_model)
    next(stream)
    stream.close()

    assert "client_closed" == served.wait_until_ended(stalling_model)
