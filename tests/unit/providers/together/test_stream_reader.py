"""Together's use of server-sent events: end mark, error events, and what does not belong to a completion."""

import pytest

from support import openai
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import FieldViolation, Reason, ServiceError
from togetherchat_server.providers.together.stream_reader import StreamReader

MODEL = "some/model"


def reader_of(call_id: str = "") -> StreamReader:
    return StreamReader(
        max_event_bytes=1 << 20, caller_brought_key=False, model=MODEL, secrets=(), call_id=call_id
    )


@pytest.mark.parametrize(
    "data", [b"data:\n\n", b"data\n\n", b"data: \ndata:\n\n", b"event: ping\ndata: \n\n"]
)
def test_an_event_without_data_is_left_out(data: bytes):
    """Some engines keep the connection alive with it."""
    reader = reader_of()
    reader.feed(openai.event(openai.chunk("a")) + data + openai.event(openai.chunk("b")))

    assert "ab" == "".join(event.delta.text for event in reader.pop_events(MODEL))


def test_comments_are_reported_once():
    """A comment is a sign of life: it is no event, and it is reported whether events came with it or not."""
    reader = reader_of()
    found: list[tuple[int, bool]] = []
    for data in (b": PROCESSING\n\n", b"", openai.event(openai.chunk("a")), b": a\n: b\n", b"\n"):
        reader.feed(data)
        found.append((len(reader.pop_events(MODEL)), reader.pop_comments()))

    assert [(0, True), (0, False), (2, False), (0, True), (0, False)] == found


def test_an_event_named_error_has_the_message_and_the_param():
    """Its data is an error in any of its shapes."""
    data = b'event: error\ndata: {"detail":[{"loc":["body","top_p"],"msg":"too high"}],"code":400}\n\n'
    with pytest.raises(ServiceError) as failure:
        reader_of().feed(data)

    assert Reason.UPSTREAM_INVALID_REQUEST == failure.value.reason
    assert (FieldViolation(field="top_p", description="top_p: too high"),) == failure.value.violations


def test_the_first_event_has_a_model_and_an_id():
    """The requested model and the id of the call stand for what the provider leaves out."""
    reader = reader_of("our-call")
    reader.feed(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')

    first, _ = reader.pop_events(MODEL)
    assert service.Started(id="our-call", model=MODEL) == first.started
