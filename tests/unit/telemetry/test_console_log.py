import logging
import re

import pytest

from support.records import Lines, record
from togetherchat_server.telemetry.log import CallLog, LogHandler

ESCAPE = "\x1b"
STYLES = re.compile(r"\x1b\[\d*m")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A terminal with colours, and NO_COLOR unset."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


def line_of(*, terminal=False, **changed):
    lines = Lines("text", terminal=terminal)
    CallLog(lines)(record(**changed))
    (line,) = lines.lines
    return line


def message(text):
    lines = Lines("text")
    handler = LogHandler(lines)
    handler.emit(logging.LogRecord("togetherchat_server.runtime.app", logging.WARNING, "", 0, text, (), None))
    (line,) = lines.lines
    return line


def test_a_call_is_one_line():
    """Columns first, then values by name; empty values are left out."""
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


def test_columns_are_aligned():
    """For every method, status and duration."""
    lines = [
        line_of(),
        line_of(method="/togetherchat.v1.ChatService/StreamComplete", code="UNAVAILABLE", duration_s=599.9),
        line_of(method="", duration_s=0.0001, code="INTERNAL", reason="INTERNAL_ERROR"),
    ]

    assert 1 == len({line.index("some/model") for line in lines})


def test_a_line_names_the_tenant_the_requested_model_and_the_trace():
    """If there is a tenant, an alias or fallback, and a trace."""
    line = line_of(tenant="a-team", model_requested="fast", trace="0af7")

    assert {"tenant=a-team", "requested=fast", "trace=0af7"} <= set(line.split())


def test_a_failure_that_an_operator_must_act_on_is_an_error():
    """Its level stands out."""
    assert line_of(reason="INTERNAL_ERROR").startswith("[error   ] ")


def test_a_message_is_its_level_and_its_text():
    """Messages that are not about a call."""
    assert "[warning ] 3 calls did not end in time" == message("3 calls did not end in time")


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a\x0bb", f"a{ESCAPE}[2Jb", "a\x9b2Jb"]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_breaks_a_line_or_controls_the_terminal(text, terminal):
    """Neither a caller's, such as a model's name, nor a message's."""
    for line in (
        line_of(
            terminal=terminal, model=text, model_requested=text, id=text, tenant=text, code=text, method=text
        ),
        message(text),
    ):
        assert 1 == len(line.splitlines())
        plain = STYLES.sub("", line) if terminal else line
        assert plain.isprintable()


def test_a_value_cannot_look_like_another_value():
    """A model's name with a space or an equals sign is quoted."""
    line = line_of(model='x tenant="root"', id="a=b")

    assert ' "x tenant=\\"root\\"" ' in line
    assert line.endswith(' id="a=b"')


def test_a_long_name_is_cut():
    """Every value has a bound, and so has the line."""
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
def test_only_terminals_get_colours(environment, terminal, variables, coloured):
    """Unless NO_COLOR is set or the terminal is dumb; the text is the same."""
    for name, value in variables.items():
        environment.setenv(name, value)
    line = line_of(terminal=terminal)

    assert coloured is (ESCAPE in line)
    assert line_of() == STYLES.sub("", line)
