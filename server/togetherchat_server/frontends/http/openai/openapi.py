"""The description of the HTTP API, in OpenAPI 3.1.

The schema of requests is generated from the models that parse them; the schemas of responses are
written here. Pure.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final, cast

import orjson

from togetherchat_server.frontends.http.openai import schema
from togetherchat_server.frontends.http.usage.document import COUNTERS
from togetherchat_server.tenants.quota_status import Bucket
from togetherchat_server.usage.report import FILTERS, Dimension

REFERENCES: Final = "#/components/schemas/{model}"

Json = dict[str, object]

PROVIDER: Final[Json] = {
    "name": "x-provider",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["together"]},
}


@cache
def document(version: str, *, console: bool) -> bytes:
    """Return the document as JSON, with the console's paths if there is a console."""
    request = schema.request_schema(REFERENCES)
    parts = cast("Json", request.pop("$defs"))
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "togetherchat",
                "version": version,
                "description": "Together AI's chat models behind OpenAI's chat API.",
            },
            "servers": [{"url": "/"}],
            "security": [{"bearer": []}, {}],
            "paths": _paths() | _report_paths() | (_console_paths() if console else {}),
            "components": {
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
                "schemas": {"RequestBody": request, **parts, **SCHEMAS},
            },
        }
    )


def _paths() -> Json:
    model = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {
        "/v1/chat/completions": {
            "post": {
                "operationId": "createChatCompletion",
                "summary": "Create a chat completion, whole or streamed.",
                "parameters": [PROVIDER],
                "requestBody": {"required": True, "content": _json("RequestBody")},
                "responses": _responses({**_json("Completion"), **stream}),
            }
        },
        "/v1/models": {
            "get": {
                "operationId": "listModels",
                "summary": "List the models.",
                "parameters": [PROVIDER],
                "responses": _responses(_json("ModelList")),
            }
        },
        "/v1/models/{id}": {
            "get": {
                "operationId": "retrieveModel",
                "summary": "Retrieve one model.",
                "parameters": [PROVIDER, model],
                "responses": _responses(_json("Model")),
            }
        },
    }


def _report_paths() -> Json:
    names = [*FILTERS, "since", "until", "by", "limit", "page"]
    parameters = [_parameter(name) for name in names]
    csv = {"text/csv": {"schema": _STRING}}
    return {
        "/usage.json": {
            "get": {
                "operationId": "queryUsage",
                "summary": "Report usage and cost by tenant, model, day, hour, key, user or reason.",
                "parameters": parameters,
                "responses": _responses(_json("UsageReport")),
            }
        },
        "/usage.csv": {
            "get": {
                "operationId": "downloadUsage",
                "summary": "Report usage and cost as CSV; the header x-next-page has the next page.",
                "parameters": parameters,
                "responses": _responses(csv),
            }
        },
        "/quotas.json": {
            "get": {
                "operationId": "listQuotas",
                "summary": "Report what is used, reserved and left of the limits of tenants.",
                "parameters": [_parameter("tenant")],
                "responses": _responses(_json("QuotaList")),
            }
        },
    }


def _parameter(name: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}


def _console_paths() -> Json:
    page = {"200": {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}}
    return {
        "/": {"get": {"operationId": "console", "summary": "The console.", "responses": _with_errors(page)}},
        "/usage": {
            "get": {
                "operationId": "usagePage",
                "summary": "The console's page of usage, cost and budgets.",
                "responses": _with_errors(page),
            }
        },
        "/console/stats": {
            "get": {
                "operationId": "consoleStats",
                "summary": "Live metrics: since the start, and of the last minute.",
                "responses": _responses(_json("ConsoleStats")),
            }
        },
        "/console/models": {
            "get": {
                "operationId": "consoleModels",
                "summary": "List every model, retired ones included.",
                "parameters": [PROVIDER],
                "responses": _responses(_json("EveryModel")),
            }
        },
    }


