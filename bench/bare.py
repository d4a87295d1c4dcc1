"""The floor: a grpcio.aio handler that responds at once from constants.

It shows what grpcio itself costs with the messages of the contract. Everything that a Python service
does is added to this.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from bench.payloads import PIECES, TEXT
from togetherchat.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc

CREATED = Timestamp(seconds=1786528791)
USAGE = chat_pb2.Usage(prompt_tokens=180, completion_tokens=200, total_tokens=380)
RESPONSE = chat_service_pb2.CompleteResponse(
    id="ovtS38F-bench",
    model="bench",
    create_time=CREATED,
    usage=USAGE,
    choices=[
        chat_pb2.Choice(
            finish_reason=chat_pb2.FINISH_REASON_STOP,
            finish_reason_raw="stop",
            message=chat_pb2.Message(role=chat_pb2.ROLE_ASSISTANT, content=[chat_pb2.ContentPart(text=TEXT)]),
        )
    ],
)
Event = chat_service_pb2.StreamCompleteResponse


class BareServicer(chat_service_pb2_grpc.ChatServiceServicer):
    """Responds from constants. Paced streams follow the clock; each token carries its due time."""

    async def Complete(  # noqa: N802  the contract's name
        self,
        request: chat_service_pb2.CompleteRequest,
        context: grpc.aio.ServicerContext[
            chat_service_pb2.CompleteRequest, chat_service_pb2.CompleteResponse
        ],
    ) -> chat_service_pb2.CompleteResponse:
        del request, context
        return RESPONSE

    async def StreamComplete(  # noqa: N802  the contract's name
        self,
        request: chat_service_pb2.CompleteRequest,
        context: grpc.aio.ServicerContext[chat_service_pb2.CompleteRequest, Event],
    ) -> AsyncIterator[Event]:
        del context
        tokens, gap_ms = map(int, request.model.removeprefix("bench-").split("x"))
        yield Event(started=chat_service_pb2.Started(id="ovtS38F-bench", model="bench", create_time=CREATED))
        due_s, epoch_s = time.monotonic(), time.time() - time.monotonic()
        for number in range(tokens):
            if gap_ms:
                yield Event(delta=chat_service_pb2.Delta(text=f" {round((due_s + epoch_s) * 1e6)}"))
                due_s += gap_ms / 1000
                await asyncio.sleep(due_s - time.monotonic())
            else:
                yield Event(delta=chat_service_pb2.Delta(text=PIECES[number % len(PIECES)]))
        yield Event(
            choice_finished=chat_service_pb2.ChoiceFinished(finish_reason=chat_pb2.FINISH_REASON_STOP)
        )
        yield Event(completed=chat_service_pb2.Completed(usage=USAGE))


async def check(
    request: health_pb2.HealthCheckRequest,
    context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
) -> health_pb2.HealthCheckResponse:
    del request, context
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


HEALTH = grpc.method_handlers_generic_handler(
    "grpc.health.v1.Health",
    {
        "Check": grpc.unary_unary_rpc_method_handler(
            check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
    },
)


async def serve(servicer: chat_service_pb2_grpc.ChatServiceServicer) -> None:
    """Serve the contract and health at the address that `--listen` names."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    server = grpc.aio.server()
    chat_service_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((HEALTH,))
    server.add_insecure_port(parser.parse_args().listen)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        # Abstract for the type checker alone: methods that are left out return UNIMPLEMENTED.
        asyncio.run(serve(BareServicer()))  # pyright: ignore[reportAbstractUsage]
