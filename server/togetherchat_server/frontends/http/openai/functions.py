"""OpenAI's function calling of 2023: `functions` and `function_call` in place of `tools` and `tool_choice`.

A request with `functions` receives `function_call` in its response, which has room for one call. Results
are messages of the role `function`, without an id: `request_tool_calls` of the provider matches them with
their calls by position.
"""

from collections.abc import Sequence

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.frontends.http.openai import schema
from togetherchat_server.frontends.http.openai.unsupported import IgnoredMembers, invalid

FINISH_REASON = "function_call"

_Json = dict[str, object]


def as_tools(body: schema.RequestBody) -> Sequence[schema.RequestTool]:
    """Return the functions of a request as tools. Raises `ServiceError` INVALID_REQUEST beside `tools`."""
    if body.function_call is not None and not body.functions:
        raise invalid("function_call", "requires `functions`; with `tools`, use `tool_choice`")
    if body.functions and (body.tools or body.tool_choice is not None):
        raise invalid("functions", "cannot be used beside `tools` or `tool_choice`")
    return [schema.RequestTool(function=function) for function in body.functions or ()]


def as_tool_choice(body: schema.RequestBody) -> str | schema.RequestNamedToolChoice | None:
    """Return the choice of a function as the choice of a tool."""
    choice = body.function_call
    if isinstance(choice, schema.RequestFunctionName):
        return schema.RequestNamedToolChoice(function=choice)
    return choice


def as_tool_calls(
    message: schema.RequestMessage, ignored: IgnoredMembers
) -> Sequence[schema.RequestToolCall]:
    """Return the tool calls of an earlier completion; those of `tool_calls` win over `function_call`."""
    if message.function_call is None:
        return message.tool_calls or ()
    if message.tool_calls:
        ignored.add("messages[].function_call")
        return message.tool_calls
    return (schema.RequestToolCall(function=message.function_call),)


def from_tool_calls(calls: Sequence[chat.ToolCall]) -> _Json:
    """Return `function_call` for the first call, which is the only one that it has room for."""
    function = calls[0].function
    return {"name": function.name, "arguments": function.arguments}


def from_fragments(fragments: Sequence[service.ToolCallDelta]) -> _Json | None:
    """Return `function_call` of a delta, for the fragments of the first call; None if there is none."""
    of_first = [fragment for fragment in fragments if fragment.index == 0]
    if not of_first:
        return None
    name = "".join(fragment.name for fragment in of_first)
    arguments = "".join(fragment.arguments for fragment in of_first)
    return {"name": name, "arguments": arguments} if name else {"arguments": arguments}
