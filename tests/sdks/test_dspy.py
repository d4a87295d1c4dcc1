"""Tests of DSPy with its adapter for JSON against the HTTP listener."""

import asyncio

import dspy
import pytest
from dspy.utils import exceptions

from sdks.cancelling import cancelled_after

pytestmark = pytest.mark.client("dspy (Python)")

MODEL = "Qwen/Qwen2.5-7B-Instruct-Turbo"


def model_of(base_url, model=MODEL):
    # docs: begin
    import dspy

    # `together_ai/` tells DSPy what the model supports. `openai/` works too, without tools and schemas.
    lm = dspy.LM(f"together_ai/{model}", api_base=base_url, api_key="YOUR_KEY")
    # docs: end
    return lm.copy(cache=False, num_retries=0)


@pytest.fixture
def configured(base_url):
    with dspy.context(lm=model_of(base_url), adapter=dspy.JSONAdapter()):
        yield


@pytest.mark.proves("call")
def test_a_call(base_url):
    """The model alone returns texts."""
    assert ["Hello there."] == model_of(base_url)("say: Hello there.")


@pytest.mark.proves("schema")
def test_typed_fields(configured):
    """The fields of a signature have values of their types."""
    found = dspy.Predict("question -> answer: str, score: int")(question="Who is 25?")

    assert found.answer
    assert isinstance(found.score, int)


def test_json_mode(base_url):
    """Where DSPy knows nothing of the model, the adapter describes the fields in the prompt of JSON mode."""
    lm = dspy.LM(f"openai/{MODEL}", api_base=base_url, api_key="YOUR_KEY", cache=False)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        found = dspy.Predict("question -> answer: str, score: int, sure: bool")(question="Who is 25?")

    assert not lm.supports_response_schema
    assert [str, int, bool] == [type(found.answer), type(found.score), type(found.sure)]


@pytest.mark.proves("tools")
def test_a_tool_call(configured):
    """A function is called with the arguments in the question."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    class Ask(dspy.Signature):
        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    found = dspy.Predict(Ask)(question="Call add(2, 12).", tools=[dspy.Tool(add)])

    (call,) = found.calls.tool_calls
    assert ("add", {"a": 2, "b": 12}) == (call.name, call.args)


@pytest.mark.proves("stream")
async def test_a_stream(configured):
    """A field arrives piece by piece."""
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )
    pieces = [piece async for piece in program(question="Who?")]

    assert isinstance(pieces[-1], dspy.Prediction)
    text = "".join(piece.chunk for piece in pieces if isinstance(piece, dspy.streaming.StreamResponse))
    assert pieces[-1].answer == text.strip('"')  # the listener also passes on the quotes of the JSON


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sandbox/error-401", exceptions.LMAuthError),
        ("sandbox/error-404", exceptions.LMUnsupportedModelError),
        pytest.param("sandbox/error-429", exceptions.LMRateLimitError, marks=pytest.mark.proves("errors")),
        ("sandbox/context-length", exceptions.ContextWindowExceededError),
        ("sandbox/error-500", exceptions.LMServerError),
    ],
)
def test_errors_have_dspys_classes(base_url, model, error):
    """Each failure is raised as the class that DSPy has for it."""
    with pytest.raises(error):
        model_of(base_url, model)("Hi")


@pytest.mark.proves("cancel")
async def test_cancelling_a_stream_releases_the_provider(base_url, served, stalling_model):
    """Cancelling the task that reads a streamed program closes the connection to the provider."""

    async def read():
        with dspy.context(lm=model_of(base_url, stalling_model), adapter=dspy.ChatAdapter()):
            async for _ in dspy.streamify(dspy.Predict("question -> answer"))(question="Who?"):
                started.set()

    started = asyncio.Event()
    await cancelled_after(started, read())

    assert "client_closed" == await asyncio.to_thread(served.wait_until_ended, stalling_model)
