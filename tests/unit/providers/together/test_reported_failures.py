"""Failures that a provider reports with status 200: in the body, in an event, or inside a choice."""

import json
from collections.abc import Callable

import pytest

from support import openai
from support.translation import translate
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.providers.together import errors, schema
from togetherchat_server.providers.together.response import from_schema

Json = dict[str, object]

INVALID = Reason.UPSTREAM_INVALID_REQUEST
REJECTED = "the provider does not accept the request"


def unary(body: object) -> ServiceError:
    """The failure of a unary response."""
    with pytest.raises(ServiceError) as failure:
        from_schema(schema.parse_completion(json.dumps(body).encode()))
    return failure.value


def first_event(body: object) -> ServiceError:
    """The failure of a stream whose first event is this one."""
    outcome = translate([b"data: %s\n\n" % json.dumps(body).encode(), openai.event(openai.DONE)])
    assert outcome.failure is not None
    assert [] == outcome.events
    return outcome.failure


def later_event(body: object) -> ServiceError:
    """The failure of a stream that fails after a text."""
    reads = [openai.event(openai.chunk("Hi")), b"data: %s\n\n" % json.dumps(body).encode()]
    outcome = translate([*reads, openai.event(openai.DONE)])
    assert outcome.failure is not None
    assert ["started", "delta"] == [event.WhichOneof("event") for event in outcome.events]
    return outcome.failure


WAYS = [unary, first_event, later_event]


def choice(**members: object) -> Json:
    """A body, and a chunk, with one choice that has these members."""
    return {**openai.HEAD, "choices": [{"index": 0, **members}]}


IN_CHOICES = [
    pytest.param(
        choice(finish_reason="error", error={"code": 502, "message": "Upstream died"}, delta={"content": ""}),
        Reason.UPSTREAM_BAD_GATEWAY,
        id="OpenRouter",
    ),
    pytest.param(
        choice(finish_reason="error", message={"content": "Hi"}, delta={"content": "Hi"}),
        Reason.UPSTREAM_STREAM_ERROR,
        id="finish reason alone",
    ),
    pytest.param(
        choice(finish_reason=None, error={"code": 429, "message": "slow down"}, delta={}),
        Reason.RATE_LIMITED,
        id="error alone",
    ),
    pytest.param(
        choice(finish_reason="stop", error={"code": 503}, message={"content": "Hi"}, delta={"content": "Hi"}),
        Reason.UPSTREAM_OVERLOADED,
        id="error beside a finish reason and a text",
    ),
    pytest.param(choice(error="Upstream died"), Reason.UPSTREAM_STREAM_ERROR, id="error as a text"),
    pytest.param(
        choice(error={"message": "x", "type": "invalid_request_error"}), INVALID, id="type of the error"
    ),
    pytest.param(
        {**openai.HEAD, "choices": [openai.choice({"content": "Hi"}), {"index": 1, "error": {"code": 500}}]},
        Reason.UPSTREAM_INTERNAL,
        id="second of two choices",
    ),
    pytest.param(
        {**openai.HEAD, "error": {"code": 502}, "choices": [{"index": 0, "finish_reason": "error"}]},
        Reason.UPSTREAM_BAD_GATEWAY,
        id="beside the choices",
    ),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("body", "reason"), IN_CHOICES)
def test_a_failure_inside_a_choice_fails_the_call(
    way: Callable[[object], ServiceError], body: object, reason: Reason
):
    """bifrost#5425, nodetool PR#5755, genkit PR#6259: it is not a completion with status OK."""
    assert reason == way(body).reason


IN_BODIES = [
    pytest.param({"error": {"message": "no", "code": 400}}, INVALID, id="wrapped"),
    pytest.param([{"error": {"message": "no", "code": 400}}], INVALID, id="in a list"),
    pytest.param({"object": "error", "message": "no", "code": 400}, INVALID, id="vLLM"),
    pytest.param({"message": "no", "code": 400}, INVALID, id="bare, with a number"),
    pytest.param({"message": "no", "type": "server_error"}, Reason.UPSTREAM_INTERNAL, id="bare, with a type"),
    pytest.param({"message": "no", "status": 503}, Reason.UPSTREAM_OVERLOADED, id="bare, with a status"),
    pytest.param(
        {"message": "no", "error_type": "dynamic_token_limited"}, Reason.RATE_LIMITED_TOKENS, id="error_type"
    ),
    pytest.param({"detail": "no"}, Reason.UPSTREAM_STREAM_ERROR, id="FastAPI, text"),
    pytest.param({"detail": [{"loc": ["body"], "msg": "no"}]}, Reason.UPSTREAM_STREAM_ERROR, id="FastAPI"),
    pytest.param({"errors": [{"message": "no"}]}, Reason.UPSTREAM_STREAM_ERROR, id="errors"),
    pytest.param({"success": False, "errors": []}, Reason.UPSTREAM_STREAM_ERROR, id="success is false"),
    pytest.param({"error": {"code": 503}, "choices": "none"}, Reason.UPSTREAM_OVERLOADED, id="odd choices"),
    pytest.param({"error": {"code": 503}, "choices": []}, Reason.UPSTREAM_OVERLOADED, id="no choices"),
    pytest.param(
        {"error": {"code": 503}, "choices": [{"message": None, "delta": 7}]},
        Reason.UPSTREAM_OVERLOADED,
        id="a choice of no shape",
    ),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("body", "reason"), IN_BODIES)
