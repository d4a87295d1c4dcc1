"""What callers do, good and bad: the table of the soak's calls and their weights.

Each act makes one call with a session's own channel and dice and waits until the call has ended,
in whatever way. Knows nothing of how often it runs or what is measured.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grpc import aio

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

FAULTS: Final = (
    "error-400", "error-401", "error-402", "error-403-html", "error-404", "error-408", "error-409", "error-413",
    "error-422", "error-429-quota", "error-500", "error-501", "error-502", "error-503", "error-504", "error-520",
    "error-526", "error-529", "error-418", "context-length", "reset", "cut-body", "cut-stream", "cut-stream-clean",
    "no-done", "stream-error", "stream-error-after-3", "redirect", "html-200", "wrong-content-type",
    "malformed-json", "malformed-event", "empty-body", "trailing-bytes", "invalid-utf8", "lone-surrogate",
    "huge-event", "flicker", "kimi-k3", "trailing-usage", "keepalive", "no-usage",
)  # fmt: skip
"""Names of the sandbox that end by themselves."""
SLOW: Final = ("slow", "stall", "stall-after-0", "error-429", "error-503")
"""Names under which nothing comes for a while: a wait for the first token, or before another try."""
LARGE_PROMPT: Final = "All work and no play. " * 10_000
GUARD_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One caller's connection and its source of chance."""

    channel: aio.Channel
    dice: random.Random

    @property
    def chat(self) -> service_grpc.ChatServiceStub:
        return service_grpc.ChatServiceStub(self.channel)

    async def some_time(self, most_s: float) -> None:
        await asyncio.sleep(self.dice.uniform(0, most_s))


Act = Callable[[Session], Awaitable[str | None]]
"""How the call ended; None is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A row of the table."""

    weight: int
    act: Act
    cancels: bool = False


def request(name: str, text: str = "Name three rivers.", **fields: object) -> service.CompleteRequest:
    """A conversation of one message with a model of the sandbox."""
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])
    return service.CompleteRequest(model=f"sandbox/{name}", messages=[message], **fields)


async def unary(session: Session) -> None:
    await session.chat.Complete(request("fast"))


async def folded(session: Session) -> None:
    """So long an answer that the service reads a stream inside."""
    await session.chat.Complete(request("fast", max_tokens=5000))


async def stream(session: Session) -> None:
    await _read_all(
        session.chat.StreamComplete(request(session.dice.choice(("fast", "reasoning", "long-200"))))
    )


async def fallback(session: Session) -> None:
    await session.chat.Complete(request("error-503", fallback_models=["sandbox/fast"]))


async def large_prompt(session: Session) -> None:
    await _read_all(session.chat.StreamComplete(request("fast", LARGE_PROMPT)))


async def list_models(session: Session) -> None:
    await session.chat.ListModels(service.ListModelsRequest(page_size=20, query=session.dice.choice("aeiou")))


async def cancel_before_first(session: Session) -> str:
    call = session.chat.StreamComplete(request(session.dice.choice(SLOW)))
    await session.some_time(0.02)
    return await _cancel(call)


async def cancel_unary(session: Session) -> str:
    call = session.chat.Complete(request(session.dice.choice(SLOW)))
    await session.some_time(0.02)
    return await _cancel(call)


async def cancel_midstream(session: Session) -> str:
    call = session.chat.StreamComplete(request("stall-after-3"))
    for _ in range(session.dice.randint(1, 2)):  # `started`, and the tokens in one delta or more
        await call.read()
    return await _cancel(call)


async def cancel_a_stall(session: Session) -> str:
    call = session.chat.StreamComplete(request(session.dice.choice(("stall", "stall-after-3"))))
    await session.some_time(0.5)
    return await _cancel(call)


async def deadline(session: Session) -> None:
    dice = session.dice
    asked, timeout_s = request(dice.choice((*SLOW, "stall-after-3", "long-5000"))), dice.uniform(0.01, 0.3)
    if dice.randrange(2):
        await session.chat.Complete(asked, timeout=timeout_s)
    else:
        await _read_all(session.chat.StreamComplete(asked, timeout=timeout_s))


async def slow_reader(session: Session) -> str:
    """Reads nothing of a long answer for longer than the service allows."""
    call = session.chat.StreamComplete(request("long-20000"))
    await call.read()
    await asyncio.sleep(session.dice.uniform(1.2, 2.0))
    return await _cancel(call)


async def fault(session: Session) -> None:
    asked = request(session.dice.choice(FAULTS))
    if session.dice.randrange(2):
        await session.chat.Complete(asked)
    else:
        await _read_all(session.chat.StreamComplete(asked))


async def broken_message(session: Session) -> None:
    """Bytes that are no message, or a message that is no request."""
    method = session.channel.unary_unary("/togetherchat.v1.ChatService/Complete")
    await method(session.dice.choice((b"", session.dice.randbytes(200), b"\x0a\xff\xff\xff\xff\x0f")))


KINDS: Final[Mapping[str, Kind]] = {
    "unary": Kind(weight=30, act=unary),
    "folded": Kind(weight=3, act=folded),
    "stream": Kind(weight=30, act=stream),
    "fallback": Kind(weight=2, act=fallback),
    "large_prompt": Kind(weight=2, act=large_prompt),
    "list_models": Kind(weight=3, act=list_models),
    "cancel_before_first": Kind(weight=10, act=cancel_before_first, cancels=True),
    "cancel_unary": Kind(weight=5, act=cancel_unary, cancels=True),
    "cancel_midstream": Kind(weight=10, act=cancel_midstream, cancels=True),
    "cancel_a_stall": Kind(weight=2, act=cancel_a_stall),
    "deadline": Kind(weight=6, act=deadline),
    "slow_reader": Kind(weight=1, act=slow_reader),
    "fault": Kind(weight=15, act=fault),
    "broken_message": Kind(weight=4, act=broken_message),
}
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "cancels": [name for name, kind in KINDS.items() if kind.cancels],
}
"""Names for several kinds at once, as `--only` takes them."""


async def _read_all(call: aio.UnaryStreamCall) -> None:
    async for _ in call:
        pass


async def _cancel(call: aio.Call) -> str:
    call.cancel()
    return (await call.code()).name
