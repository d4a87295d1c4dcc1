"""Decides which functions a completion calls, and with which arguments. Pure.

With `auto` a call is made when the user names a function, or mentions the weather or a tool: easy
to predict in a test, natural enough for a demonstration. Several expressions such as `add(1, 2)` are
several calls.
"""

import re
from dataclasses import dataclass

from togetherchat_sandbox.encoding import JsonObject, as_object, encode
from togetherchat_sandbox.json_prompts import without_json
from togetherchat_sandbox.json_schema_sample import json_sample
from togetherchat_sandbox.literals import Literals, scalar_names
from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.request import ChatRequest, FunctionTool
from togetherchat_sandbox.texts import dictates_completion
from togetherchat_sandbox.tokens import tokenize

CALLS_MAX = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCall:
    """A function to call, and the words that may hold its arguments."""

    tool: FunctionTool
    words: str = ""


def calls_to_make(request: ChatRequest, *, calls_min: int) -> tuple[RequestedCall, ...]:
    """Return the calls to make, at least `calls_min` of them."""
    calls = _requested(request)
    if not calls_min:
        return calls
    tools = (*(call.tool for call in calls), *request.tools) or (DEFAULT_TOOL,)
    return tuple(RequestedCall(tool=tools[number % len(tools)]) for number in range(calls_min))


def _requested(request: ChatRequest) -> tuple[RequestedCall, ...]:
    match request.tool_choice:
        case "none":
            return ()
        case "required":
            return _mentioned(request) or _calls_of(request, _next_tools(request))
        case "auto":
            return _mentioned(request)
        case name:
            return _calls_of(request, tuple(tool for tool in request.tools if tool.name == name))


def _mentioned(request: ChatRequest) -> tuple[RequestedCall, ...]:
    """Return the calls that the last user message asks for by a function's name or by a cue."""
    last = request.messages[-1]
    if last.role != "user" or dictates_completion(request):
        return ()
    text = last.text.lower()
    named = tuple(tool for tool in request.tools if tool.name.lower() in text)
    cues = [cue for cue in CUES if cue in text]
    related = tuple(tool for tool in request.tools if any(cue in tool.name.lower() for cue in cues))
    return _calls_of(request, named or related or (request.tools if cues else ()))


def _next_tools(request: ChatRequest) -> tuple[FunctionTool, ...]:
    """Return the tools that the current turn did not call yet, or all: required calls then make progress."""
    called = {name for message in request.turn for name in message.calls}
    return tuple(tool for tool in request.tools if tool.name not in called) or request.tools


def _calls_of(request: ChatRequest, tools: tuple[FunctionTool, ...]) -> tuple[RequestedCall, ...]:
    """Return a call for each expression such as `add(1, 2)` in the words, or one call of the first tool."""
    words = without_json(request.user_words)
    expressions = sorted(
        (match.start(), number, match[1])
        for number, tool in enumerate(tools)
        for match in re.finditer(rf"(?<!\w){re.escape(tool.name)} ?\(([^()\n]*)\)", words)
    )
    written = tuple(RequestedCall(tool=tools[number], words=inner) for _, number, inner in expressions)
    calls = written or tuple(RequestedCall(tool=tool, words=words) for tool in tools[:1])
    return calls[: CALLS_MAX if request.parallel_tool_calls else 1]


def plan_tool_call(call: RequestedCall, bits: int) -> PlannedToolCall:
    """Return a call with arguments that fit the function's schema, taken from the words where possible."""
    schema: JsonObject = {"type": "object", **call.tool.parameters}
    literals = Literals(call.words, names=scalar_names(schema), ignored=[call.tool.name])
    arguments = as_object(json_sample(schema, literals))
    return PlannedToolCall(
        id=f"call_{random_bits(bits, call.tool.name):016x}",
        name=call.tool.name,
        fragments=tokenize(encode(arguments).decode()),
    )
