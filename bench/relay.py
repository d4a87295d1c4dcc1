"""The smallest relay in Python: a grpcio.aio handler and the service's own HTTP client, nothing else.

A few lines translate messages to JSON and back. The relay has no validation, limits, retries, log or
metrics. The difference to the service is the cost of the service's features. The cost of the relay itself
cannot be avoided with grpcio.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import grpc
import orjson

from bench.bare import serve
from togetherchat.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc
from togetherchat_server.config import ProviderConfig
from togetherchat_server.domain.secret import Secret
from togetherchat_server.upstream.client import UpstreamClient, UpstreamLimits
from togetherchat_server.upstream.sse import SseDecoder

Request = chat_service_pb2.CompleteRequest
Response = chat_service_pb2.CompleteResponse
Event = chat_service_pb2.StreamCompleteResponse
PATH: Final = "chat/completions"
KEY: Final = Secret("key-of-a-benchmark-0123456789")


class RelayServicer(chat_service_pb2_grpc.ChatServiceServicer):
    """Relays text only."""

    def __init__(self, upstream: UpstreamClient) -> None:
        self._upstream = upstream

    async def Complete(  # noqa: N802  the contract's name
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        del context
        response = await self._upstream.send("POST", PATH, key=KEY, request_id="r", body=_body(request))
        completion = orjson.loads(response.body)
        text: str = completion["choices"][0]["message"]["content"]
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        usage = chat_pb2.Usage(**{name: completion["usage"][name] for name in names})
        message = chat_pb2.Message(role=chat_pb2.ROLE_ASSISTANT, content=[chat_pb2.ContentPart(text=text)])
        choice = chat_pb2.Choice(finish_reason=chat_pb2.FINISH_REASON_STOP, message=message)
        return Response(id=completion["id"], model=completion["model"], choices=[choice], usage=usage)

    async def StreamComplete(  # noqa: N802  the contract's name
        self, request: Request, context: grpc.aio.ServicerContext[Request, Event]
    ) -> AsyncIterator[Event]:
        """Yield one message per token."""
        del context
        decoder = SseDecoder(max_event_bytes=1 << 20)
        yield Event(started=chat_service_pb2.Started(model=request.model))
        body = _body(request, stream=True)
        upstream_stream = await self._upstream.open_stream(PATH, key=KEY, request_id="r", body=body)
        async with aclosing(upstream_stream) as response:
            while data := await response.read():
                for event in decoder.feed(data):
                    if event.data != b"[DONE]":
                        for choice in orjson.loads(event.data)["choices"]:
                            yield Event(delta=chat_service_pb2.Delta(text=choice["delta"]["content"] or ""))
        yield Event(
            choice_finished=chat_service_pb2.ChoiceFinished(finish_reason=chat_pb2.FINISH_REASON_STOP)
        )
        yield Event(completed=chat_service_pb2.Completed())


def _body(request: Request, *, stream: bool = False) -> bytes:
    messages = [
        {"role": "user", "content": "".join(part.text for part in message.content)}
        for message in request.messages
    ]
    return orjson.dumps({"model": request.model, "messages": messages, "stream": stream})


async def main() -> None:
    client = UpstreamClient.connect(
        ProviderConfig(base_url=os.environ["TOGETHER_BASE_URL"], key=None),
        limits=UpstreamLimits(connections_max=12_000),
        user_agent="bench/1",
    )
    # Abstract for the type checker alone, as in `bare`.
    await serve(RelayServicer(client))  # pyright: ignore[reportAbstractUsage]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
