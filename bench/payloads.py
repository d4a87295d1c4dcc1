"""The requests of the benchmark in both formats. Their texts are equal, so that the work is the same.

A *script* is the model name, which selects the response of bench/go/upstream: `bench-unary`, or
`bench-NxG` for N tokens, G milliseconds apart.
"""

import json
from typing import Final

from togetherchat.v1 import chat_pb2, chat_service_pb2

UNARY: Final = "bench-unary"
TOKENS: Final = 400
BURST: Final = f"bench-{TOKENS}x0"


def paced(tokens: int) -> str:
    """Return the script of a stream with 50 tokens a second."""
    return f"bench-{tokens}x20"


PACED: Final = paced(TOKENS)
SHORT: Final = paced(5)
HELD: Final = "bench-1000x10000"
SCRIPTS: Final = (UNARY, BURST, PACED, SHORT, HELD)

SYSTEM: Final = "You are a helpful assistant. Answer in plain words. " * 4
QUESTION: Final = "Why is the sky blue, and why is it red at dusk? " * 15
TEXT: Final = "The quick brown fox jumps over the lazy dog. " * 20
"""The upstream's response to `bench-unary`."""
PIECES: Final = tuple(f" t{number % 100:02}" for number in range(TOKENS))
"""The upstream's tokens in response to `bench-400x0`."""
TEXT_BYTES: Final = {UNARY: len(TEXT), BURST: len("".join(PIECES))}
"""The least bytes of a response, in whatever encoding a gateway uses."""


def message(script: str) -> chat_service_pb2.CompleteRequest:
    return chat_service_pb2.CompleteRequest(
        model=script,
        max_tokens=512,
        messages=[
            chat_pb2.Message(role=role, content=[chat_pb2.ContentPart(text=text)])
            for role, text in ((chat_pb2.ROLE_SYSTEM, SYSTEM), (chat_pb2.ROLE_USER, QUESTION))
        ],
    )


def frame(script: str) -> bytes:
    """Return the body of a gRPC request over HTTP/2: compression flag 0, length, message."""
    body = message(script).SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def body(script: str, *, stream: bool) -> bytes:
    request: dict[str, object] = {
        "model": script,
        "max_tokens": 512,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
    }
    if stream:
        request["stream"] = True
    return json.dumps(request, separators=(",", ":")).encode()


def method(script: str) -> str:
    return "Complete" if script == UNARY else "StreamComplete"
