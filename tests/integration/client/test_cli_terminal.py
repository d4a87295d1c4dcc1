"""Tests of the command on a pseudo-terminal."""

import asyncio
import json
import re
import signal

import grpc

from support.client_terminal import terminal
from support.scripted_service import (
    MODEL,
    Failure,
    ScriptedService,
    delta,
    response_of,
    serving,
    started,
    stream_of,
)
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import assistant, system, user

CTRL_C = "\x03"
CTRL_D = "\x04"


async def test_ctrl_c_stops_a_completion_and_the_chat_continues():
    """The partial completion is part of the next request."""
    scripted = ScriptedService(
        StreamComplete=[
            stream_of("Good ", "morning."),
            [started(), delta("Once upon"), asyncio.Event()],
            stream_of("The end."),
        ]
    )
    async with serving(scripted) as target, terminal(target, "chat", "-s", "Be brief.") as screen:
        await screen.until("> ")
        screen.type("Hello\n")
        await screen.until("Good morning.")
        await screen.until("3 + 2 tokens")
        await screen.until("> ")
        screen.type("Tell me a story\n")
        await screen.until("Once upon")
        await scripted.waiting.wait()
        screen.type(CTRL_C)
        await screen.until("stopped; the partial completion is kept")
        await scripted.cancelled.wait()
        await screen.until("> ")
        screen.type("And then?\n")
        await screen.until("The end.")
        await screen.until("> ")
        screen.type(CTRL_D)
        assert 0 == await screen.ended()
    expected = [
        system("Be brief."),
        user("Hello"),
        assistant("Good morning."),
        user("Tell me a story"),
        assistant("Once upon"),
        user("And then?"),
    ]
    assert expected == list(scripted.seen[2].request.messages)


async def test_a_chat_continues_after_a_failure():
    """The error is one line, the failed message is dropped, and the next one is sent."""
    failure = Failure(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="RATE_LIMITED", message="slow down", pushback_ms=-1
    )
    scripted = ScriptedService(StreamComplete=[[failure], stream_of("Hello.")])
    async with serving(scripted) as target, terminal(target, "chat") as screen:
        await screen.until("> ")
        screen.type("Hi\n")
        await screen.until("RATE_LIMITED: slow down")
        await screen.until("> ")
        screen.type("Hi again\n")
        await screen.until("Hello.")
        await screen.until("> ")
        screen.type("/exit\n")
        assert 0 == await screen.ended()
    assert [user("Hi again")] == list(scripted.seen[1].request.messages)


async def test_ctrl_c_at_the_prompt_discards_the_line():
    """Only Ctrl-D ends the chat."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hello.")])
    async with serving(scripted) as target, terminal(target, "chat") as screen:
        await screen.until("> ")
        screen.type("never mi")
        await screen.until("never mi")
        await screen.press_until(CTRL_C, "> ")
        screen.type("Hi\n")
        await screen.until("Hello.")
        await screen.until("> ")
        screen.type(CTRL_D)
        assert 0 == await screen.ended()
    assert [user("Hi")] == list(scripted.seen[0].request.messages)


async def test_many_interrupts_in_a_row_do_not_end_a_chat():
    """Neither while a completion streams nor while the previous Ctrl-C is handled."""
    scripted = ScriptedService(
        StreamComplete=[[started(), delta("Once upon"), asyncio.Event()], stream_of("Hello.")]
    )
    async with serving(scripted) as target, terminal(target, "chat") as screen:
        await screen.until("> ")
        screen.type("A story\n")
        await screen.until("Once upon")
        await scripted.waiting.wait()
        for _ in range(200):
            screen.process.send_signal(signal.SIGINT)
            await asyncio.sleep(0)
        await screen.until("stopped; the partial completion is kept")
        # Most of the signals arrive while a line is typed, and the last ones can discard what is typed next.
        await screen.press_until("/nonsense\n", "unknown command")
        screen.type("Hi\n")
        await screen.until("Hello.")
        await screen.until("> ")
        screen.type(CTRL_D)
        assert 0 == await screen.ended()


async def test_slash_commands_change_the_conversation(tmp_path):
    """Model, system message, clear, save; an unknown command is reported."""
    scripted = ScriptedService(StreamComplete=[stream_of("One."), stream_of("Two.")])
    saved = tmp_path / "chat.json"
    async with serving(scripted) as target, terminal(target, "chat") as screen:
        await screen.until("> ")
        for typed, shown in [
            ("first", "One."),
            ("/clear", "cleared"),
            ("/model some/model", "some/model"),
            ("/system Be kind.", "Be kind."),
            ("/nonsense", "unknown command /nonsense"),
            ("/help", "/save FILE"),
            ("second", "Two."),
            (f"/save {saved}", "saved to"),
        ]:
            screen.type(f"{typed}\n")
            await screen.until(shown)
            await screen.until("\n> ")
        screen.type("/exit\n")
        assert 0 == await screen.ended()
    request = scripted.seen[1].request
    assert ("some/model", [system("Be kind."), user("second")]) == (request.model, list(request.messages))
    assert [
        "ROLE_SYSTEM",
        "ROLE_USER",
        "ROLE_ASSISTANT",
    ] == [turn["role"] for turn in json.loads(saved.read_text())]


async def test_a_line_that_ends_in_a_backslash_continues():
    """Several lines are one message."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hello.")])
    async with serving(scripted) as target, terminal(target, "chat") as screen:
        await screen.until("> ")
        screen.type("one\\\n")
        await screen.until("… ")
        screen.type("two\n")
        await screen.until("Hello.")
        await screen.until("> ")
        screen.type(CTRL_D)
        assert 0 == await screen.ended()
    assert [user("one\ntwo")] == list(scripted.seen[0].request.messages)


