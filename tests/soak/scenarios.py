"""The soak's calls and their weights: successful ones, failures, cancels and timeouts.

Each scenario makes one call with the channel and the random generator of its caller, and waits
until the call has ended. Knows nothing of how often it runs or what is measured.
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
"""Models of the sandbox whose calls end by themselves."""
SLOW: Final = ("slow", "stall", "stall-after-0", "error-429", "error-503")
"""Models with a wait: for the first token, or before a retry."""
LARGE_PROMPT: Final = "All work and no play. " * 10_000
CALL_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One caller's connection and its random generator."""

    channel: aio.Channel
    rng: random.Random

    @property
    def chat(self) -> service_grpc.ChatServiceStub:
        return service_grpc.ChatServiceStub(self.channel)

    async def random_delay(self, max_s: float) -> None:
        await asyncio.sleep(self.rng.uniform(0, max_s))


Run = Callable[[Caller], Awaitable[str | None]]
"""Makes a call; returns how the call ended, None for a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of call."""

    weight: int
    run: Run
    cancels: bool = False


def request(name: str, text: str = "Name three rivers.", **fields: object) -> service.CompleteRequest:
    """Return a request with one message to a model of the sandbox."""
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])
    return service.CompleteRequest(model=f"sandbox/{name}", messages=[message], **fields)


async def unary(caller: Caller) -> None:
    await caller.chat.Complete(request("fast"))


async def long_unary(caller: Caller) -> None:
    """Requests a completion so long that the service reads it from the provider as a stream."""
    await caller.chat.Complete(request("fast", max_tokens=5000))


async def stream(caller: Caller) -> None:
    await _read_all(caller.chat.StreamComplete(request(caller.rng.choice(("fast", "reasoning", "long-200")))))


async def fallback(caller: Caller) -> None:
    await caller.chat.Complete(request("error-503", fallback_models=["sandbox/fast"]))


async def large_prompt(caller: Caller) -> None:
    await _read_all(caller.chat.StreamComplete(request("fast", LARGE_PROMPT)))


async def list_models(caller: Caller) -> None:
    await caller.chat.ListModels(service.ListModelsRequest(page_size=20, query=caller.rng.choice("aeiou")))


async def cancel_before_first(caller: Caller) -> str:
    call = caller.chat.StreamComplete(request(caller.rng.choice(SLOW)))
    await caller.random_delay(0.02)
    return await _cancel(call)


async def cancel_unary(caller: Caller) -> str:
    call = caller.chat.Complete(request(caller.rng.choice(SLOW)))
    await caller.random_delay(0.02)
    return await _cancel(call)


async def cancel_midstream(caller: Caller) -> str:
    call = caller.chat.StreamComplete(request("stall-after-3"))
    for _ in range(caller.rng.randint(1, 2)):  # `started`, and the tokens in one delta or more
        await call.read()
    return await _cancel(call)


async def cancel_stall(caller: Caller) -> str:
    call = caller.chat.StreamComplete(request(caller.rng.choice(("stall", "stall-after-3"))))
    await caller.random_delay(0.5)
    return await _cancel(call)


async def deadline(caller: Caller) -> None:
    rng = caller.rng
    message, timeout_s = request(rng.choice((*SLOW, "stall-after-3", "long-5000"))), rng.uniform(0.01, 0.3)
    if rng.randrange(2):
        await caller.chat.Complete(message, timeout=timeout_s)
    else:
        await _read_all(caller.chat.StreamComplete(message, timeout=timeout_s))


async def slow_reader(caller: Caller) -> str:
    """Does not read a long stream for longer than the service's write timeout."""
    call = caller.chat.StreamComplete(request("long-20000"))
    await call.read()
    await asyncio.sleep(caller.rng.uniform(1.2, 2.0))
    return await _cancel(call)


async def fault(caller: Caller) -> None:
    message = request(caller.rng.choice(FAULTS))
    if caller.rng.randrange(2):
        await caller.chat.Complete(message)
    else:
        await _read_all(caller.chat.StreamComplete(message))


async def malformed_message(caller: Caller) -> None:
    """Sends bytes that are not a message, or a message that is not a valid request."""
    method = caller.channel.unary_unary("/togetherchat.v1.ChatService/Complete")
    await method(caller.rng.choice((b"", caller.rng.randbytes(200), b"\x0a\xff\xff\xff\xff\x0f")))


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "unary": Scenario(weight=30, run=unary),
    "long_unary": Scenario(weight=3, run=long_unary),
    "stream": Scenario(weight=30, run=stream),
    "fallback": Scenario(weight=2, run=fallback),
    "large_prompt": Scenario(weight=2, run=large_prompt),
    "list_models": Scenario(weight=3, run=list_models),
    "cancel_before_first": Scenario(weight=10, run=cancel_before_first, cancels=True),
    "cancel_unary": Scenario(weight=5, run=cancel_unary, cancels=True),
    "cancel_midstream": Scenario(weight=10, run=cancel_midstream, cancels=True),
    "cancel_stall": Scenario(weight=2, run=cancel_stall),
    "deadline": Scenario(weight=6, run=deadline),
    "slow_reader": Scenario(weight=1, run=slow_reader),
    "fault": Scenario(weight=15, run=fault),
    "malformed_message": Scenario(weight=4, run=malformed_message),
}
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "cancels": [name for name, scenario in SCENARIOS.items() if scenario.cancels],
}
"""Names of several scenarios, for `--only`."""


async def _read_all(call: aio.UnaryStreamCall) -> None:
    async for _ in call:
        pass


async def _cancel(call: aio.Call) -> str:
    call.cancel()
    return (await call.code()).name
