import json
import logging

import pytest
import structlog

from support.records import Lines, record
from togetherchat_server.telemetry.log import CallLog, LogHandler, attach, logger_of

CANARY = "canary"


def line_of(form, **changed):
    lines = Lines()
    CallLog(logger_of(lines, form))(record(**changed))
    (line,) = lines.lines
    return line


def logged(form, log):
    """The lines that `log(logger_of)` leaves."""
    lines = Lines()
    detach = attach(LogHandler(logger_of(lines, form)))
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
    """Keys and values, durations rounded; what never came to be is left out."""
    line = line_of("json", first_token_s=0.123456)

    assert "\n" not in line
    assert {
        "event": "call",
        "level": "info",
        "id": "request-1",
        "protocol": "grpc",
        "method": "/togetherchat.v1.ChatService/Complete",
        "code": "OK",
        "phase": "answering",
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


@pytest.mark.parametrize("reason", ["SERVICE_KEY_REJECTED", "INTERNAL_ERROR", "UPSTREAM_TLS_FAILED"])
def test_what_an_operator_must_mend_is_an_error(reason):
    """A key of ours that is refused, a fault of ours, a TLS set-up: these wake somebody."""
    assert "error" == json.loads(line_of("json", reason=reason))["level"]


def test_what_callers_and_providers_do_is_no_error():
    """A failed call is news, not an alarm."""
    assert "info" == json.loads(line_of("json", code="UNAVAILABLE", reason="UPSTREAM_OVERLOADED"))["level"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_odd_text_stays_on_its_line(form):
    """A model's name with line ends in it cannot forge a second line."""
    line = line_of(form, model='a\nb"c\u2028d')

    assert 1 == len(line.splitlines())


def test_the_services_own_words_are_written_in_full():
    """What the service logs holds no foreign text, by rule; it is written as it is."""
    lines = logged(
        "json",
        lambda logger: logger("togetherchat_server.runtime.app").warning("%d calls did not end in time", 3),
    )

    assert [{"event": "log", "level": "warning", "message": "3 calls did not end in time"}] == [
        json.loads(line) for line in lines
    ]


@pytest.mark.parametrize("library", ["grpc._cython.cygrpc", "uvicorn.error", "asyncio"])
def test_of_a_librarys_words_only_the_template_is_written(library):
    """gRPC prints a header that it cannot read, a key too: the values stay out."""
    lines = logged("json", lambda logger: logger(library).error("Invalid encoding on %s", CANARY))

    assert [f"{library}: Invalid encoding on %s"] == [json.loads(line)["message"] for line in lines]


def test_of_a_message_of_many_lines_the_first_is_written():
    """asyncio spells out the task and its exception in the lines after it."""
    lines = logged("json", lambda logger: logger("asyncio").error(f"Task exception\nfuture: {CANARY}"))

    assert ["asyncio: Task exception"] == [json.loads(line)["message"] for line in lines]


@pytest.mark.parametrize(
    ("number", "level"), [(5, "debug"), (25, "info"), (30, "warning"), (50, "critical"), (99, "critical")]
)
def test_a_level_that_has_no_name_is_the_one_below_it(number, level):
    """Libraries make up levels of their own: no line is lost to that."""
    lines = Lines()
    handler = LogHandler(logger_of(lines, "json"))
    handler.emit(logging.LogRecord("grpc", number, "", 0, "odd", (), None))

    assert [level] == [json.loads(line)["level"] for line in lines.lines]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("name", ["togetherchat_server.frontends", "grpc"])
def test_an_exception_is_its_type_and_its_place(name, form):
    """The text of an exception may be a prompt or a key; where it arose is what mends it."""
    error = failed(CANARY)
    (line,) = logged(form, lambda logger: logger(name).error("call failed", exc_info=error))

    place = f"test_log.py:{error.__traceback__.tb_lineno} failed"
    assert f"call failed: ValueError in {place}" in line
    assert CANARY not in line


def test_nothing_is_left_attached():
    """After the stop loggers are as they were before."""
    before = list(logging.getLogger("grpc").handlers)
    detach = attach(LogHandler(logger_of(Lines(), "text")))
    detach()

    assert before == logging.getLogger("grpc").handlers


def test_a_line_says_what_was_asked_for_where_another_model_answered():
    """An alias, or a model that gave way."""
    asked = {"model_asked": "fast"}
    assert "fast" == json.loads(line_of("json", **asked))["model_asked"]
    assert "model_asked" not in json.loads(line_of("json"))


def test_a_line_tells_the_providers_limits_where_it_told_them():
    """By the names of its headers."""
    limits = (("x-ratelimit-limit", "200"), ("x-ratelimit-remaining", "199"))
    assert dict(limits) == json.loads(line_of("json", rate_limits=limits))["rate_limits"]
    assert "rate_limits" not in json.loads(line_of("json"))


def test_structlogs_own_configuration_is_left_alone():
    """Whoever embeds the service and has configured structlog keeps what was configured, and we ours."""
    before = structlog.get_config()
    structlog.configure(processors=[lambda *_: "elsewhere"])
    try:
        assert "call" == json.loads(line_of("json"))["event"]
    finally:
        structlog.reset_defaults()

    assert before == structlog.get_config()
    assert not structlog.is_configured()
