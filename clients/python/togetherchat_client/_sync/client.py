# Generated from _async/client.py by generate_sync.py. Edit that file instead.
"""The client: a method for each RPC of the service, over channels that open at the first call."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, Unpack

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_client._sync.calls import OnInfo, unary
from togetherchat_client._sync.completion_stream import CompletionStream
from togetherchat_client.arguments import Metadata
from togetherchat_client.channel import MAX_RECONNECT_BACKOFF_S, ChannelConfig, Option, Tls, resolve_config
from togetherchat_client.channels import Channels
from togetherchat_client.health import CHECK, ServingStatus, decode_response, encode_request
from togetherchat_client.requests import (
    CompleteFields,
    ListFields,
    Messages,
    complete_request,
    list_request,
)
from togetherchat_client.usage_requests import UsageFields, usage_request


def connect(  # noqa: PLR0913  keyword arguments that callers need
    target: str = "localhost:50051",
    *,
    key: str | None = None,
    upstream_key: str | None = None,
    timeout_s: float | None = None,
    tls: bool | Tls | None = None,
    retries: bool = True,
    health_checking: bool = False,
    wait_for_ready: bool = False,
    max_reconnect_backoff_s: float = MAX_RECONNECT_BACKOFF_S,
    channel_options: Sequence[Option] = (),
) -> "Client":
    """Return a client of the service at `target`. Use the client as a context manager, or close it.

    Opens nothing: may be called anywhere, also while a module is imported.

    Args:
        target: `host:port`, `dns:///host:port`, `unix:path` or another gRPC target, never a URL.
        key: API key of the service; sent as `authorization: Bearer …`.
        upstream_key: the caller's own Together API key, where the service accepts one.
        timeout_s: deadline in seconds of each call that sets none. Default: 600 s for a
            completion, 30 s for models and usage.
        tls: True, False or options. Default: plaintext to this machine, TLS to any other.
        retries: False disables gRPC's retries.
        health_checking: True sends no calls to a server that reports NOT_SERVING. A server or proxy that
            does not answer the health watch within a second counts as healthy.
        wait_for_ready: True makes calls wait until their deadline for a server that is not up yet,
            instead of failing at once.
        max_reconnect_backoff_s: the longest time between two attempts to connect.
        channel_options: gRPC channel arguments; they override this library's.

    Raises:
        ValueError: the target, a key, the timeout or the back-off is not valid.
    """
    return Client(
        resolve_config(
            target,
            key=key,
            upstream_key=upstream_key,
            timeout_s=timeout_s,
            tls=tls,
            retries=retries,
            health_checking=health_checking,
            wait_for_ready=wait_for_ready,
            max_reconnect_backoff_s=max_reconnect_backoff_s,
            channel_options=channel_options,
        )
    )


class Client:
    """Client of the service. A failed call raises a `TogetherChatError`.

    Can be shared between threads, and between event loops. A channel opens with the first call.
    """

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._channels = Channels(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all channels. Calls in flight are cancelled, and later calls raise RuntimeError."""
        self._channels.close()

    def complete(  # noqa: PLR0913  keyword arguments that callers need
        self,
        model: str | service.CompleteRequest,
        messages: Messages = (),
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
        **fields: Unpack[CompleteFields],
    ) -> service.CompleteResponse:
        """Return a whole completion.

        Args:
            model: the model's id, or a CompleteRequest without `messages` and `fields`.
            messages: the conversation, or one string as a user message. A message may be a dictionary
                of OpenAI's API.
            timeout_s: deadline of this call in seconds, at most one day.
            request_id: 1 to 128 printable ASCII characters. Generated when empty.
            metadata: further pairs to send, such as `traceparent`. They replace the client's own.
            wait_for_ready: overrides the client's setting.
            on_info: called with the CallInfo when the call succeeds. A failed call has it in
                the exception's `info`.
            **fields: further fields of CompleteRequest, such as `temperature=0.2`.

        Raises:
            TogetherChatError: the call failed; see `togetherchat_client.errors`.
            ValueError: an argument is not valid. Nothing was sent.
        """
        request = complete_request(model, messages, **fields)
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "Complete",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).chat.Complete.future(request, **arguments)
        return unary(call, request_id=request_id, on_info=on_info)

    @contextmanager
    def stream(  # noqa: PLR0913  keyword arguments that callers need
        self,
        model: str | service.CompleteRequest,
        messages: Messages = (),
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
        **fields: Unpack[CompleteFields],
    ) -> Generator[CompletionStream, None, None]:
        """Stream a completion, as a context manager. The arguments are those of `complete`.

        Leaving the context cancels the call if it has not ended.
        """
        request = complete_request(model, messages, **fields)
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "StreamComplete",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).chat.StreamComplete(request, **arguments)
        stream = CompletionStream(call, request_id=request_id, on_info=on_info)
        try:
            yield stream
        finally:
            stream.cancel()

    def models(
        self,
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
        **filters: Unpack[ListFields],
    ) -> Iterator[models.Model]:
        """All models that match the filters, from all pages."""
        pages = self.model_pages(
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
            on_info=on_info,
            **filters,
        )
        for page in pages:
            yield from page.models

    def model_pages(
        self,
        *,
        timeout_s: float | None = None,
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
        **filters: Unpack[ListFields],
    ) -> Iterator[service.ListModelsResponse]:
        """The pages of `models`, with their warnings. `on_info` is called for each page."""
        page_token = ""
        while True:
            page = self.model_page(
                page_token,
                timeout_s=timeout_s,
                metadata=metadata,
                wait_for_ready=wait_for_ready,
                on_info=on_info,
                **filters,
            )
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    def model_page(
        self,
        page_token: str = "",
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
        **filters: Unpack[ListFields],
    ) -> service.ListModelsResponse:
        """One page: the first, or the page at `page_token`, the `next_page_token` of the previous page."""
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "ListModels",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).chat.ListModels.future(
            list_request(page_token, **filters), **arguments
        )
        return unary(call, request_id=request_id, on_info=on_info)

    def get_model(
        self,
        model_id: str,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
    ) -> service.GetModelResponse:
        """One model, by its id or an alias, with the warnings of the list.

        Raises:
            ModelNotFoundError: the service lists no such model; `resource_name` is `model_id`.
        """
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "GetModel",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).chat.GetModel.future(
            service.GetModelRequest(id=model_id), **arguments
        )
        return unary(call, request_id=request_id, on_info=on_info)

    def query_usage(
        self,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
        **fields: Unpack[UsageFields],
    ) -> usage.QueryUsageResponse:
        """One page of a report of usage and cost. The fields are those of QueryUsageRequest.

        Args:
            timeout_s: as for `complete`, and so are the arguments up to `on_info`.
            request_id: 1 to 128 printable ASCII characters. Generated when empty.
            metadata: further pairs to send.
            wait_for_ready: overrides the client's setting.
            on_info: called with the CallInfo when the call succeeds.
            **fields: the period as datetimes with a time zone, `group_by` as words such as `tenant`, filters.

        Raises:
            UnimplementedError: the service records no usage.
            PermissionDeniedError: the key must not see a tenant that `tenants` names.
            ValueError: an argument is not valid. Nothing was sent.
        """
        request = usage_request(**fields)
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "QueryUsage",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).usage.QueryUsage.future(request, **arguments)
        return unary(call, request_id=request_id, on_info=on_info)

    def list_quotas(
        self,
        tenants: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
    ) -> usage.ListQuotasResponse:
        """What is used, reserved and left of the limits of tenants. Empty: all that the key may see."""
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "ListQuotas",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).usage.ListQuotas.future(
            usage.ListQuotasRequest(tenants=tenants), **arguments
        )
        return unary(call, request_id=request_id, on_info=on_info)

    def reset_quota(
        self,
        tenant: str,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        metadata: Metadata = (),
        wait_for_ready: bool | None = None,
        on_info: OnInfo | None = None,
    ) -> usage.ResetQuotaResponse:
        """Forget the requests and tokens per minute of a tenant. The key needs the scope `admin`."""
        request_id = request_id or _new_request_id()
        arguments = self._config.call_arguments(
            "ResetQuota",
            request_id=request_id,
            timeout_s=timeout_s,
            metadata=metadata,
            wait_for_ready=wait_for_ready,
        )
        call = self._channels.opened(arguments).usage.ResetQuota.future(
            usage.ResetQuotaRequest(tenant=tenant), **arguments
        )
        return unary(call, request_id=request_id, on_info=on_info)

    def health(self, service: str = "", *, timeout_s: float | None = None) -> ServingStatus:
        """Return the health status of `service`. Empty means the server as a whole.

        The check has a channel of its own: the channel of the other calls does not send calls to a
        service that reports NOT_SERVING.
        """
        request_id = _new_request_id()
        with self._channels.open_for_check() as channel:
            check = channel.unary_unary(CHECK, encode_request, decode_response)
            call = check.future(
                service,
                **self._config.call_arguments("Check", request_id=request_id, timeout_s=timeout_s),
            )
            return unary(call, request_id=request_id, on_info=None)


def _new_request_id() -> str:
    return os.urandom(16).hex()
