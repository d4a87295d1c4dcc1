"""The golden cases of the HTTP frontend: OpenAI's JSON, and the messages of the contract."""

import json
from pathlib import Path

import pytest

from support import golden
from support.http_client import events_of
from togetherchat_server.frontends.http.openai import request as openai_request
from togetherchat_server.frontends.http.openai import schema, unsupported
from togetherchat_server.frontends.http.openai.response import completion
from togetherchat_server.frontends.http.openai.sse import ChunkEncoder


def cases_with(subject: str, file: str) -> list[Path]:
    """Return the cases that have a file in OpenAI's format."""
    found = [case for case in golden.cases(subject) if (case / file).exists()]
    assert found, f"no case of {subject} has {file}"
    return found


@pytest.mark.parametrize("case", golden.cases("http_request"), ids=golden.name)
def test_request(case: Path):
    """A body becomes exactly this request with these options, and ignored members are named."""
    found = openai_request.read((case / "body.json").read_bytes())

    switches = {"stream": found.stream, "usage": found.include_usage, "alternatives": found.alternatives}
    options = ", ".join(f"{name}: {str(value).lower()}" for name, value in switches.items())
    first, second, *_ = (case / "request.textproto").read_text("utf-8").split("\n")
    assert golden.request(case) == found.request
    assert (f"# {options}", f"# ignored: {', '.join(found.ignored)}") == (first, second)


def test_the_case_with_every_member_has_every_member():
    """A member that is added to the schema must be added to that case, and so to the translation."""
    (case,) = (case for case in golden.cases("http_request") if case.name == "every-member")
    elsewhere = {"max_tokens", "stream", "stream_options", "functions", "function_call"}

    body = json.loads((case / "body.json").read_text("utf-8"))

    assert schema.RequestBody.model_fields.keys() - elsewhere <= body.keys()
    assert unsupported.IGNORED - {"safety_identifier"} <= body.keys()


@pytest.mark.parametrize("case", cases_with("response", "openai.json"), ids=golden.name)
def test_completion(case: Path):
    """A completion becomes exactly this body."""
    body = completion(golden.response(case), alternatives=True)

    assert json.loads((case / "openai.json").read_text("utf-8")) == json.loads(body)


@pytest.mark.parametrize("case", cases_with("stream", "openai.sse"), ids=golden.name)
def test_stream(case: Path):
    """A stream becomes exactly these bytes."""
    encoder = ChunkEncoder(include_usage=True, alternatives=True)

    assert (case / "openai.sse").read_bytes() == encoder.encode(golden.events(case))
    assert encoder.completed


@pytest.mark.parametrize("case", cases_with("stream", "openai.sse"), ids=golden.name)
def test_the_bytes_of_a_stream_do_not_depend_on_its_batches(case: Path):
    """Event by event, the bytes are the same as in one batch."""
    events = golden.events(case)
    encoder = ChunkEncoder(include_usage=True, alternatives=True)

    assert (case / "openai.sse").read_bytes() == b"".join(encoder.encode([event]) for event in events)


@pytest.mark.parametrize("case", cases_with("stream", "openai.sse"), ids=golden.name)
def test_a_stream_without_the_option_has_its_usage_where_together_sends_it(case: Path):
    """It is in the last chunk, with a finish reason. No chunk is without choices, and the rest is the same."""
    encoder = ChunkEncoder(include_usage=None, alternatives=True)
    *chunks, done = events_of(b"".join(encoder.encode([event]) for event in golden.events(case)).decode())
    *asked_for, usage, _ = events_of((case / "openai.sse").read_text("utf-8"))

    assert "[DONE]" == done
    assert ["usage" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert usage["usage"] == chunks[-1].pop("usage")
    assert chunks[-1]["choices"][0]["finish_reason"] is not None
    assert [{**chunk, "usage": None} for chunk in chunks] == asked_for


@pytest.mark.parametrize("case", cases_with("stream", "openai.sse"), ids=golden.name)
def test_a_stream_has_no_usage_if_it_is_switched_off(case: Path):
    """No chunk mentions it, and none is without choices."""
    encoder = ChunkEncoder(include_usage=False, alternatives=True)
    *chunks, _ = events_of(encoder.encode(golden.events(case)).decode())
    *asked_for, _, _ = events_of((case / "openai.sse").read_text("utf-8"))

    assert [{**chunk, "usage": None} for chunk in chunks] == asked_for
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("case", cases_with("stream", "openai.sse"), ids=golden.name)
def test_a_stream_keeps_openais_rules(case: Path):
    """Every choice begins with its role and finishes once; usage comes last, then `[DONE]`."""
    *chunks, usage, done = events_of((case / "openai.sse").read_text("utf-8"))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]

    assert ("[DONE]", []) == (done, usage["choices"])
    for index in {choice["index"] for choice in choices}:
        own = [choice for choice in choices if choice["index"] == index]
        assert [True] + [False] * (len(own) - 1) == ["role" in choice["delta"] for choice in own]
        assert [False] * (len(own) - 1) + [True] == [choice["finish_reason"] is not None for choice in own]
