"""The description of the HTTP API, in OpenAPI 3.1.

The schema of requests is generated from the models that parse them; the schemas of responses are
written here. Pure.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final, cast

import orjson

from togetherchat_server.frontends.http.openai import schema

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
            "paths": _paths() | (_console_paths() if console else {}),
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


def _console_paths() -> Json:
    page = {"200": {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}}
    return {
        "/": {"get": {"operationId": "console", "summary": "The console.", "responses": _with_errors(page)}},
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


SCHEMAS: Final[Mapping[str, object]] = {
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
