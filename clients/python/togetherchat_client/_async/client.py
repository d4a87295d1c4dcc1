"""The client: one channel, and a method for each thing that the service does."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, Unpack

import grpc

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat.v1.chat_service_pb2_grpc import ChatServiceStub
from togetherchat_client._async.calls import OnInfo, unary
from togetherchat_client._async.completion_stream import AsyncCompletionStream
from togetherchat_client.channel import (
    ChannelConfig,
    Metadata,
    Option,
    Tls,
    resolve_config,
    without_health_checks,
)
from togetherchat_client.health import CHECK, ServingStatus, decode_response, encode_request
from togetherchat_client.requests import (
    CompleteFields,
    ListFields,
    Messages,
    complete_request,
    list_request,
)


def connect_async(  # noqa: PLR0913  each is a word that a caller may want to say
    target: str = "localhost:50051",
    *,
    key: str | None = None,
    upstream_key: str | None = None,
    timeout_s: float | None = None,
    tls: bool | Tls | None = None,
    retries: bool = True,
    channel_options: Sequence[Option] = (),
) -> "AsyncClient":
    """A client of the service at `target`. Use it in a `with`, or close it.

    Args:
        target: `host:port`, or any target that gRPC knows (`dns:///…`, `unix:…`).
        key: what the service knows this caller by; sent as `authorization: Bearer …`.
        upstream_key: the caller's own Together key, where the service takes one.
        timeout_s: deadline of every call that sets none, in seconds. Unset: 600 s for an
            answer, 30 s for a page of models.
        tls: True, False or options. Unset: plain text on this machine, TLS elsewhere.
        retries: False for a client that never sends a call twice.
        channel_options: gRPC channel arguments; they win over this library's.

    Raises:
        ValueError: a key has a character that metadata cannot carry.
    """
    return AsyncClient(
        resolve_config(
            target,
            key=key,
            upstream_key=upstream_key,
            timeout_s=timeout_s,
            tls=tls,
            retries=retries,
            channel_options=channel_options,
        )
    )


class AsyncClient:
    """Calls the service. Safe to share; every failure of a call is a `TogetherChatError`."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._channel = _open(config, config.options)
        self._stub = ChatServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls that are under way are cancelled."""
        await self._channel.close()

    async def complete(
        self,
        model: str | service.CompleteRequest,
        messages: Messages = (),
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        on_info: OnInfo | None = None,
        **fields: Unpack[CompleteFields],
    ) -> service.CompleteResponse:
        """The whole answer. `fields` are those of CompleteRequest.

        Args:
            model: the model's id, or a ready CompleteRequest and nothing beside it.
            messages: the conversation, or one string as the user's question.
            timeout_s: deadline of this call in seconds.
            request_id: 1 to 128 printable ASCII characters; one is made up where it is empty.
            metadata: pairs to send besides, such as `traceparent`; names in lower case.
            on_info: called with the call's CallInfo after it succeeded. A failure has it in
                the exception's `info`.
            **fields: such as `temperature=0.2` or `max_tokens=500`.

        Raises:
            TogetherChatError: the call failed; see `togetherchat_client.errors`.
        """
        request = complete_request(model, messages, **fields)
        request_id = request_id or _new_request_id()
        call = self._stub.Complete(
            request,
            timeout=self._config.call_timeout_s("Complete", timeout_s),
            metadata=self._config.metadata(request_id, metadata),
        )
        return await unary(call, request_id=request_id, on_info=on_info)

    @asynccontextmanager
    async def stream(
        self,
        model: str | service.CompleteRequest,
        messages: Messages = (),
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        on_info: OnInfo | None = None,
        **fields: Unpack[CompleteFields],
    ) -> AsyncGenerator[AsyncCompletionStream, None]:
        """The answer while it is made, as a context manager. Arguments are those of `complete`.

        Leaving the context ends the call, whole or not.
        """
        request = complete_request(model, messages, **fields)
        request_id = request_id or _new_request_id()
        call = self._stub.StreamComplete(
            request,
            timeout=self._config.call_timeout_s("StreamComplete", timeout_s),
            metadata=self._config.metadata(request_id, metadata),
        )
        try:
            yield AsyncCompletionStream(call, request_id=request_id, on_info=on_info)
        finally:
            call.cancel()

    async def models(
        self,
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
        on_info: OnInfo | None = None,
        **filters: Unpack[ListFields],
    ) -> AsyncIterator[models.Model]:
        """Every model that the filters let through, page after page."""
        pages = self.model_pages(timeout_s=timeout_s, metadata=metadata, on_info=on_info, **filters)
        async for page in pages:
            for model in page.models:
                yield model

    async def model_pages(
        self,
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
        on_info: OnInfo | None = None,
        **filters: Unpack[ListFields],
    ) -> AsyncIterator[service.ListModelsResponse]:
        """The pages of `models`, with what they say beside the models. `on_info` is called for each."""
        page_token = ""
        while True:
            page = await self.model_page(
                page_token, timeout_s=timeout_s, metadata=metadata, on_info=on_info, **filters
            )
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    async def model_page(
        self,
        page_token: str = "",
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        on_info: OnInfo | None = None,
        **filters: Unpack[ListFields],
    ) -> service.ListModelsResponse:
        """One page: the first, or the one that `next_page_token` of the page before it names."""
        request_id = request_id or _new_request_id()
        call = self._stub.ListModels(
            list_request(page_token, **filters),
            timeout=self._config.call_timeout_s("ListModels", timeout_s),
            metadata=self._config.metadata(request_id, metadata),
        )
        return await unary(call, request_id=request_id, on_info=on_info)

    async def health(self, service: str = "", *, timeout_s: float | None = None) -> ServingStatus:
        """Whether `service` takes calls; empty asks about the server as a whole.

        It asks over a channel of its own, for the channel of the other calls obeys the
        answer: it would not reach a service that says NOT_SERVING.
        """
        request_id = _new_request_id()
        options = without_health_checks(self._config.options)
        async with _open(self._config, options) as channel:
            check = channel.unary_unary(CHECK, encode_request, decode_response)
            call = check(
                service,
                timeout=self._config.call_timeout_s("Check", timeout_s),
                metadata=self._config.metadata(request_id),
            )
            return await unary(call, request_id=request_id, on_info=None)


def _open(config: ChannelConfig, options: Sequence[Option]) -> grpc.aio.Channel:
    credentials = config.credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(config.target, options)
    return grpc.aio.secure_channel(config.target, credentials, options)


def _new_request_id() -> str:
    return os.urandom(16).hex()
