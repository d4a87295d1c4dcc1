"""Tests of the command as a process, with its output in a pipe."""

import asyncio
import json
import os
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from support.client_command import Ended, run, start
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
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import system, user
from togetherchat_client.health import CHAT_SERVICE

MODELS = [
    models.Model(
        id=MODEL,
        context_length=131072,
        quantization="MXFP4",
        availability=models.AVAILABILITY_SERVERLESS,
        state=models.MODEL_STATE_ACTIVE,
        features=["tools"],
        pricing=models.Pricing(input_usd_per_million_tokens=0.15, output_usd_per_million_tokens=0.6),
    ),
    models.Model(id="old/one", state=models.MODEL_STATE_RETIRED),
    models.Model(id="some/other", state=models.MODEL_STATE_UNCONFIRMED),
]
ESCAPE = "\x1b"


async def test_complete_prints_the_completion_and_nothing_else():
    """In a pipe: no colour, no progress, one new line at the end."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with serving(scripted) as target:
        ended = await run(target, "complete", "Hi", "there")
    assert Ended(code=0, out="Hello.\n", err="") == ended
    assert [user("Hi there")] == list(scripted.seen[0].request.messages)


async def test_the_text_is_unchanged_in_a_pipe():
    """Control characters are replaced on a terminal only."""
    text = f"{ESCAPE}[31mred\r\n"
    async with serving(ScriptedService(Complete=[[response_of(text)]])) as target:
        ended = await run(target, "complete", "Hi")
    assert text == ended.out


async def test_complete_reads_standard_input():
    """Without a PROMPT, and in place of `-`."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with serving(scripted) as target:
        await run(target, "complete", stdin="Grüße".encode())
        await run(target, "complete", "Sum up:", "-", stdin=b"a text")
    assert [[user("Grüße")], [user("Sum up:\n\na text")]] == [
        list(seen.request.messages) for seen in scripted.seen
    ]


async def test_options_become_fields_of_the_request(tmp_path):
    """Each option sets a field of CompleteRequest."""
    scripted = ScriptedService(Complete=[[response_of("A cat.")]])
    image = tmp_path / "cat.png"
    image.write_bytes(b"\x89PNG")
    options = "-m some/vision -s Be-brief --max-tokens 9 --temperature 0 --top-p 0.5 --seed 18446744073709551615 --stop END"
    more = f"--reasoning-effort low --user u-7 --fallback a/b --image {image}"
    async with serving(scripted) as target:
        await run(target, "complete", "What?", *options.split(), *more.split())
    expected = service.CompleteRequest(
        model="some/vision",
        messages=[system("Be-brief"), user("What?", chat.Image(data=b"\x89PNG", media_type="image/png"))],
        max_tokens=9,
        temperature=0.0,
        top_p=0.5,
        seed=2**64 - 1,
        user="u-7",
        stop=["END"],
        reasoning_effort="low",
        fallback_models=["a/b"],
    )
    assert expected == scripted.seen[0].request


async def test_the_environment_sets_model_and_keys():
    """Keys come from the environment or from a file, never from the command line."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with serving(scripted) as target:
        await run(
            target,
            "complete",
            "Hi",
            TOGETHERCHAT_MODEL="some/model",
            TOGETHERCHAT_KEY="tc-1",
            TOGETHERCHAT_UPSTREAM_KEY="up-1",
        )
    seen = scripted.seen[0]
    assert ("some/model", "Bearer tc-1", "up-1") == (
        seen.request.model,
        seen.metadata["authorization"],
        seen.metadata["x-together-api-key"],
    )


async def test_a_key_file_overrides_the_environment(tmp_path):
    """A new line at the end of the file is removed."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    path = tmp_path / "key"
    path.write_text("tc-file\n")
    async with serving(scripted) as target:
        await run(target, "complete", "Hi", "--key-file", str(path), TOGETHERCHAT_KEY="tc-env")
    assert "Bearer tc-file" == scripted.seen[0].metadata["authorization"]


