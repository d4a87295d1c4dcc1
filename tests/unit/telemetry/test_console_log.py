import logging
import os
import pty
import re

import pytest

from support.records import Lines, record
from togetherchat_server.telemetry.log import CallLog, LogHandler, logger_of
from togetherchat_server.telemetry.log_writer import LogWriter

ESCAPE = "\x1b"
STYLES = re.compile(r"\x1b\[\d*m")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A terminal that takes colours, and nobody who minds them."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


def line_of(*, terminal=False, **changed):
    lines = Lines(terminal=terminal)
    CallLog(logger_of(lines, "text"))(record(**changed))
    (line,) = lines.lines
    return line


def message(text):
    lines = Lines()
    handler = LogHandler(logger_of(lines, "text"))
    handler.emit(logging.LogRecord("togetherchat_server.runtime.app", logging.WARNING, "", 0, text, (), None))
    (line,) = lines.lines
    return line


def test_a_call_is_one_line_of_words():
    """What one looks for first stands in columns, the rest behind it by name; what is nothing is left out."""
    assert (
        "[info    ] Complete           1235ms OK          some/model tokens=3+4 upstream=together id=request-1"
    ) == line_of()
    assert (
        "[info    ] chat.completions     50ms 503         some/model reason=UPSTREAM_TRUNCATED first=20ms"
        " attempts=2 upstream=together id=request-1"
    ) == line_of(
        method="chat.completions",
        code="503",
        reason="UPSTREAM_TRUNCATED",
        duration_s=0.05,
        first_token_s=0.02,
        attempts=2,
        prompt_tokens=None,
        completion_tokens=None,
    )


def test_columns_stand_below_each_other():
    """Whatever was called, however it ended, however long it took."""
    lines = [
        line_of(),
        line_of(method="/togetherchat.v1.ChatService/StreamComplete", code="UNAVAILABLE", duration_s=599.9),
        line_of(method="", duration_s=0.0001, code="INTERNAL", reason="INTERNAL_ERROR"),
    ]

    assert 1 == len({line.index("some/model") for line in lines})


def test_a_line_says_whose_call_it_was_what_was_asked_for_and_its_trace():
    """Where there is a tenant, an alias, a trace."""
    line = line_of(tenant="a-team", model_asked="fast", trace="0af7")

    assert {"tenant=a-team", "asked=fast", "trace=0af7"} <= set(line.split())


def test_what_an_operator_must_mend_stands_out():
    """By its level."""
    assert line_of(reason="INTERNAL_ERROR").startswith("[error   ] ")


def test_what_is_no_call_is_its_level_and_its_words():
    """What the service says beside calls."""
    assert "[warning ] 3 calls did not end in time" == message("3 calls did not end in time")


@pytest.mark.parametrize(
    "odd", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a\x0bb", f"a{ESCAPE}[2Jb", "a\x9b2Jb"]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_ends_a_line_or_orders_the_terminal(odd, terminal):
    """Neither of a caller, as a model's name, nor of whoever else has a word in a line."""
    for line in (
        line_of(terminal=terminal, model=odd, model_asked=odd, id=odd, tenant=odd, code=odd, method=odd),
        message(odd),
    ):
        assert 1 == len(line.splitlines())
        plain = STYLES.sub("", line) if terminal else line
        assert plain.isprintable()


def test_a_name_cannot_pose_as_another_word():
    """A model that calls itself a model and a tenant is in quotes."""
    words = line_of(model='x tenant="root"', id="a=b")

    assert ' "x tenant=\\"root\\"" ' in words
    assert words.endswith(' id="a=b"')


def test_a_name_without_end_is_cut():
    """A line is as long as its fields, each of which has a bound."""
    assert 1000 > len(line_of(model="m" * 100_000))


@pytest.mark.parametrize(
    ("terminal", "variables", "coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_wants_them(environment, terminal, variables, coloured):
    """A file and a pipe get none, nor does who has set NO_COLOR; the words are the same."""
    for name, value in variables.items():
        environment.setenv(name, value)
    line = line_of(terminal=terminal)

    assert coloured is (ESCAPE in line)
    assert line_of() == STYLES.sub("", line)


def test_a_terminal_is_known_by_its_stream(tmp_path):
    """As the operating system says."""
    near, far = pty.openpty()
    with os.fdopen(near), os.fdopen(far, "w") as terminal, (tmp_path / "log").open("w") as file:
        found = []
        for stream in (terminal, file):
            writer = LogWriter(stream)
            found.append(writer.terminal)
            writer.close()

    assert [True, False] == found
