"""Tests of OpenAI's Agents SDK, with its model for chat completions, against the HTTP listener."""

import openai
import pydantic
import pytest
from agents import Runner, function_tool

pytestmark = pytest.mark.client("openai-agents (Python)")

MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
LONG = " ".join(["Hello there, friend."] * 20)


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def agent_of(base_url, model=MODEL, **options):
    # docs: begin
    import openai
    from agents import Agent, OpenAIChatCompletionsModel

    # Set OPENAI_AGENTS_DISABLE_TRACING=1: traces would be sent to OpenAI.
    client = openai.AsyncOpenAI(base_url=base_url, api_key="YOUR_KEY")
    agent = Agent(name="Assistant", model=OpenAIChatCompletionsModel(model=model, openai_client=client))
    # docs: end
    return agent.clone(**options)


def texts_of(event):
    data = getattr(event, "data", None)
    return [data.delta] if getattr(data, "type", "") == "response.output_text.delta" else []


@pytest.mark.proves("call")
async def test_a_call(base_url):
    """An agent with instructions returns text and usage."""
    result = await Runner.run(agent_of(base_url, instructions="Be brief."), "say: Hello there.")

    assert "Hello there." == result.final_output
    assert result.context_wrapper.usage.output_tokens > 0


@pytest.mark.proves("stream")
async def test_a_stream(base_url):
    """A stream returns the text in several pieces, and its usage."""
    result = Runner.run_streamed(agent_of(base_url), f"say: {LONG}")
    texts = [text async for event in result.stream_events() for text in texts_of(event)]

    assert LONG == "".join(texts)
    assert len(texts) > 1
    assert result.context_wrapper.usage.output_tokens > 0


@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=pytest.mark.proves("tools"))])
async def test_a_tool(base_url, streamed):
    """A function is called with the arguments in the user's words; its result goes back."""
    sums = []

    @function_tool
    def add(a: int, b: int) -> int:
        sums.append(a + b)
        return a + b

    agent = agent_of(base_url, tools=[add])
    if streamed:
        result = Runner.run_streamed(agent, "Call add(2, 12).")
        assert [event async for event in result.stream_events()]
    else:
        result = await Runner.run(agent, "Call add(2, 12).")

    assert [14] == sums
    assert "14" in result.final_output


@pytest.mark.proves("schema")
async def test_an_output_type(base_url):
    """The output is a value of the agent's type."""
    result = await Runner.run(agent_of(base_url, output_type=Person), "Extract: 'Jason' is 25.")

    assert Person(name="Jason", age=25) == result.final_output


@pytest.mark.proves("errors")
async def test_an_error(base_url):
    """A 429 is raised as the error class of OpenAI's package."""
    with pytest.raises(openai.RateLimitError):
        await Runner.run(agent_of(base_url, "sandbox/error-429-quota"), "Hi")


@pytest.mark.proves("cancel")
async def test_cancelling_a_run_releases_the_provider(base_url, served, stalling_model):
    """Cancelling a streamed run closes the connection to the provider."""
    result = Runner.run_streamed(agent_of(base_url, stalling_model), "Hi")
    async for event in result.stream_events():
        if texts_of(event):
            result.cancel()

    assert "client_closed" == served.wait_until_ended(stalling_model)
