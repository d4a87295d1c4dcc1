"""Golden cases: what Together sent or receives, and its translation to or from the contract."""

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from support import golden
from support.reference_accumulator import accumulate
from support.translation import translate
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.providers.together import errors, models, schema
from togetherchat_server.providers.together.request import to_schema
from togetherchat_server.providers.together.response import from_schema


def describe(failure: ServiceError) -> dict[str, object]:
    assert failure.upstream is not None
    return {
        "reason": str(failure.reason),
        "message": failure.message,
        "retry_after_s": failure.retry_after_s,
        "error_type": failure.upstream.error_type,
        "error_code": failure.upstream.error_code,
    }


@pytest.mark.parametrize("case", golden.cases("request"), ids=golden.name)
def test_request(case: Path):
    """A request is translated to exactly these bytes."""
    body = to_schema(golden.request(case), stream=case.name.endswith("-stream"))

    assert golden.upstream(case) == body


@pytest.mark.parametrize("case", golden.cases("request"), ids=golden.name)
def test_request_is_json(case: Path):
    """The assembled body is valid JSON without a repeated key."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(pairs) == len({key for key, _ in pairs})
        return dict(pairs)

    json.loads(golden.upstream(case), object_pairs_hook=unique)


def test_the_case_with_every_field_has_every_field():
    """A field added to the contract must be added to this case, and so to the translation."""
    fields: list[FieldDescriptor] = service.CompleteRequest.DESCRIPTOR.fields
    (case,) = (case for case in golden.cases("request") if case.name == "every-field")

    assert {field.name for field in fields} == {field.name for field, _ in golden.request(case).ListFields()}


@pytest.mark.parametrize("case", golden.cases("response"), ids=golden.name)
def test_response(case: Path):
    """A unary body is translated to exactly this response."""
    assert golden.response(case) == from_schema(schema.parse_completion(golden.upstream(case)))


@pytest.mark.parametrize("case", golden.cases("stream"), ids=golden.name)
def test_stream(case: Path):
    """A stream in one read is translated to exactly these events and this failure, if any."""
    outcome = translate([golden.upstream(case)])

    assert golden.events(case) == outcome.events
    if outcome.failure is None:
        assert not (case / "failure.json").exists()
    else:
        expected = json.loads((case / "failure.json").read_text("utf-8"))
        assert expected == {"reason": outcome.failure.reason, "message": outcome.failure.message}


@pytest.mark.parametrize(
    ("stream", "unary"),
    [
        ("keepalive-reasoning-content-usage-in-choice", "reasoning-content-nested-usage"),
        ("eos-2024-tool-calls-null", "eos-2024-tool-calls-null"),
    ],
)
def test_a_stream_and_a_unary_response_of_the_same_content_agree(stream: str, unary: str):
    """The first stream guarantee, on two recorded shapes: only id, model, time and attempts may differ."""
    (stream_case,) = (case for case in golden.cases("stream") if case.name == stream)
    (unary_case,) = (case for case in golden.cases("response") if case.name == unary)
    accumulated, complete = accumulate(golden.events(stream_case)), golden.response(unary_case)
    for response in (accumulated, complete):
        for name in ("id", "model", "create_time", "attempts"):
            response.ClearField(name)

    assert complete == accumulated


@pytest.mark.parametrize("case", golden.cases("models"), ids=golden.name)
def test_models(case: Path):
    """A model list is translated to exactly these models."""
    entries = schema.parse_models(golden.upstream(case))

    assert list(golden.models(case).models) == models.from_schema(entries)


@pytest.mark.parametrize("case", golden.cases("error"), ids=golden.name)
def test_error(case: Path):
    """An error response is translated to exactly this failure."""
    response = json.loads((case / "response.json").read_text("utf-8"))

    failure = errors.from_response(
        status=response["status"],
        headers=response["headers"],
        body=golden.upstream(case),
        caller_brought_key=response["caller_brought_key"],
        now_wall_s=0,
        model="no-such/model",
    )

    assert json.loads((case / "failure.json").read_text("utf-8")) == describe(failure)
    assert "canary" not in failure.message
