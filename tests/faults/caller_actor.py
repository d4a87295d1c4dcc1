"""The callers of a run: each makes the next call of the plan and acts as planned."""

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
LAST_RESORT_S = 60.0
"""The deadline of a caller without one: a call that reaches it hangs."""
STOPPED_READING_S = 2.6
"""How long a caller stops reading: longer than the service's write timeout."""
STATUS = "grpc-status-details-bin"
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


class CallerActor:
    """Calls one service over several channels."""

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
        """Make a planned call and record its result."""
        progress = _Progress(call)
        if call.action == "vanish":
            await self._vanish(call, progress)
        else:
            await self._call(call, progress)
        self.seen.append(progress.seen())

    async def _call(self, call, progress):
        deadline_s = call.wait_s + 0.02 if call.action == "deadline" else LAST_RESORT_S
        stub = getattr(self._stubs[call.number % CHANNELS], call.method)
        message = request(call.id, model=call.model)
        grpc_call = stub(message, timeout=deadline_s, metadata=[("x-request-id", call.id)])
        cancelling = None
        if call.action == "cancel":
            cancelling = asyncio.get_running_loop().call_later(call.wait_s, progress.leave, grpc_call)
        try:
            await (_read(grpc_call, call, progress) if call.stream else _wait(grpc_call, progress))
        except aio.AioRpcError as error:
            progress.failed(error)
        except asyncio.CancelledError:
            if progress.ended_s is None:
                raise
        finally:
            if cancelling is not None:
                cancelling.cancel()
        progress.ended_s = progress.ended_s or time.monotonic()

    async def _vanish(self, call, progress):
        """Close the connection without a cancel or GOAWAY, as a cut cable would."""
        async with http2_peer(self._address) as peer:
            message = request(call.id, model=call.model).SerializeToString()
            peer.call(1, f"/togetherchat.v1.ChatService/{call.method}", message, [("x-request-id", call.id)])
            await peer.flush()
            await asyncio.sleep(call.wait_s)
            progress.ended_s = time.monotonic()
        progress.code = "CANCELLED"


class _Progress:
    """A call in flight, from its caller's side."""

    def __init__(self, call):
        self._planned = call
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
        # A caller's own timer may expire while the service's status is being read: the code is then
        # the caller's, and the trailers are the service's.
        if (
            failure.details
            and status_pb2.Status.FromString(failure.trailers[STATUS]).code == failure.code.value[0]
        ):
            self.reason = failure.info.reason

    def seen(self):
        return CallSeen(
            id=self._planned.id,
            method=self._planned.method,
            action=self._planned.action,
            began_s=self._began_s,
            ended_s=self.ended_s,
            code=self.code,
            reason=self.reason,
            text=compact("".join(self.text)),
            completed=self.completed,
        )


async def _wait(grpc_call, progress):
    response = await grpc_call
    progress.text = [part.text for choice in response.choices for part in choice.message.content]
    progress.code, progress.completed = "OK", True


async def _read(grpc_call, call, progress):
    events = 0
    async for event in grpc_call:
        events += 1
        progress.text.append(event.delta.text)
        progress.completed = progress.completed or event.HasField("completed")
        if call.action == "read slowly":
            await asyncio.sleep(call.wait_s / 20)
        if call.action == "stop reading" and events == 1 + call.pieces // 3:
            await asyncio.sleep(call.wait_s / 0.6 * STOPPED_READING_S)
            progress.leave(grpc_call)
    with suppress(asyncio.CancelledError):
        progress.code = (await grpc_call.code()).name
