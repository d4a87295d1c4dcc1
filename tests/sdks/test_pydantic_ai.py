"""Tests of pydantic-ai against the HTTP listener: tools, and output by a tool, natively and by a prompt."""

import pydantic
import pytest
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, PromptedOutput, ToolOutput

pytestmark = pytest.mark.client("pydantic-ai (Python)")

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def model_of(base_url, model=MODEL):
    # docs: begin
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    chat_model = OpenAIChatModel(model, provider=OpenAIProvider(base_url=base_url, api_key="YOUR_KEY"))
    # docs: end
    return chat_model


@pytest.mark.proves("call")
async def test_a_call(base_url):
    """A call with instructions returns text and usage."""
    result = await Agent(model_of(base_url), instructions="Be brief.").run("say: Hello there.")

    assert "Hello there." == result.output
    assert result.usage.output_tokens > 0


@pytest.mark.proves("stream")
async def test_a_stream(base_url):
    """A stream returns the text in several pieces, and its usage."""
    async with Agent(model_of(base_url)).run_stream(f"say: {LONG}") as result:
        texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]

    assert LONG == "".join(texts)
    assert len(texts) > 1
    assert result.usage.output_tokens > 0


@pytest.mark.proves("tools")
async def test_a_tool(base_url):
    """A Python function is called with the arguments in the user's words; its result goes back."""
    cities = []
    agent = Agent(model_of(base_url))

    @agent.tool_plain
    def get_weather(city: str) -> str:
        cities.append(city)
        return f"Rain in {city}."

    result = await agent.run("What is the weather in 'Paris'?")

    assert ["Paris"] == cities
    assert "Rain in Paris." in result.output


@pytest.mark.parametrize(
    "output",
    [ToolOutput, pytest.param(NativeOutput, marks=pytest.mark.proves("schema")), PromptedOutput],
)
async def test_each_output_mode(base_url, output):
    """Each mode gets the words of the user into the fields of the model, without a retry."""
    agent = Agent(model_of(base_url), output_type=output(Person), retries=0)

    result = await agent.run("Extract: 'Jason' is 25 years old.")

    assert Person(name="Jason", age=25) == result.output


@pytest.mark.parametrize("output", [ToolOutput, NativeOutput, PromptedOutput])
async def test_a_tool_before_the_output(base_url, output):
    """The agent calls its function first, and then gives the output."""
    called = []
    agent = Agent(model_of(base_url), output_type=output(Person), retries=0)

    @agent.tool_plain
    def get_weather() -> str:
        called.append(True)
        return "Rain."

    result = await agent.run("How is the weather for 'Jason', who is 25?")

    assert ([True], Person(name="Jason", age=25)) == (called, result.output)


async def test_a_stream_of_output(base_url):
    """The fields of the output arrive piece by piece."""
    async with Agent(model_of(base_url), output_type=Person).run_stream("'Jason' is 25.") as result:
        outputs = [output async for output in result.stream_output(debounce_by=None)]

    assert Person(name="Jason", age=25) == outputs[-1]


@pytest.mark.proves("errors")
async def test_an_error(base_url):
    """A 429 is raised with its status."""
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(model_of(base_url, "sandbox/error-429-quota")).run("Hi")

    assert 429 == caught.value.status_code


@pytest.mark.proves("cancel")
async def test_leaving_a_stream_releases_the_provider(base_url, served, stalling_model):
    """Leaving the block of a stream closes the connection to the provider."""
    async with Agent(model_of(base_url, stalling_model)).run_stream("Hi") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            break

    assert "client_closed" == served.wait_until_ended(stalling_model)