def _json(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": REFERENCES.format(model=name)}}}


def _responses(content: Mapping[str, object]) -> Json:
    return _with_errors({"200": {"description": "The response.", "content": content}})


def _with_errors(responses: Mapping[str, object]) -> Json:
    failed = {"description": "The error.", "content": _json("Error")}
    return {**responses, "4XX": failed, "5XX": failed}


def _object(required: list[str], **properties: object) -> Json:
    return {"type": "object", "required": required, "properties": properties}


_STRING: Final[Json] = {"type": "string"}
_STRING_OR_NULL: Final[Json] = {"type": ["string", "null"]}
_INTEGER: Final[Json] = {"type": "integer"}
_OBJECT: Final[Json] = {"type": "object"}
_OBJECT_OR_NULL: Final[Json] = {"type": ["object", "null"]}


def _list_of(name: str) -> Json:
    return {"type": "array", "items": {"$ref": REFERENCES.format(model=name)}}


_INTEGER_OR_NULL: Final[Json] = {"type": ["integer", "null"]}
_PERCENTILES: Final[Json] = _object(
    ["p50", "p95"], p50={"type": ["number", "null"]}, p95={"type": ["number", "null"]}
)
_SUMS: Final[Mapping[str, object]] = {
    **dict.fromkeys(COUNTERS, _INTEGER),
    "cost_usd": {"type": "string", "description": "US dollars, a decimal number with nine places."},
    "duration_ms": _PERCENTILES,
    "first_token_ms": _PERCENTILES,
}

SCHEMAS: Final[Mapping[str, object]] = {
    "UsageReport": _object(
        ["start_time", "end_time", "group_by", "rows", "total", "next_page"],
        start_time=_STRING,
        end_time=_STRING,
        group_by={"type": "array", "items": {"enum": [*Dimension]}},
        rows=_list_of("UsageRow"),
        total=_object([*_SUMS], **_SUMS),
        next_page=_STRING_OR_NULL,
    ),
    "UsageRow": _object(
        [*_SUMS], **dict.fromkeys((dimension.value for dimension in Dimension), _STRING), **_SUMS
    ),
    "QuotaList": _object(["quotas"], quotas=_list_of("Quota")),
    "Quota": _object(
        ["tenant", "metric", "limit", "used", "reserved", "left", "soft_limit", "reset_time"],
        tenant=_STRING,
        metric={"enum": [*Bucket]},
        limit=_INTEGER,
        used=_INTEGER,
        reserved=_INTEGER,
        left=_INTEGER,
        soft_limit=_INTEGER_OR_NULL,
        reset_time=_STRING_OR_NULL,
    ),
    "Error": _object(
        ["error"],
        error=_object(
            ["message", "type", "param", "code"],
            message=_STRING,
            type=_STRING,
            param=_STRING_OR_NULL,
            code=_STRING,
        ),
    ),
    "Completion": _object(
        ["id", "object", "created", "model", "choices"],
        id=_STRING,
        object={"const": "chat.completion"},
        created=_INTEGER,
        model=_STRING,
        choices=_list_of("Choice"),
        usage=_object(
            ["prompt_tokens", "completion_tokens", "total_tokens"],
            prompt_tokens=_INTEGER,
            completion_tokens=_INTEGER,
            total_tokens=_INTEGER,
            estimated={
                "const": True,
                "description": "Present if the provider did not count, and these are counts of this service.",
            },
            cost={
                "type": "number",
                "minimum": 0,
                "description": "US dollars; absent if the price is unknown.",
            },
        ),
        system_fingerprint=_STRING,
    ),
    "Choice": _object(
        ["index", "message", "logprobs", "finish_reason"],
        index=_INTEGER,
        message=_object(
            ["role", "content", "refusal"],
            role={"const": "assistant"},
            content=_STRING_OR_NULL,
            refusal=_STRING_OR_NULL,
            tool_calls={"type": "array"},
        ),
        logprobs=_OBJECT_OR_NULL,
        finish_reason=_STRING,
    ),
    "ModelList": _object(["object", "data"], object={"const": "list"}, data=_list_of("Model")),
    "EveryModel": _object(
        ["data", "warnings"],
        data=_list_of("Model"),
        warnings={"type": "array", "items": _STRING},
        provider_list_time=_INTEGER,
    ),
    "ConsoleStats": _object(
        ["version", "in_flight", "calls", "codes", "reasons", "seconds", "time_to_first_token", "provider"],
        calls=_INTEGER,
        codes=_OBJECT,
        reasons=_OBJECT,
        output_tokens=_INTEGER,
        cost_usd={"type": "number"},
        in_flight=_INTEGER,
        queued=_INTEGER,
        seconds=_OBJECT,
        time_to_first_token=_OBJECT,
        provider=_OBJECT,
        version=_STRING,
        workers={"type": ["integer", "string"]},
    ),
    "Model": _object(
        ["id", "object", "created", "owned_by"],
        id=_STRING,
        object={"const": "model"},
        created=_INTEGER,
        owned_by=_STRING,
    ),
}
