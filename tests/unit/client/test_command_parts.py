"""The parts of the command that decide without a terminal."""

import io

import grpc
import pytest

from support.scripted_service import Failure, answer
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import errors
from togetherchat_client.command.answers import summary_of
from togetherchat_client.command.arguments import UsageError, parse
from togetherchat_client.command.connection import open_client
from togetherchat_client.command.failures import EXIT_BY_CLASS, HINT_BY_REASON, Exit, exit_of, report
from togetherchat_client.command.model_table import WORD_BY_AVAILABILITY, WORD_BY_STATE
from togetherchat_client.command.terminal import Terminal, one_line, visible
from togetherchat_server.errors import Kind


def failed(failure: Failure) -> errors.TogetherChatError:
    return errors.error_of(failure.code, failure.message, failure.trailers(), request_id="r-1")


def reported(error: errors.TogetherChatError) -> str:
    err = io.StringIO()
    report(error, Terminal(io.StringIO(), err, color=False), target="chat:1", as_json=False)
    return err.getvalue()


def test_every_class_of_failure_has_an_exit_code():
    """The direct children of TogetherChatError, no more and no less."""
    assert set(errors.TogetherChatError.__subclasses__()) == set(EXIT_BY_CLASS)


@pytest.mark.parametrize(
    "by_code",
    sorted(
        {*errors.CLASS_BY_CODE.values(), *errors.CLASS_BY_REASON.values()}, key=lambda error: error.__name__
    ),
)
def test_no_failure_ends_like_a_success_or_a_wrong_usage(by_code):
    """A script that asks `$? -eq 0` is never lied to."""
    failure = Failure(code=grpc.StatusCode.UNKNOWN)
    assert exit_of(by_code(failed(failure).failure)) not in {Exit.DONE, Exit.USAGE}


def test_hints_are_for_reasons_that_the_service_says():
    """A reason that was renamed there must not linger here."""
    assert set() == set(HINT_BY_REASON) - set(Kind)


def test_a_failure_is_one_line_with_reason_request_and_hint():
    """Whatever the provider's text looked like."""
    failure = Failure(
        code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", message="no\nsuch \x1b[31mmodel"
    )
    expected = (
        "togetherchat: MODEL_NOT_FOUND: no such ␛[31mmodel"
        " (request r-1, `togetherchat models` lists what there is)\n"
    )
    assert expected == reported(failed(failure))


def test_violations_are_part_of_the_line():
    """Where to look, without `--json`."""
    failure = Failure(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_REQUEST",
        message="2 problems",
        violations=(("top_p", "0 to 1"), ("n", "1 to 128")),
    )
    assert (
        "togetherchat: INVALID_REQUEST: 2 problems - top_p: 0 to 1; n: 1 to 128 (request r-1)\n"
        == reported(failed(failure))
    )


def test_an_overloaded_service_is_not_asked_whether_it_runs():
    """It has a reason of its own: somebody answered."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", message="busy")
    assert "togetherchat: OVERLOADED: busy (request r-1)\n" == reported(failed(failure))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\tand tabs", "plain\n\tand tabs"),
        ("dos\r\nlines", "dos\nlines"),
        ("\x1b[2J", "␛[2J"),
        ("over\rwritten", "over␍written"),
        ("bell\x07 null\x00 delete\x7f", "bell␇ null␀ delete�"),
        ("\x9b31m", "�31m"),
        ("a\u202eb\u2066c", "a�b�c"),
        ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
    ],
)
def test_what_would_steer_a_terminal_is_shown(text, shown):
    """Letters of all languages are left alone."""
    assert shown == visible(text)


def test_one_line_is_one_line():
    """For tables and errors."""
    assert "a b c" == one_line(" a\n\tb \r\n c ")


def test_a_terminal_is_asked_once_whether_it_is_one():
    """A buffer is none: nothing is dimmed, nothing moves."""
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, color=True)
    terminal.note("only for people")
    with terminal.waiting("waiting") as waiting:
        waiting.label("thinking")
        terminal.write("\x1b[1mHello")
    assert ("\x1b[1mHello", "") == (out.getvalue(), err.getvalue())


def test_a_long_line_is_not_broken():
    """A log reads lines, however long."""
    err = io.StringIO()
    Terminal(io.StringIO(), err, color=False).warn("word " * 60)
    assert 1 == err.getvalue().count("\n")


def test_the_summary_names_model_tokens_cost_and_time():
    """What one wants to know after an answer, in one line."""
    assert "openai/gpt-oss-120b · 3 + 2 tokens · $0.000002 · 1.2 s" == summary_of(
        answer("Hi"), elapsed_s=1.24
    )


def test_a_summary_of_a_guess_says_so():
    """Counts that the provider did not send are marked, a cost that nobody knows is left out."""
    response = answer("Hi")
    response.usage.CopyFrom(chat.Usage(prompt_tokens=3, completion_tokens=2, estimated=True))
    assert "openai/gpt-oss-120b · ~3 + 2 tokens · 0.0 s" == summary_of(response, elapsed_s=0.0)


def test_words_of_the_table_are_total():
    """A value that is added to the contract gets its word."""
    assert set(models.Availability.values()) == set(WORD_BY_AVAILABILITY)
    assert set(models.ModelState.values()) == set(WORD_BY_STATE)


def test_defaults_come_from_the_environment_and_the_command_line_wins():
    """The nearest word, as everywhere."""
    environ = {"TOGETHERCHAT_TARGET": "chat:1", "TOGETHERCHAT_MODEL": "a/b"}
    from_environment = parse(["complete", "Hi"], environ)
    from_line = parse(["complete", "Hi", "--target", "chat:2", "-m", "c/d"], environ)
    assert [("chat:1", "a/b"), ("chat:2", "c/d")] == [
        (each.target, each.model) for each in (from_environment, from_line)
    ]


def test_no_key_is_an_argument():
    """Every process of the machine can read those."""
    with pytest.raises(SystemExit):
        parse(["complete", "Hi", "--key", "tc-1"], {})


def test_an_empty_key_in_the_environment_is_none():
    """`TOGETHERCHAT_KEY= togetherchat …` is how one switches it off."""
    open_client(parse(["health"], {}), {"TOGETHERCHAT_KEY": ""}).close()


def test_an_empty_key_file_is_wrong_usage(tmp_path):
    """A mounted secret that is not there yet is said, not sent."""
    path = tmp_path / "key"
    path.write_text("\n")
    with pytest.raises(UsageError, match="key is empty"):
        open_client(parse(["health", "--key-file", str(path)], {}), {})
