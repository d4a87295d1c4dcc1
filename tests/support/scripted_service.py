"""ChatService and UsageService in the test's own process that follow a script and record their calls.

Each call takes the next turn of its method's script; the last turn repeats. A turn is a
sequence of steps: a message to send, a `Failure` to end with, or an `asyncio.Event` to wait for.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat.v1.chat_service_pb2_grpc import ChatServiceServicer, add_ChatServiceServicer_to_server
from togetherchat.v1.usage_service_pb2_grpc import UsageServiceServicer, add_UsageServiceServicer_to_server

REQUEST_BYTES_MAX = 64 * 1024 * 1024
MODEL = "openai/gpt-oss-120b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An end other than OK, with the trailers of the contract."""

    code: grpc.StatusCode
    reason: str = "INTERNAL_ERROR"
    message: str = "it failed"
    pushback_ms: int | None = None
    retry_after_s: int | None = None
    retryable: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()
    resource_name: str = ""
    rich: bool = True

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        pairs: list[tuple[str, str | bytes]] = [
            ("x-error-reason", self.reason),
            ("x-error-retryable", "true" if self.retryable else "false"),
        ]
        if self.pushback_ms is not None:
            pairs.append(("grpc-retry-pushback-ms", str(self.pushback_ms)))
        if self.rich:
            pairs.append(("grpc-status-details-bin", self.status().SerializeToString()))
        return tuple(pairs)

    def status(self) -> status_pb2.Status:
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(domain="togetherchat", reason=self.reason, metadata=self.metadata)
        status.details.add().Pack(info)
        if self.retry_after_s is not None:
            wait = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=self.retry_after_s))
            status.details.add().Pack(wait)
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for path, description in self.violations:
                bad.field_violations.add(field=path, description=description)
            status.details.add().Pack(bad)
        if self.resource_name:
            resource = error_details_pb2.ResourceInfo(resource_type="model", resource_name=self.resource_name)
            status.details.add().Pack(resource)
        return status


Step: TypeAlias = (
    service.CompleteResponse
    | service.StreamCompleteResponse
    | service.ListModelsResponse
    | service.GetModelResponse
    | usage.QueryUsageResponse
    | usage.ListQuotasResponse
    | usage.ResetQuotaResponse
    | Failure
    | asyncio.Event
)
Turn: TypeAlias = Sequence[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call, as the service received it."""

    method: str
    request: (
        service.CompleteRequest
        | service.ListModelsRequest
        | service.GetModelRequest
        | usage.QueryUsageRequest
        | usage.ListQuotasRequest
        | usage.ResetQuotaRequest
    )
    metadata: dict[str, str | bytes]
    seconds_left: float | None
    """gRPC rounds a deadline up when it sends one: 30 s may be 30.1 s here."""


class ScriptedService(ChatServiceServicer, UsageServiceServicer):
    """Follows the script and records the calls.

    `seen` has every attempt; `waiting` is set when a call waits for an event of its script,
    `cancelled` when a caller cancelled a call.
    """

    def __init__(self, **script: Sequence[Turn]) -> None:
        """`script` has a list of turns under the name of a method."""
        self._script = {method: list(turns) for method, turns in script.items()}
        self.seen: list[Seen] = []
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.trailers: tuple[tuple[str, str], ...] = (("x-upstream", "sandbox"),)

    async def Complete(self, request, context):  # noqa: N802  the RPC's name
        async for step in self._play("Complete", request, context):
            return step
        return service.CompleteResponse()

    async def StreamComplete(self, request, context):  # noqa: N802
        try:
            async for step in self._play("StreamComplete", request, context):
                yield step
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def ListModels(self, request, context):  # noqa: N802
        async for step in self._play("ListModels", request, context):
            return step
        return service.ListModelsResponse()

    async def GetModel(self, request, context):  # noqa: N802
        async for step in self._play("GetModel", request, context):
            return step
        return service.GetModelResponse()

    async def QueryUsage(self, request, context):  # noqa: N802
        async for step in self._play("QueryUsage", request, context):
            return step
        return usage.QueryUsageResponse()

    async def ListQuotas(self, request, context):  # noqa: N802
        async for step in self._play("ListQuotas", request, context):
            return step
        return usage.ListQuotasResponse()

    async def ResetQuota(self, request, context):  # noqa: N802
        async for step in self._play("ResetQuota", request, context):
            return step
        return usage.ResetQuotaResponse()

    async def _play(self, method, request, context) -> AsyncIterator[Step]:
        metadata = dict(context.invocation_metadata())
        self.seen.append(
            Seen(method=method, request=request, metadata=metadata, seconds_left=context.time_remaining())
        )
        trailers = (("x-request-id", metadata["x-request-id"]), *self.trailers)
        context.set_trailing_metadata(trailers)
        for step in self._next_turn(method):
            match step:
                case asyncio.Event():
                    await self._wait(step)
                case Failure():
                    await context.abort(step.code, step.message, (*trailers, *step.trailers()))
                case _:
                    yield step

    def _next_turn(self, method: str) -> Turn:
        turns = self._script[method]
        return turns.pop(0) if len(turns) > 1 else turns[0]

    async def _wait(self, event: asyncio.Event) -> None:
        self.waiting.set()
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@asynccontextmanager
async def serving(
    scripted: ScriptedService,
    *,
    health: health_aio.HealthServicer | None = None,
    credentials: grpc.ServerCredentials | None = None,
    address: str = "127.0.0.1:0",
) -> AsyncIterator[str]:
    """The address of a server that runs `scripted`, with a health service if one is given."""
    server = grpc.aio.server(
        options=(("grpc.max_receive_message_length", REQUEST_BYTES_MAX), ("grpc.so_reuseport", 0))
    )
    add_ChatServiceServicer_to_server(scripted, server)
    add_UsageServiceServicer_to_server(scripted, server)
    if health is not None:
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=None)


def response_of(text: str, *, model: str = MODEL) -> service.CompleteResponse:
    """The response of Complete with `text`; `stream_of` streams the same."""
    return service.CompleteResponse(
        id="chat-1",
        model=model,
        choices=[
            chat.Choice(
                message=chat.Message(role=chat.ROLE_ASSISTANT, content=[chat.ContentPart(text=text)]),
                finish_reason=chat.FINISH_REASON_STOP,
                finish_reason_raw="stop",
            )
        ],
        usage=chat.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5, cost_nano_usd=1650),
        attempts=1,
    )


def started(*, model: str = MODEL) -> service.StreamCompleteResponse:
    return service.StreamCompleteResponse(started=service.Started(id="chat-1", model=model))


def delta(text: str) -> service.StreamCompleteResponse:
    return service.StreamCompleteResponse(delta=service.Delta(text=text))


def ending() -> tuple[service.StreamCompleteResponse, service.StreamCompleteResponse]:
    """The last events of a stream."""
    finished = service.ChoiceFinished(finish_reason=chat.FINISH_REASON_STOP, finish_reason_raw="stop")
    usage = chat.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5, cost_nano_usd=1650)
    return (
        service.StreamCompleteResponse(choice_finished=finished),
        service.StreamCompleteResponse(completed=service.Completed(usage=usage, attempts=1)),
    )


def stream_of(*texts: str) -> Turn:
    """A complete stream, with a delta for each of `texts`."""
    return (started(), *(delta(text) for text in texts), *ending())
