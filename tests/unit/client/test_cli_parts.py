"""Unit tests of the command: arguments, exit codes, error lines and output."""

import io

import grpc
import pytest

from support.scripted_service import Failure, response_of
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import errors
from togetherchat_client.cli.arguments import UsageError, parse
from togetherchat_client.cli.client_factory import open_client
from togetherchat_client.cli.completion_output import summary
from togetherchat_client.cli.error_report import HINT_BY_REASON, report_error
from togetherchat_client.cli.exit_codes import EXIT_CODE_BY_CLASS, ExitCode, exit_code_of
from togetherchat_client.cli.model_table import WORD_BY_AVAILABILITY, WORD_BY_SOURCE, WORD_BY_STATE
from togetherchat_client.cli.terminal import Terminal, one_line, visible
from togetherchat_server.domain.reasons import Reason


def error_from(failure: Failure) -> errors.TogetherChatError:
    return errors.error_from_status(failure.code, failure.message, failure.trailers(), request_id="r-1")


def reported(error: errors.TogetherChatError) -> str:
    err = io.StringIO()
    report_error(error, Terminal(io.StringIO(), err, color=False), target="chat:1", as_json=False)
    return err.getvalue()


def test_every_error_class_has_an_exit_code():
    """The table has exactly the direct subclasses of TogetherChatError."""
    assert set(errors.TogetherChatError.__subclasses__()) == set(EXIT_CODE_BY_CLASS)


@pytest.mark.parametrize(
    "by_code",
    sorted(
        {*errors.CLASS_BY_CODE.values(), *errors.CLASS_BY_REASON.values()}, key=lambda error: error.__name__
    ),
)
def test_no_error_has_the_exit_code_of_success_or_wrong_usage(by_code):
    """A script that tests the exit code can rely on it."""
    failure = Failure(code=grpc.StatusCode.UNKNOWN)
    assert exit_code_of(by_code(error_from(failure).failure)) not in {ExitCode.DONE, ExitCode.USAGE}


def test_hints_are_for_reasons_of_the_service():
    """A reason that the service renames must be renamed in the table."""
    assert set() == set(HINT_BY_REASON) - set(Reason)


def test_an_error_is_one_line_with_reason_request_and_hint():
    """Line breaks and control characters of the provider's text are replaced."""
    failure = Failure(
        code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", message="no\nsuch \x1b[31mmodel"
    )
    expected = (
        "togetherchat: MODEL_NOT_FOUND: no such ␛[31mmodel"
        " (request r-1, `togetherchat models` lists the models)\n"
    )
    assert expected == reported(error_from(failure))


def test_violations_are_part_of_the_line():
    """The invalid fields are shown without `--json` too."""
    failure = Failure(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_REQUEST",
        message="2 problems",
        violations=(("top_p", "0 to 1"), ("n", "1 to 128")),
    )
    assert (
        "togetherchat: INVALID_REQUEST: 2 problems - top_p: 0 to 1; n: 1 to 128 (request r-1)\n"
        == reported(error_from(failure))
    )


def test_an_overloaded_service_gets_no_hint_about_the_target():
    """The reason shows that the service was reached."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", message="busy")
    assert "togetherchat: OVERLOADED: busy (request r-1)\n" == reported(error_from(failure))


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
def test_control_characters_are_made_visible(text, shown):
    """Letters of all scripts are not changed."""
    assert shown == visible(text)


def test_one_line_joins_all_white_space():
    """Table cells and errors must fit one line."""
    assert "a b c" == one_line(" a\n\tb \r\n c ")


def test_output_that_is_not_a_terminal_gets_plain_text():
    """Notes and progress are not printed, and text is not changed."""
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, color=True)
    terminal.note("only for people")
    with terminal.progress("waiting") as progress:
        progress.label("thinking")
        terminal.write("\x1b[1mHello")
    assert ("\x1b[1mHello", "") == (out.getvalue(), err.getvalue())


def test_a_long_line_is_not_broken():
    """Logs are read line by line."""
    err = io.StringIO()
    Terminal(io.StringIO(), err, color=False).warn("word " * 60)
    assert 1 == err.getvalue().count("\n")


def test_the_summary_names_model_tokens_cost_and_time():
    """One line after each completion of a chat."""
    assert "openai/gpt-oss-120b · 3 + 2 tokens · $0.000002 · 1.2 s" == summary(
        response_of("Hi"), elapsed_s=1.24
    )


def test_the_summary_of_a_stream_has_the_time_to_the_first_token():
    """The service measures the time; a response of Complete has none."""
    response = response_of("Hi")
    response.timings.first_token_duration.FromMilliseconds(340)
    assert summary(response, elapsed_s=1.24).endswith("$0.000002 · first token 0.3 s · 1.2 s")


@pytest.mark.parametrize("seed", ["-1", str(2**64), "x"])
def test_a_seed_that_does_not_fit_is_wrong_usage(seed, capsys):
    """A seed is unsigned and has 64 bits."""
    with pytest.raises(SystemExit):
        parse(["complete", "Hi", f"--seed={seed}"], {})
    assert "--seed" in capsys.readouterr().err


def test_a_summary_marks_estimated_counts():
    """Estimated counts have a `~`, and an unknown cost is left out."""
    response = response_of("Hi")
    response.usage.CopyFrom(chat.Usage(prompt_tokens=3, completion_tokens=2, estimated=True))
    assert "openai/gpt-oss-120b · ~3 + 2 tokens · 0.0 s" == summary(response, elapsed_s=0.0)


def test_every_enum_value_has_a_word():
    """A value that is added to the contract needs a word in the table."""
    assert set(models.Availability.values()) == set(WORD_BY_AVAILABILITY)
    assert set(models.ModelState.values()) == set(WORD_BY_STATE)
    assert set(models.ModelSource.values()) == set(WORD_BY_SOURCE)


def test_the_command_line_overrides_the_environment():
    """Target and model have defaults from the environment."""
    environ = {"TOGETHERCHAT_TARGET": "chat:1", "TOGETHERCHAT_MODEL": "a/b"}
    from_environment = parse(["complete", "Hi"], environ)
    from_line = parse(["complete", "Hi", "--target", "chat:2", "-m", "c/d"], environ)
    assert [("chat:1", "a/b"), ("chat:2", "c/d")] == [
        (each.target, each.model) for each in (from_environment, from_line)
    ]


def test_no_key_is_an_argument():
    """Every process of the machine can read the arguments."""
    with pytest.raises(SystemExit):
        parse(["complete", "Hi", "--key", "tc-1"], {})


def test_an_empty_key_in_the_environment_is_ignored():
    """`TOGETHERCHAT_KEY= togetherchat …` sends no key."""
    open_client(parse(["health"], {}), {"TOGETHERCHAT_KEY": ""}).close()


def test_an_empty_key_file_is_wrong_usage(tmp_path):
    """A mounted secret that is still empty is reported before any call."""
    path = tmp_path / "key"
    path.write_text("\n")
    with pytest.raises(UsageError, match="key: must not be empty"):
        open_client(parse(["health", "--key-file", str(path)], {}), {})