async def test_history_is_kept_in_a_private_file(tmp_path):
    """Only the owner can read the file of `--history`, and the next chat reads it."""
    history = tmp_path / "history"
    scripted = ScriptedService(StreamComplete=[stream_of("Hello.")])
    async with serving(scripted) as target:
        for typed in ("the first question\n", "\x1b[A\n"):
            async with terminal(target, "chat", "--history", str(history)) as screen:
                await screen.until("> ")
                screen.type(typed)
                await screen.until("Hello.")
                await screen.until("> ")
                screen.type(CTRL_D)
                assert 0 == await screen.ended()
    assert 0o600 == history.stat().st_mode & 0o777
    assert ["the first question"] * 2 == [seen.request.messages[0].content[0].text for seen in scripted.seen]


async def test_a_model_cannot_control_the_terminal():
    """Escape sequences are replaced by visible characters, also in a stream."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\rrm -rf"
    async with (
        serving(ScriptedService(StreamComplete=[stream_of("Hi ", evil)])) as target,
        terminal(target, "complete", "Hi", "--stream") as screen,
    ):
        await screen.until("rm -rf")
        assert 0 == await screen.ended()
    assert "Hi ␛]0;owned␇␛[2J�31m␍rm -rf" in screen.raw


async def test_progress_is_shown_until_the_text_arrives():
    """The indicator is removed from the line before the text."""
    scripted = ScriptedService(Complete=[[asyncio.Event(), response_of("Hello.")], [response_of("Hello.")]])
    (go_on, _) = scripted._script["Complete"][0]
    async with serving(scripted) as target, terminal(target, "complete", "Hi") as screen:
        await screen.until("waiting")
        go_on.set()
        await screen.until("Hello.")
        assert 0 == await screen.ended()
    assert "\x1b[2KHello." in screen.raw


async def test_colour_can_be_disabled():
    """By `--no-color` and by NO_COLOR."""
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", message="no such model")
    scripted = ScriptedService(Complete=[[failure]])
    colored = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    shown = []
    async with serving(scripted) as target:
        for arguments, more in (((), {}), (("--no-color",), {}), ((), {"NO_COLOR": "1"})):
            async with terminal(target, "complete", "Hi", *arguments, **more) as screen:
                await screen.until("no such model")
                assert 5 == await screen.ended()
            shown.append(bool(colored.search(screen.raw)))
    assert [True, False, False] == shown


async def test_models_is_a_table_with_headings():
    """Ids are not cut in a narrow window."""
    long_id = "somebody/a-model-with-a-name-that-is-longer-than-most-windows-are-wide-by-quite-a-bit"
    page = service.ListModelsResponse(
        models=[models.Model(id=MODEL, context_length=131072), models.Model(id=long_id)]
    )
    async with (
        serving(ScriptedService(ListModels=[[page]])) as target,
        terminal(target, "models") as screen,
    ):
        await screen.until("2 models")
        assert 0 == await screen.ended()
    assert "context" in screen.text
    assert long_id in screen.text


async def test_the_table_of_models_fits_into_80_columns():
    """80 columns are the default width of a terminal."""
    listed = [
        models.Model(
            id=model_id,
            context_length=1048576,
            quantization="MXFP4",
            availability=models.AVAILABILITY_SERVERLESS,
            state=models.MODEL_STATE_UNCONFIRMED,
            retirement_date="2026-12-31",
            pricing=models.Pricing(input_usd_per_million_tokens=3, output_usd_per_million_tokens=15),
        )
        for model_id in (MODEL, "gradientai/Llama-3-70B-Instruct-Gradient-1048k")
    ]
    async with (
        serving(ScriptedService(ListModels=[[service.ListModelsResponse(models=listed)]])) as target,
        terminal(target, "models") as screen,
    ):
        await screen.until("2 models")
        assert 0 == await screen.ended()
    rows = [line for line in screen.text.splitlines() if " 1M " in line]
    assert [True, True] == [len(line) <= 80 and line.endswith("to 12-31") for line in rows]
