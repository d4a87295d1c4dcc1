import json
import logging

import pytest
import structlog

from support.records import Lines, record
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.telemetry.log import CALLS_PER_SECOND, CallLog, LogHandler, attach

CANARY = "canary"


def line_of(log_format, **changed):
    lines = Lines(log_format)
    CallLog(lines)(record(**changed))
    (line,) = lines.lines
    return line


def logged(log_format, log):
    """Return the lines that `log` writes."""
    lines = Lines(log_format)
    detach = attach(LogHandler(lines))
    try:
        log(logging.getLogger)
    finally:
        detach()
    return lines.lines


def failed(text):
    try:
        int(text)
    except ValueError as error:
        return error


def test_a_call_is_one_json_object():
    """Durations are rounded, empty fields are left out."""
    line = line_of("json", first_token_s=0.123456)

    assert "\n" not in line
    assert {
        "event": "call",
        "level": "info",
        "id": "request-1",
        "protocol": "grpc",
        "method": "/togetherchat.v1.ChatService/Complete",
        "code": "OK",
        "phase": "responding",
        "model": "some/model",
        "upstream": "together",
        "upstream_request_id": "upstream-1",
        "attempts": 1,
        "previous_attempts": 0,
        "queued_s": 0.0,
        "duration_s": 1.2346,
        "first_token_s": 0.1235,
        "messages_sent": 1,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "usage_estimated": False,
        "caller_key": False,
    } == json.loads(line)


@pytest.mark.parametrize(
    "reason",
    [
        "SERVICE_KEY_REJECTED",
        "SPEND_LIMIT_REACHED",
        "QUOTA_EXHAUSTED",
        "UPSTREAM_TLS_FAILED",
        "INTERNAL_ERROR",
    ],
)
def test_a_failure_that_an_operator_must_act_on_is_an_error(reason):
    """A rejected service key, an account without money or quota, a TLS failure, and an internal error."""
    assert "error" == json.loads(line_of("json", reason=reason))["level"]


def test_a_failure_caused_by_caller_or_provider_is_not_an_error():
    """Its level is info."""
    assert "info" == json.loads(line_of("json", code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED"))["level"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_text_with_line_breaks_stays_on_its_line(log_format):
    """A model's name cannot forge a second line."""
    line = line_of(log_format, model='a\nb"c\u2028d')

    assert 1 == len(line.splitlines())


def test_the_services_own_messages_are_written_in_full():
    """By rule they hold no text of callers or the provider."""
    lines = logged(
        "json",
        lambda logger: logger("togetherchat_server.runtime.app").warning("%d calls did not end in time", 3),
    )

    assert [{"event": "log", "level": "warning", "message": "3 calls did not end in time"}] == [
        json.loads(line) for line in lines
    ]


@pytest.mark.parametrize("library", ["grpc._cython.cygrpc", "uvicorn.error", "asyncio"])
def test_only_the_template_of_a_librarys_message_is_written(library):
    """gRPC logs a header that it cannot decode, even a key: values are left out."""
    lines = logged("json", lambda logger: logger(library).error("Invalid encoding on %s", CANARY))

    assert [f"{library}: Invalid encoding on %s"] == [json.loads(line)["message"] for line in lines]


def test_only_the_first_line_of_a_librarys_message_is_written():
    """asyncio puts the task and its exception into the next lines."""
    lines = logged("json", lambda logger: logger("asyncio").error(f"Task exception\nfuture: {CANARY}"))

    assert ["asyncio: Task exception"] == [json.loads(line)["message"] for line in lines]


@pytest.mark.parametrize(
    ("number", "level"), [(5, "debug"), (25, "info"), (30, "warning"), (50, "critical"), (99, "critical")]
)
def test_an_unknown_level_is_the_next_lower_known_one(number, level):
    """Libraries define levels of their own; no message is lost."""
    lines = Lines("json")
    handler = LogHandler(lines)
    handler.emit(logging.LogRecord("grpc", number, "", 0, "text", (), None))

    assert [level] == [json.loads(line)["level"] for line in lines.lines]


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("name", ["togetherchat_server.frontends", "grpc"])
def test_an_exception_is_logged_by_type_and_location(name, log_format):
    """Its text is left out: it may hold a prompt or a key."""
    error = failed(CANARY)
    (line,) = logged(log_format, lambda logger: logger(name).error("call failed", exc_info=error))

    location = f"test_log.py:{error.__traceback__.tb_lineno} failed"
    assert f"call failed: ValueError in {location}" in line
    assert CANARY not in line


def test_detaching_restores_the_loggers():
    """Their handlers are those from before."""
    before = list(logging.getLogger("grpc").handlers)
    detach = attach(LogHandler(Lines("text")))
    detach()

    assert before == logging.getLogger("grpc").handlers


def test_a_line_names_the_requested_model_if_another_one_ran():
    """For an alias, or a fallback."""
    changed = {"model_requested": "fast"}
    assert "fast" == json.loads(line_of("json", **changed))["model_requested"]
    assert "model_requested" not in json.loads(line_of("json"))


def test_a_line_has_the_providers_rate_limits():
    """By header name, if the provider sent them."""
    limits = (("x-ratelimit-limit", "200"), ("x-ratelimit-remaining", "199"))
    assert dict(limits) == json.loads(line_of("json", rate_limits=limits))["rate_limits"]
    assert "rate_limits" not in json.loads(line_of("json"))


def test_structlogs_own_configuration_is_left_alone():
    """A program that embeds the service keeps its configuration, and the service ignores it."""
    before = structlog.get_config()
    structlog.configure(processors=[lambda *_: "elsewhere"])
    try:
        assert "call" == json.loads(line_of("json"))["event"]
    finally:
        structlog.reset_defaults()

    assert before == structlog.get_config()
    assert not structlog.is_configured()


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.row.floods])
def test_a_flood_of_rejected_calls_is_not_a_flood_of_lines(reason):
    """There is a bound for each reason, tenant and address. A line has the number of those left out."""
    lines = Lines("json")
    log = CallLog(lines)
    for _ in range(1000):
        log(record(code="X", reason=reason.value, attempts=0, client_address="192.0.2.1"))
    log(record(code="X", reason=reason.value, attempts=0, client_address="192.0.2.2"))

    assert 2 <= len(lines.lines) <= 4 * CALLS_PER_SECOND


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": ""},
        {"reason": "INVALID_REQUEST", "attempts": 0},
        {"reason": "CALLER_KEY_REJECTED", "attempts": 1},
    ],
)
def test_every_other_call_has_its_line(changed):
    """A call that reached the provider, or whose request is at fault, is always written."""
    lines = Lines("json")
    log = CallLog(lines)
    for _ in range(100):
        log(record(**changed))

    assert 100 == len(lines.lines)


def test_a_repeated_warning_is_written_once_a_second():
    """The next line of it has the number of those that were left out."""
    lines = Lines("json")
    handler = LogHandler(lines)
    logger = logging.getLogger("togetherchat_server.test_repeated")
    for number in range(500):
        handler.emit(logger.makeRecord(logger.name, logging.WARNING, "f", 1, "cannot read", (), None))
        handler.emit(logger.makeRecord(logger.name, logging.INFO, "f", 1, "note %d", (number,), None))

    assert 1 <= len([line for line in lines.lines if "cannot read" in line]) <= 3
    assert 500 == len([line for line in lines.lines if "note" in line])
