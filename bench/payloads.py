"""What the contestants are asked, in both formats: the same words, so that the work is the same.

It knows no tool and no process. A *script* is the model's name, which tells the upstream what to do
(bench/go/upstream): `bench-unary`, or `bench-NxG`, N tokens G milliseconds apart.
"""

import json
from typing import Final

from togetherchat.v1 import chat_pb2, chat_service_pb2

UNARY: Final = "bench-unary"
TOKENS: Final = 400
BURST: Final = f"bench-{TOKENS}x0"
PACED: Final = f"bench-{TOKENS}x20"
SHORT: Final = "bench-5x20"
HELD: Final = "bench-1000x10000"
SCRIPTS: Final = (UNARY, BURST, PACED, SHORT, HELD)

SYSTEM: Final = "You are a helpful assistant. Answer in plain words. " * 4
QUESTION: Final = "Why is the sky blue, and why is it red at dusk? " * 15
TEXT: Final = "The quick brown fox jumps over the lazy dog. " * 20
"""What the upstream answers to `bench-unary`."""
PIECES: Final = tuple(f" t{number % 100:02}" for number in range(TOKENS))
"""What the upstream answers to `bench-400x0`, one after the other."""
TEXT_BYTES: Final = {UNARY: len(TEXT), BURST: len("".join(PIECES))}
"""Of an answer; whatever a gateway packs it into, fewer bytes than these are no answer."""


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
    """The body of a gRPC request over HTTP/2: no compression, length, message."""
    body = message(script).SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def body(script: str, *, stream: bool) -> bytes:
    asked: dict[str, object] = {
        "model": script,
        "max_tokens": 512,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
    }
    if stream:
        asked["stream"] = True
    return json.dumps(asked, separators=(",", ":")).encode()


def method(script: str) -> str:
    return "Complete" if script == UNARY else "StreamComplete"
