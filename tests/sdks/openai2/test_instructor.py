"""Tests of instructor against the HTTP listener: values that fit a model, by tools, JSON modes and schemas."""

import asyncio
from collections.abc import Iterable

import instructor
import openai
import pydantic
import pytest
from instructor.core import InstructorRetryException

from sdks.cancelling import cancelled_after

pytestmark = pytest.mark.client("instructor (Python)")

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
JASON = [{"role": "user", "content": "Extract: 'Jason' is 25 years old."}]
MODES = (instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.MD_JSON, instructor.Mode.JSON_SCHEMA)


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


class Weather(pydantic.BaseModel):
    """The weather of a city."""

    city: str


def client_of(base_url, mode=instructor.Mode.TOOLS):
    # docs: begin
    import instructor
    import openai

    # `mode` is instructor.Mode.TOOLS, JSON, MD_JSON or JSON_SCHEMA.
    client = instructor.from_openai(openai.OpenAI(base_url=base_url, api_key="YOUR_KEY"), mode=mode)
    # docs: end
    return client


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, marks=pytest.mark.proves("schema"))
        if mode is instructor.Mode.JSON_SCHEMA
        else mode
        for mode in MODES
    ],
)
def test_each_mode(base_url, mode):
    """Each mode gets the words of the user into the fields of the model, at the first attempt."""
    client = client_of(base_url, mode)

    found = client.chat.completions.create(
        model=MODEL, response_model=Person, messages=list(JASON), max_retries=0
    )

    assert {"name": "Jason", "age": 25} == found.model_dump()


@pytest.mark.proves("call")
def test_a_call(base_url):
    """Without a model for the response, the completion is returned as it is."""
    response = client_of(base_url).chat.completions.create(
        model=MODEL, response_model=None, messages=[{"role": "user", "content": "say: Hello there."}]
    )

    assert "Hello there." == response.choices[0].message.content


@pytest.mark.proves("tools")
def test_several_tools_are_called(base_url):
    """An iterable of models makes each a tool, and each call of a tool a value."""
    client = client_of(base_url, instructor.Mode.PARALLEL_TOOLS)
    found = client.chat.completions.create(
        model=MODEL,
        response_model=Iterable[Weather | Person],
        messages=[{"role": "user", "content": "Weather(city='Paris') and Person(name='Ada', age=36)"}],
        max_retries=0,
    )

    assert [Weather(city="Paris"), Person(name="Ada", age=36)] == list(found)


@pytest.mark.proves("stream")
async def test_a_partial_stream(base_url):
    """The value grows with the stream, and is complete at the end. (The client that blocks collects it first.)"""
    client = instructor.from_openai(openai.AsyncOpenAI(base_url=base_url, api_key="YOUR_KEY"))
    stream = client.chat.completions.create_partial(
        model=MODEL, response_model=Person, messages=list(JASON), max_retries=0
    )
    values = [value async for value in stream]

    assert len(values) > 2
    assert ("Jason", 25) == (values[-1].name, values[-1].age)


@pytest.mark.parametrize("mode", MODES)
def test_an_iterable_stream(base_url, mode):
    """The items of a list arrive one by one."""
    found = client_of(base_url, mode).chat.completions.create_iterable(
        model=MODEL, response_model=Person, messages=list(JASON), max_retries=0
    )

    assert [Person(name="Jason", age=25)] == list(found)


@pytest.mark.proves("errors")
def test_an_error(base_url):
    """A 429 is raised as instructor's error, with that of OpenAI's package as its cause."""
    with pytest.raises(InstructorRetryException) as caught:
        client_of(base_url).chat.completions.create(
            model="sandbox/error-429-quota", response_model=Person, messages=list(JASON), max_retries=0
        )

    assert isinstance(caught.value.__cause__, openai.RateLimitError)


@pytest.mark.proves("cancel")
async def test_cancelling_a_stream_releases_the_provider(base_url, served, stalling_model):
    """Cancelling the task that reads a partial stream closes the connection to the provider."""
    client = instructor.from_openai(openai.AsyncOpenAI(base_url=base_url, api_key="YOUR_KEY"))

    async def read():
        values = client.chat.completions.create_partial(
            model=stalling_model, response_model=Person, messages=list(JASON), max_retries=0
        )
        async for _ in values:
            started.set()

    started = asyncio.Event()
    await cancelled_after(started, read())

    assert "client_closed" == await asyncio.to_thread(served.wait_until_ended, stalling_model)
