import json
import logging

import pytest

from support.records import record
from togetherchat_server.observe.log import CallLog, LogHandler, attach

CANARY = "canary"


class Lines:
    """A writer that keeps its lines."""

    def __init__(self):
        self.lines = []

    def write(self, line):
        self.lines.append(line)


def line_of(form, **changed):
    lines = Lines()
    CallLog(lines, form)(record(**changed))
    (line,) = lines.lines
    return line


def logged(form, log):
    """The lines that `log(logger_of)` leaves."""
    lines = Lines()
    detach = attach(LogHandler(lines, form))
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
        "front": "rpc",
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


def test_a_call_is_one_line_of_words():
    """The text form says the same in words, shortest first, and leaves out what is nothing."""
    assert "Complete OK some/model 1235ms tokens=3+4 together request-1" == line_of("text")
    assert (
        "Complete UNAVAILABLE UPSTREAM_TRUNCATED some/model 1235ms first=120ms attempts=2 together request-1"
    ) == line_of(
        "text",
        code="UNAVAILABLE",
        reason="UPSTREAM_TRUNCATED",
        first_token_s=0.12,
        attempts=2,
        prompt_tokens=None,
        completion_tokens=None,
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_odd_text_stays_on_its_line(form):
    """A model's name with line ends in it cannot forge a second line."""
    line = line_of(form, model='a\nb"c\u2028d')

    assert 1 == len(line.splitlines())


def test_the_services_own_words_are_written_in_full():
    """What the service logs holds no foreign text, by rule; it is written as it is."""
    lines = logged(
        "json", lambda logger: logger("togetherchat_server.app").warning("%d calls did not end in time", 3)
    )

    assert [{"event": "log", "level": "warning", "message": "3 calls did not end in time"}] == [
        json.loads(line) for line in lines
    ]


@pytest.mark.parametrize("library", ["grpc._cython.cygrpc", "aiohttp.server", "asyncio"])
def test_of_a_librarys_words_only_the_template_is_written(library):
    """gRPC prints a header that it cannot read, a key too: the values stay out."""
    lines = logged("text", lambda logger: logger(library).error("Invalid encoding on %s", CANARY))

    assert [f"{library}: Invalid encoding on %s"] == lines


def test_of_a_message_of_many_lines_the_first_is_written():
    """asyncio spells out the task and its exception in the lines after it."""
    lines = logged("text", lambda logger: logger("asyncio").error(f"Task exception\nfuture: {CANARY}"))

    assert ["asyncio: Task exception"] == lines


@pytest.mark.parametrize("name", ["togetherchat_server.fronts", "grpc"])
def test_an_exception_is_its_type_and_its_place(name):
    """The text of an exception may be a prompt or a key; where it arose is what mends it."""
    error = failed(CANARY)
    (line,) = logged("text", lambda logger: logger(name).error("call failed", exc_info=error))

    place = f"test_log.py:{error.__traceback__.tb_lineno} failed"
    assert line.endswith(f"call failed: ValueError in {place}")
    assert CANARY not in line


def test_nothing_is_left_attached():
    """After the stop loggers are as they were before."""
    before = list(logging.getLogger("grpc").handlers)
    detach = attach(LogHandler(Lines(), "text"))
    detach()

    assert before == logging.getLogger("grpc").handlers


def test_a_line_says_what_was_asked_for_where_another_model_answered():
    """An alias, or a model that gave way."""
    asked = {"model_asked": "fast"}
    assert "fast" == json.loads(line_of("json", **asked))["model_asked"]
    assert " some/model asked=fast " in line_of("text", **asked)
    assert "model_asked" not in json.loads(line_of("json"))
    assert "asked=" not in line_of("text")


def test_a_line_tells_the_providers_limits_where_it_told_them():
    """By the names of its headers."""
    limits = (("x-ratelimit-limit", "200"), ("x-ratelimit-remaining", "199"))
    assert dict(limits) == json.loads(line_of("json", rate_limits=limits))["rate_limits"]
    assert "rate_limits" not in json.loads(line_of("json"))
