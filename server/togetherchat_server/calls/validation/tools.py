"""The rules for tools and for the response format."""

from collections.abc import Sequence
from typing import Final, assert_never

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.json_texts import JsonTexts
from togetherchat_server.calls.validation.texts import check_count, check_length, check_name
from togetherchat_server.calls.validation.violations import Violations

TOOL_CHOICE_MODES: Final = frozenset(chat.ToolChoiceMode.values())


def check_tools(
    tools: Sequence[chat.Tool], limits: RequestLimits, violations: Violations, json_texts: JsonTexts
) -> None:
    if not check_count("tools", tools, limits.tools_max, violations):
        return
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        kind = tool.WhichOneof("tool")
        match kind:
            case "function":
                _check_function(f"{path}.function", tool.function, limits, violations, json_texts)
            case None:
                violations.add(path, "must have function")
            case _:
                assert_never(kind)


def _check_function(
    path: str,
    function: chat.FunctionTool,
    limits: RequestLimits,
    violations: Violations,
    json_texts: JsonTexts,
) -> None:
    check_name(f"{path}.name", function.name, limits, violations)
    check_length(f"{path}.description", function.description, limits.description_characters_max, violations)
    if function.parameters_json:
        json_texts.check(f"{path}.parameters_json", function.parameters_json)


def check_tool_choice(request: service.CompleteRequest, violations: Violations) -> None:
    if not request.HasField("tool_choice"):
        return
    choice = request.tool_choice
    kind = choice.WhichOneof("choice")
    match kind:
        case "mode":
            if choice.mode not in TOOL_CHOICE_MODES:
                violations.add("tool_choice.mode", f"{choice.mode:d} is not a known value")
        case "function_name":
            if all(choice.function_name != tool.function.name for tool in request.tools):
                violations.add("tool_choice.function_name", "must be the name of one of the tools")
        case None:
            violations.add("tool_choice", "must have one of mode, function_name")
        case _:
            assert_never(kind)


def check_response_format(
    request: service.CompleteRequest, limits: RequestLimits, violations: Violations, json_texts: JsonTexts
) -> None:
    if not request.HasField("response_format"):
        return
    form = request.response_format
    kind = form.WhichOneof("format")
    match kind:
        case "text" | "json_object":
            pass
        case "json_schema":
            _check_schema("response_format.json_schema", form.json_schema, limits, violations, json_texts)
        case "regex":
            if not form.regex:
                violations.add("response_format.regex", "must not be empty")
            check_length("response_format.regex", form.regex, limits.description_characters_max, violations)
        case None:
            violations.add("response_format", "must have one of text, json_object, json_schema, regex")
        case _:
            assert_never(kind)


def _check_schema(
    path: str,
    schema: chat.JsonSchemaFormat,
    limits: RequestLimits,
    violations: Violations,
    json_texts: JsonTexts,
) -> None:
    check_name(f"{path}.name", schema.name, limits, violations)
    check_length(f"{path}.description", schema.description, limits.description_characters_max, violations)
    if schema.schema_json:
        json_texts.check(f"{path}.schema_json", schema.schema_json)
