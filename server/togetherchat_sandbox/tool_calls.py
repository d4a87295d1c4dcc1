"""Which functions an answer calls, and with what. Pure; knows no wire.

With `auto` a call is made when the user names a function, or speaks of the weather or of tools:
simple enough to predict in a test, natural enough for a demonstration.
"""

from dataclasses import dataclass

from togetherchat_sandbox.request import ChatRequest, Tool
from togetherchat_sandbox.schema import instance
from togetherchat_sandbox.texts import is_exact
from togetherchat_sandbox.tokens import roll, split
from togetherchat_sandbox.wire import as_object, encode

CUES = ("weather", "tool")
INVENTED = Tool(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string", "const": "Berlin"}}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call. Its arguments are the fragments joined: JSON, unless the answer was cut short."""

    id: str
    name: str
    fragments: tuple[str, ...]


def called_tools(request: ChatRequest, *, calls_min: int) -> tuple[Tool, ...]:
    """The functions to call. `calls_min` are called whatever the request says."""
    wanted = _wanted(request)
    if not calls_min:
        return wanted
    offered = (wanted + request.tools) or (INVENTED,)
    return tuple(offered[place % len(offered)] for place in range(calls_min))


def _wanted(request: ChatRequest) -> tuple[Tool, ...]:
    match request.tool_choice:
        case "none":
            return ()
        case "required":
            return request.tools[:1]
        case "auto":
            return _tempting(request)
        case name:
            return tuple(tool for tool in request.tools if tool.name == name)[:1]


def _tempting(request: ChatRequest) -> tuple[Tool, ...]:
    last = request.messages[-1]
    if last.role != "user" or is_exact(request):
        return ()
    said = last.text.lower()
    named = tuple(tool for tool in request.tools if tool.name.lower() in said)
    cues = [cue for cue in CUES if cue in said]
    alike = tuple(tool for tool in request.tools if any(cue in tool.name.lower() for cue in cues))
    return (named or alike or (request.tools if cues else ()))[:1]


def tool_call(tool: Tool, chance: int) -> ToolCall:
    """A call of `tool` with arguments that fit its schema."""
    arguments = as_object(instance({"type": "object", **tool.parameters}))
    return ToolCall(
        id=f"call_{roll(chance, tool.name):016x}",
        name=tool.name,
        fragments=split(encode(arguments).decode()),
    )