def test_every_shape_of_a_failure_has_its_reason(
    way: Callable[[object], ServiceError], body: object, reason: Reason
):
    """A body or an event that describes a failure is not malformed, and not left out."""
    assert reason == way(body).reason


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "ping"},
        {"object": "chat.completion.chunk", "choices": None},
        {"choices": [], "error": None},
        {"choices": [], "error": {}},
        {"choices": [], "error": ""},
        {"choices": [], "error": False},
        {"choices": [{"index": 0, "error": None, "delta": {}}]},
        {
            "choices": [
                {"index": 0, "error": {}, "delta": {}, "content_filter_result": {"error": {"code": "x"}}}
            ]
        },
        {"message": "still loading"},
        {"message": "still loading", "type": "status", "status": 200},
        {"code": 0},
    ],
)
def test_what_is_not_a_failure(body: Json):
    """Events without choices, and empty errors, do not fail a stream."""
    reads = [b"data: %s\n\n" % json.dumps(body).encode(), openai.event(openai.chunk("Hi"))]
    end = [openai.event(openai.chunk(finish_reason="stop")), openai.event(openai.DONE)]

    assert translate([*reads, *end]).failure is None


@pytest.mark.parametrize("way", WAYS)
def test_the_message_and_the_param_reach_the_caller(way: Callable[[object], ServiceError]):
    """Both are sanitised; the message is quoted if the request caused the failure."""
    error = {"code": 400, "message": "top_p:\nmust be\u202e below 1", "param": "top_p\n"}

    for body in ({"error": error}, choice(error=error)):
        failure = way(body)
        assert f"{REJECTED}: top_p: must be below 1" == failure.message
        assert (FieldViolation(field="top_p", description="top_p: must be below 1"),) == failure.violations


def test_a_failure_of_the_provider_has_our_message_alone():
    """The text of a provider that died describes its insides, not the request."""
    failure = unary(choice(finish_reason="error", error={"code": 502, "message": "10.0.0.7 died"}))

    assert "the provider's gateway received no valid response" == failure.message
    assert () == failure.violations


def response(body: bytes, content_type: str = "application/json", status: int = 400) -> ServiceError:
    """The failure for a response with an error status."""
    return errors.from_response(
        status=status,
        headers={"content-type": content_type},
        body=body,
        caller_brought_key=False,
        now_wall_s=0,
        model="some/model",
    )


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (
            {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "field required"}]},
            "messages: field required",
            "messages",
        ),
        ({"detail": "max_tokens is too large"}, "max_tokens is too large", ""),
        ({"detail": {"message": "no such option"}}, "no such option", ""),
        ([{"error": {"code": 400, "message": "bad schema"}}], "bad schema", ""),
        ({"errors": [{"message": "bad schema", "field": "tools[0]"}]}, "tools[0]: bad schema", "tools[0]"),
        ({"errors": {"Model": ["is required"]}}, "Model: is required", "Model"),
        ({"error": {"message": "bad value", "param": "seed"}}, "bad value", "seed"),
        ({"error": {"message": "bad value", "param": None}}, "bad value", ""),
    ],
)
def test_the_reason_of_a_rejected_request_is_not_lost(body: object, message: str, param: str):
    """Whatever shape it has, the text names the problem, and the param its field."""
    failure = response(json.dumps(body).encode())

    assert (INVALID, f"{REJECTED}: {message}") == (failure.reason, failure.message)
    assert ([FieldViolation(field=param, description=message)] if param else []) == [*failure.violations]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_plain_text_is_quoted(status: int):
    """A text with the type of a text describes the request. It is on one line, and bounded."""
    failure = response(b"tools are\nnot supported" + b"x" * 9_000, "text/plain; charset=utf-8", status)

    assert ": tools are not supportedxxx" in failure.message
    assert len(failure.message) < 400


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"<html>canary</html>", "text/plain", 400),
        (b" \n<!DOCTYPE html><p>canary", "text/plain", 413),
        (b"<html>canary</html>", "text/html", 400),
        (b"canary", "", 400),
        (b"canary", "application/octet-stream", 400),
        (b"canary", "text/plain", 500),
        (b"canary", "text/plain", 403),
    ],
)
def test_pages_and_texts_of_an_edge_are_not_quoted(body: bytes, content_type: str, status: int):
    """They describe the edge, not the request."""
    assert "canary" not in response(body, content_type, status).message


def test_no_key_is_in_a_param():
    """The param is masked and cut, as the message is."""
    body = {"error": {"message": "bad", "param": "tgp_v1_" + "k" * 40 + " " + "x" * 1_000}}
    (violation,) = response(json.dumps(body).encode()).violations

    assert violation.field.startswith("[key] xxx")
    assert errors.PARAM_CHARACTERS_MAX == len(violation.field)
