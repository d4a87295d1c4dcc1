"""The callers of a run: each takes the next call of the plan, and does with it what the plan says."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress

from google.rpc import status_pb2
from grpc import aio

from faults.history import CallSeen
from faults.upstream_actor import compact
from support.app import failure_of, request
from support.http2_peer import http2_peer
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc

CHANNELS = 8
HANGS_S = 60.0
"""The deadline of a caller who has none: whoever reaches it was forgotten."""
STOPS_S = 2.6
"""How long a reader that stops stops: longer than the service waits for it."""
STATUS = "grpc-status-details-bin"
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


class CallerActor:
    """Calls one service, over some channels."""

    def __init__(self, address):
        self._address = address
        self._channels = AsyncExitStack()
        self._stubs = []
        self.seen = []

    async def __aenter__(self):
        for _ in range(CHANNELS):
            channel = await self._channels.enter_async_context(
                aio.insecure_channel(self._address, options=OPTIONS)
            )
            self._stubs.append(service_grpc.ChatServiceStub(channel))
        return self

    async def __aexit__(self, *exception):
        await self._channels.aclose()

    async def act(self, call):
        """Do as planned, and remember how it went."""
        doing = _Doing(call)
        if call.action == "vanish":
            await self._vanish(call, doing)
        else:
            await self._ask(call, doing)
        self.seen.append(doing.seen())

    async def _ask(self, call, doing):
        deadline_s = call.wait_s + 0.02 if call.action == "deadline" else HANGS_S
        stub = getattr(self._stubs[call.number % CHANNELS], call.method)
        asked = request(call.id, model=call.model)
        grpc_call = stub(asked, timeout=deadline_s, metadata=[("x-request-id", call.id)])
        leaving = None
        if call.action == "cancel":
            leaving = asyncio.get_running_loop().call_later(call.wait_s, doing.leave, grpc_call)
        try:
            await (_read(grpc_call, call, doing) if call.stream else _wait(grpc_call, doing))
        except aio.AioRpcError as error:
            doing.failed(error)
        except asyncio.CancelledError:
            if doing.ended_s is None:
                raise
        finally:
            if leaving is not None:
                leaving.cancel()
        doing.ended_s = doing.ended_s or time.monotonic()

    async def _vanish(self, call, doing):
        """Go without a word: what no gRPC client does, a cut cable does."""
        async with http2_peer(self._address) as peer:
            message = request(call.id, model=call.model).SerializeToString()
            peer.call(1, f"/togetherchat.v1.ChatService/{call.method}", message, [("x-request-id", call.id)])
            await peer.flush()
            await asyncio.sleep(call.wait_s)
            doing.ended_s = time.monotonic()
        doing.code = "CANCELLED"


class _Doing:
    """A call under way, from its caller's side."""

    def __init__(self, call):
        self._call = call
        self._began_s = time.monotonic()
        self.ended_s = None
        self.code = "CANCELLED"
        self.reason = ""
        self.text = []
        self.completed = False

    def leave(self, grpc_call):
        self.ended_s = time.monotonic()
        grpc_call.cancel()

    def failed(self, error):
        failure = failure_of(error)
        self.code = failure.code.name
        # A caller's own timer may run out while the service's status is being read: the code is
        # then its own, and the trailers are not.
        if (
            failure.details
            and status_pb2.Status.FromString(failure.trailers[STATUS]).code == failure.code.value[0]
        ):
            self.reason = failure.info.reason

    def seen(self):
        return CallSeen(
            id=self._call.id,
            method=self._call.method,
            action=self._call.action,
            began_s=self._began_s,
            ended_s=self.ended_s,
            code=self.code,
            reason=self.reason,
            text=compact("".join(self.text)),
            completed=self.completed,
        )


async def _wait(grpc_call, doing):
    answer = await grpc_call
    doing.text = [part.text for choice in answer.choices for part in choice.message.content]
    doing.code, doing.completed = "OK", True


async def _read(grpc_call, call, doing):
    events = 0
    async for event in grpc_call:
        events += 1
        doing.text.append(event.delta.text)
        doing.completed = doing.completed or event.HasField("completed")
        if call.action == "read slowly":
            await asyncio.sleep(call.wait_s / 20)
        if call.action == "stop reading" and events == 1 + call.pieces // 3:
            await asyncio.sleep(call.wait_s / 0.6 * STOPS_S)
            doing.leave(grpc_call)
    with suppress(asyncio.CancelledError):
        doing.code = (await grpc_call.code()).name
