"""The encoder of streams, beside what the golden cases hold."""

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.frontends.http.openai.sse import KEEP_ALIVE, ChunkEncoder


def test_a_batch_without_events_is_a_comment():
    """It is a sign of life of the provider. Clients ignore a comment, and load balancers see traffic."""
    encoder = ChunkEncoder(include_usage=None, alternatives=False)
    encoder.encode([service.StreamCompleteResponse(started=service.Started(id="r"))])

    assert KEEP_ALIVE == encoder.encode([])
    assert KEEP_ALIVE.startswith(b":")
    assert KEEP_ALIVE.endswith(b"\n\n")
