"""The rules of what the model may call, and of the form of its answer."""

from collections.abc import Sequence
from typing import Final, assert_never

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.validation.bounds import RequestLimits
from togetherchat_server.calls.validation.json_texts import JsonTexts
from togetherchat_server.calls.validation.texts import (
    TOOL_NAME,
    TOOL_NAME_RULE,
    check_count,
    check_length,
)
from togetherchat_server.calls.validation.violations import Violations

TOOL_CHOICE_MODES: Final = frozenset(chat.ToolChoiceMode.values())


def check_tools(
    tools: Sequence[chat.Tool], limits: RequestLimits, findings: Violations, json_texts: JsonTexts
) -> None:
    if not check_count("tools", tools, limits.tools_max, findings):
        return
    names: set[str] = set()
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        kind = tool.WhichOneof("tool")
        match kind:
            case "function":
                _check_function(f"{place}.function", tool.function, limits, findings, json_texts)
                if tool.function.name in names:
                    findings.add(f"{place}.function.name", "is the name of an earlier tool")
                names.add(tool.function.name)
            case None:
                findings.add(place, "must have function")
            case _:
                assert_never(kind)


def _check_function(
    place: str,
    function: chat.FunctionTool,
    limits: RequestLimits,
    findings: Violations,
    json_texts: JsonTexts,
) -> None:
    if not TOOL_NAME.fullmatch(function.name):
        findings.add(f"{place}.name", TOOL_NAME_RULE)
    check_length(f"{place}.description", function.description, limits.description_characters_max, findings)
    if function.parameters_json:
        json_texts.check(f"{place}.parameters_json", function.parameters_json)


def check_tool_choice(request: service.CompleteRequest, findings: Violations) -> None:
    if not request.HasField("tool_choice"):
        return
    choice = request.tool_choice
    kind = choice.WhichOneof("choice")
    match kind:
        case "mode":
            if choice.mode not in TOOL_CHOICE_MODES:
                findings.add("tool_choice.mode", f"{choice.mode:d} is no known value")
        case "function_name":
            if all(choice.function_name != tool.function.name for tool in request.tools):
                findings.add("tool_choice.function_name", "must be the name of one of the tools")
        case None:
            findings.add("tool_choice", "must have one of mode, function_name")
        case _:
            assert_never(kind)


def check_response_format(
    request: service.CompleteRequest, limits: RequestLimits, findings: Violations, json_texts: JsonTexts
) -> None:
    if not request.HasField("response_format"):
        return
    form = request.response_format
    kind = form.WhichOneof("format")
    match kind:
        case "text" | "json_object":
            pass
        case "json_schema":
            _check_schema("response_format.json_schema", form.json_schema, limits, findings, json_texts)
        case "regex":
            if not form.regex:
                findings.add("response_format.regex", "must not be empty")
            check_length("response_format.regex", form.regex, limits.description_characters_max, findings)
        case None:
            findings.add("response_format", "must have one of text, json_object, json_schema, regex")
        case _:
            assert_never(kind)


def _check_schema(
    place: str,
    schema: chat.JsonSchemaFormat,
    limits: RequestLimits,
    findings: Violations,
    json_texts: JsonTexts,
) -> None:
    if not TOOL_NAME.fullmatch(schema.name):
        findings.add(f"{place}.name", TOOL_NAME_RULE)
    check_length(f"{place}.description", schema.description, limits.description_characters_max, findings)
    if schema.schema_json:
        json_texts.check(f"{place}.schema_json", schema.schema_json)
