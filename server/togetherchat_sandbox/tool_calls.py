"""Decides which functions a completion calls, and with which arguments. Pure.

With `auto` a call is made when the user names a function, or mentions the weather or a tool: easy
to predict in a test, natural enough for a demonstration.
"""

from dataclasses import dataclass

from togetherchat_sandbox.encoding import as_object, encode
from togetherchat_sandbox.json_schema_sample import json_sample
from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.request import ChatRequest, FunctionTool
from togetherchat_sandbox.texts import dictates_completion
from togetherchat_sandbox.tokens import tokenize

CUES = ("weather", "tool")
DEFAULT_TOOL = FunctionTool(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string", "const": "Berlin"}}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedToolCall:
    """A call. The joined fragments are its arguments: JSON, unless the completion was truncated."""

    id: str
    name: str
    fragments: tuple[str, ...]


def tools_to_call(request: ChatRequest, *, calls_min: int) -> tuple[FunctionTool, ...]:
    """Return the functions to call, at least `calls_min` of them."""
    tools = _requested(request)
    if not calls_min:
        return tools
    candidates = (tools + request.tools) or (DEFAULT_TOOL,)
    return tuple(candidates[number % len(candidates)] for number in range(calls_min))


def _requested(request: ChatRequest) -> tuple[FunctionTool, ...]:
    match request.tool_choice:
        case "none":
            return ()
        case "required":
            return request.tools[:1]
        case "auto":
            return _mentioned(request)
        case name:
            return tuple(tool for tool in request.tools if tool.name == name)[:1]


def _mentioned(request: ChatRequest) -> tuple[FunctionTool, ...]:
    last = request.messages[-1]
    if last.role != "user" or dictates_completion(request):
        return ()
    text = last.text.lower()
    named = tuple(tool for tool in request.tools if tool.name.lower() in text)
    cues = [cue for cue in CUES if cue in text]
    related = tuple(tool for tool in request.tools if any(cue in tool.name.lower() for cue in cues))
    return (named or related or (request.tools if cues else ()))[:1]


def plan_tool_call(tool: FunctionTool, bits: int) -> PlannedToolCall:
    """Return a call of `tool` with arguments that fit its schema."""
    arguments = as_object(json_sample({"type": "object", **tool.parameters}))
    return PlannedToolCall(
        id=f"call_{random_bits(bits, tool.name):016x}",
        name=tool.name,
        fragments=tokenize(encode(arguments).decode()),
    )