async def test_stream_prints_the_same_text():
    """`--stream` prints the text as it arrives, and a new line at the end."""
    async with serving(ScriptedService(StreamComplete=[stream_of("Hel", "lo.")])) as target:
        ended = await run(target, "complete", "Hi", "--stream")
    assert Ended(code=0, out="Hello.\n", err="") == ended


async def test_streamed_text_is_not_buffered():
    """Text is in the pipe before the next delta arrives."""
    go_on = asyncio.Event()
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), go_on, *stream_of("lo.")[1:]]])
    async with serving(scripted) as target, asyncio.timeout(30):
        process = await start(target, "complete", "Hi", "--stream")
        process.stdin.close()
        first = await process.stdout.readexactly(3)
        go_on.set()
        rest = await process.stdout.read()
        await process.wait()
    assert (b"Hel", b"lo.\n") == (first, rest)


async def test_json_is_the_whole_response_on_one_line():
    """The field names are those of the protos."""
    async with serving(ScriptedService(Complete=[[response_of("Hello.")]])) as target:
        ended = await run(target, "complete", "Hi", "--json")
    record = json.loads(ended.out)
    assert (1, "Hello.", "FINISH_REASON_STOP", "1650") == (
        ended.out.count("\n"),
        record["choices"][0]["message"]["content"][0]["text"],
        record["choices"][0]["finish_reason"],
        record["usage"]["cost_nano_usd"],
    )


async def test_json_of_a_stream_has_one_event_per_line():
    """The events are printed in order."""
    async with serving(ScriptedService(StreamComplete=[stream_of("Hel", "lo.")])) as target:
        ended = await run(target, "complete", "Hi", "--json", "--stream")
    events = [next(iter(json.loads(line))) for line in ended.out.splitlines()]
    assert ["started", "delta", "delta", "choice_finished", "completed"] == events


async def test_a_completion_that_is_cut_off_has_a_warning():
    """The warning goes to standard error, so that standard output has the text only."""
    cut = response_of("Once upon")
    cut.choices[0].finish_reason = chat.FINISH_REASON_LENGTH
    async with serving(ScriptedService(Complete=[[cut]])) as target:
        ended = await run(target, "complete", "Hi")
    assert (0, "Once upon\n") == (ended.code, ended.out)
    assert "cut off" in ended.err


async def test_show_reasoning_prints_the_reasoning_on_standard_error():
    """Without the option the reasoning is not printed."""
    reasoning = service.StreamCompleteResponse(
        delta=service.Delta(reasoning="Hm. ", reasoning_field=chat.REASONING_FIELD_REASONING)
    )
    scripted = ScriptedService(StreamComplete=[[started(), reasoning, *stream_of("Hello.")[1:]]])
    async with serving(scripted) as target:
        shown = await run(target, "complete", "Hi", "--stream", "--show-reasoning")
        hidden = await run(target, "complete", "Hi", "--stream")
    assert (Ended(code=0, out="Hello.\n", err="Hm. "), Ended(code=0, out="Hello.\n", err="")) == (
        shown,
        hidden,
    )


FAILURES = [
    (grpc.StatusCode.INTERNAL, "INTERNAL_ERROR", 1),
    (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", 3),
    (grpc.StatusCode.UNAUTHENTICATED, "MISSING_CREDENTIALS", 4),
    (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", 5),
    (grpc.StatusCode.FAILED_PRECONDITION, "SPEND_LIMIT_REACHED", 6),
    (grpc.StatusCode.UNAVAILABLE, "OVERLOADED", 7),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "FIRST_TOKEN_TIMEOUT", 8),
]


async def test_each_class_of_error_has_an_exit_code():
    """Standard output is empty, and standard error has one line with reason and request id."""
    turns = [
        [Failure(code=code, reason=reason, message="no", pushback_ms=-1)] for code, reason, _ in FAILURES
    ]
    scripted = ScriptedService(Complete=turns)
    async with serving(scripted) as target:
        ended = [await run(target, "complete", "Hi") for _ in FAILURES]
    ids = [seen.metadata["x-request-id"] for seen in scripted.seen]
    assert [(code, "", 1) for _, _, code in FAILURES] == [
        (each.code, each.out, each.err.count("\n")) for each in ended
    ]
    assert [True] * len(FAILURES) == [
        f"{reason}: no" in each.err and request_id in each.err
        for each, (_, reason, _), request_id in zip(ended, FAILURES, ids, strict=True)
    ]


async def test_with_json_an_error_is_json():
    """One line on standard error has all attributes of the error."""
    failure = Failure(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason="RATE_LIMITED",
        message="slow down",
        pushback_ms=-1,
        retry_after_s=7,
        retryable=True,
    )
    scripted = ScriptedService(Complete=[[failure]])
    async with serving(scripted) as target:
        ended = await run(target, "complete", "Hi", "--json")
    expected = {
        "code": "RESOURCE_EXHAUSTED",
        "reason": "RATE_LIMITED",
        "message": "slow down",
        "request_id": scripted.seen[0].metadata["x-request-id"],
        "retryable": True,
        "retry_after_s": 7.0,
        "violations": [],
        "metadata": {},
        "hint": "try again in 7 s",
        "exit_code": 6,
    }
    assert (6, "", {"error": expected}) == (ended.code, ended.out, json.loads(ended.err))


async def test_the_error_for_an_unreachable_service_has_the_target():
    """The hint names the address that was tried."""
    ended = await run("127.0.0.1:1", "complete", "Hi", "--no-retries")
    assert (7, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert "is the service running at 127.0.0.1:1?" in ended.err


async def test_a_failed_stream_ends_its_line_and_has_an_exit_code():
    """The printed text is followed by a new line, before the error."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="UPSTREAM_TRUNCATED", pushback_ms=-1)
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), failure]])
    async with serving(scripted) as target:
        ended = await run(target, "complete", "Hi", "--stream")
    assert (7, "Hel\n") == (ended.code, ended.out)


async def test_the_timeout_is_the_calls_deadline():
    """The command ends with 8 when the deadline is exceeded."""
    scripted = ScriptedService(Complete=[[asyncio.Event()]])
    async with serving(scripted) as target:
        ended = await run(target, "complete", "Hi", "--timeout", "0.5")
    assert (8, "") == (ended.code, ended.out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["complete", ""],
        ["complete", "Hi", "--image", "nowhere.png"],
        ["complete", "Hi", "--key-file", "nowhere.key"],
        ["complete", "Hi", "--timeout", "0"],
        ["complete", "Hi", "--max-tokens", "2147483648"],
        ["complete", "Hi", "--seed", "18446744073709551616"],
        ["complete", "Hi", "--seed=-1"],
        ["models", "--reverse"],
        ["model"],
        ["complete", b"not \xff UTF-8"],
        ["complete", "Hi", "--ca-file", "nowhere.pem", "--no-tls"],
        ["nonsense"],
        [],
    ],
)
async def test_wrong_usage_has_exit_code_2(arguments):
    """No call is made, and standard output is empty."""
    ended = await run("127.0.0.1:1", *arguments)
    assert (2, "") == (ended.code, ended.out)
    assert ended.err


async def test_an_invalid_key_is_not_printed():
    """The error names the problem without the key."""
    ended = await run("127.0.0.1:1", "complete", "Hi", TOGETHERCHAT_KEY="se cret")
    assert (2, "") == (ended.code, ended.out)
    assert "cret" not in ended.err


async def test_a_closed_output_pipe_ends_the_command():
    """`togetherchat complete --stream | head -1` prints no traceback and cancels the call."""
    go_on = asyncio.Event()
    deltas = [delta("x" * 4096) for _ in range(64)]
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), go_on, *deltas, asyncio.Event()]])
    async with serving(scripted) as target, asyncio.timeout(30):
        process = await start(target, "complete", "Hi", "--stream")
        process.stdin.close()
        await process.stdout.readexactly(3)
        process._transport.get_pipe_transport(1).close()
        go_on.set()
        err = await process.stderr.read()
        code = await process.wait()
        await scripted.cancelled.wait()
    assert (141, b"") == (code, err)


async def test_an_interrupt_cancels_the_call_and_ends_with_130():
    """130 is the shell's exit code for SIGINT."""
    scripted = ScriptedService(Complete=[[asyncio.Event()]])
    async with serving(scripted) as target, asyncio.timeout(30):
        process = await start(target, "complete", "Hi")
        process.stdin.close()
        await scripted.waiting.wait()
        process.send_signal(signal.SIGINT)
        err = await process.stderr.read()
        code = await process.wait()
        await scripted.cancelled.wait()
    assert (130, b"") == (code, err)


async def test_models_prints_one_model_per_line_with_tabs():
    """There is no heading, so `cut -f1` prints the ids. Retired models are left out."""
    page = service.ListModelsResponse(models=MODELS)
    async with serving(ScriptedService(ListModels=[[page]])) as target:
        ended = await run(target, "models")
    expected = [
        f"{MODEL}\t131072\t0.15\t0.6\tMXFP4\tserverless\tactive\t-\t-\t-\t-\ttools\t-\t-\t-\t-",
        "some/other\t-\t-\t-\t-\t-\tunconfirmed" + "\t-" * 9,
    ]
    assert (0, expected, "") == (ended.code, ended.out.splitlines(), ended.err)


async def test_models_all_includes_retired_models():
    """`--all` prints every model of the list."""
    page = service.ListModelsResponse(models=MODELS)
    async with serving(ScriptedService(ListModels=[[page]])) as target:
        ended = await run(target, "models", "--all")
    assert [model.id for model in MODELS] == [line.split("\t")[0] for line in ended.out.splitlines()]


async def test_the_service_applies_the_filters():
    """The options become fields of ListModelsRequest."""
    scripted = ScriptedService(ListModels=[[service.ListModelsResponse()]])
    options = "--type chat --org Meta --query llama --quantization FP8 --availability dedicated"
    more = "--min-context 32768 --max-price 1.5 --sort price"
    async with serving(scripted) as target:
        await run(target, "models", *options.split(), *more.split())
    expected = service.ListModelsRequest(
        type="chat",
        organization="Meta",
        query="llama",
        quantization="FP8",
        availability=models.AVAILABILITY_DEDICATED,
        min_context_length=32768,
        max_input_usd_per_million_tokens=1.5,
        order_by="input_price",
    )
    assert expected == scripted.seen[0].request


async def test_model_prints_one_field_per_line_with_a_tab():
    """The name can be an alias. Unknown fields are left out."""
    scripted = ScriptedService(GetModel=[[service.GetModelResponse(model=MODELS[2])]])
    async with serving(scripted) as target:
        ended = await run(target, "model", "other")
    assert (0, "id\tsome/other\nstate\tunconfirmed\n", "") == (ended.code, ended.out, ended.err)
    assert service.GetModelRequest(id="other") == scripted.seen[0].request


async def test_model_as_json_is_the_response():
    """The new fields of a model have the names of the protos."""
    found = service.GetModelResponse(model=MODELS[0], warnings=[chat.Warning(message="old list")])
    async with serving(ScriptedService(GetModel=[[found]])) as target:
        ended = await run(target, "model", MODEL, "--json")
    record = json.loads(ended.out)
    assert (MODEL, ["tools"], [{"message": "old list"}]) == (
        record["model"]["id"],
        record["model"]["features"],
        record["warnings"],
    )
    assert "togetherchat: warning: old list\n" == ended.err


async def test_an_unknown_model_ends_with_5():
    """The hint names the command that lists the models."""
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", message="no such model")
    async with serving(ScriptedService(GetModel=[[failure]])) as target:
        ended = await run(target, "model", "no/such")
    assert (5, "") == (ended.code, ended.out)
    assert "`togetherchat models` lists the models" in ended.err


async def test_models_as_json_is_one_object_with_all_pages():
    """Warnings are part of the object, and are printed on standard error too."""
    pages = [
        [
            service.ListModelsResponse(
                models=MODELS[:1], next_page_token="t", warnings=[chat.Warning(message="old list")]
            )
        ],
        [service.ListModelsResponse(models=MODELS[1:], warnings=[chat.Warning(message="old list")])],
    ]
    async with serving(ScriptedService(ListModels=pages)) as target:
        ended = await run(target, "models", "--json")
    record = json.loads(ended.out)
    assert (
        [model["id"] for model in record["models"]],
        record["total_size"],
        record["warnings"],
    ) == ([MODEL, "some/other"], 2, [{"message": "old list"}])
    assert "togetherchat: warning: old list\n" == ended.err


@pytest.mark.parametrize(
    ("status", "code"),
    [(health_pb2.HealthCheckResponse.SERVING, 0), (health_pb2.HealthCheckResponse.NOT_SERVING, 7)],
)
async def test_health_prints_the_status_and_sets_the_exit_code(status, code):
    """A probe needs the exit code only."""
    health = health_aio.HealthServicer()
    await health.set(CHAT_SERVICE, status)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    async with serving(ScriptedService(), health=health) as target:
        plain = await run(target, "health")
        record = await run(target, "health", "--json")
    assert Ended(code=code, out=f"{name}\n", err="") == plain
    assert {"service": CHAT_SERVICE, "status": name} == json.loads(record.out)


async def test_chat_in_a_pipe_sends_each_line_as_a_message():
    """No prompt is printed, and each call has the whole conversation."""
    scripted = ScriptedService(StreamComplete=[stream_of("One."), stream_of("Two.")])
    async with serving(scripted) as target:
        ended = await run(target, "chat", stdin=b"first\n\nsecond\n")
    assert Ended(code=0, out="One.\nTwo.\n", err="") == ended
    assert 3 == len(scripted.seen[1].request.messages)


async def test_input_that_is_not_utf_8_does_not_end_a_chat():
    """Invalid bytes are replaced, and the rest of the line is sent."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hello.")])
    async with serving(scripted) as target:
        ended = await run(target, "chat", stdin=b"caf\xe9 au lait\n")
    sent = scripted.seen[0].request.messages[0].content[0].text
    assert (0, "Hello.\n") == (ended.code, ended.out)
    assert sent.startswith("caf")
    assert sent.endswith(" au lait")


async def test_chat_in_a_pipe_ends_with_its_first_failure():
    """The following lines are not sent."""
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND")
    scripted = ScriptedService(StreamComplete=[[failure]])
    async with serving(scripted) as target:
        ended = await run(target, "chat", stdin=b"first\nsecond\n")
    assert (5, "", 1) == (ended.code, ended.out, len(scripted.seen))


async def test_without_the_extra_the_command_prints_how_to_install_it(tmp_path):
    """The exit code is that of wrong usage."""
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text(
        "from importlib.machinery import PathFinder\n"
        "found = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *rest: None if name == 'rich' else found(name, *rest)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = await run("127.0.0.1:1", "complete", "Hi", PYTHONPATH=path)
    assert (2, "") == (ended.code, ended.out)
    assert "pip install 'togetherchat[cli]'" in ended.err


async def test_help_lists_the_exit_codes_and_the_environment():
    """`--help` has what the author of a script needs."""
    ended = await run("127.0.0.1:1", "--help")
    assert 0 == ended.code
    assert "TOGETHERCHAT_KEY" in ended.out
    assert "130 interrupted" in ended.out
