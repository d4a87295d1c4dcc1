"""Encodes requests as the provider receives them, adapted to the model, the tenant and the prompt."""

from dataclasses import dataclass, replace
from typing import final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.providers.together import prompt_cache, reasoning_effort
from togetherchat_server.providers.together.options import ProviderOptions
from togetherchat_server.providers.together.request import Adaptation, to_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRequest:
    """The body of a request, and warnings for the caller about the values that differ from its own."""

    body: bytes
    warnings: tuple[chat.Warning, ...] = ()


@final
class RequestEncoder:
    """Adapts and encodes requests as the options say."""

    def __init__(self, options: ProviderOptions) -> None:
        self._options = options

    def encode(self, request: service.CompleteRequest, call: Call, *, stream: bool) -> EncodedRequest:
        """Return what to send for `request.model`."""
        options = self._options
        key = prompt_cache.key_of(
            request, call, derive=options.prompt_cache_affinity, with_user=options.forward_user
        )
        adaptation = Adaptation.unchanged(request, prompt_cache_key=key)
        effort = self._effort(request, call)
        if effort is not None:
            enabled = adaptation.reasoning_enabled if effort.enabled is None else effort.enabled
            adaptation = replace(adaptation, reasoning_effort=effort.word, reasoning_enabled=enabled)
        return EncodedRequest(
            body=to_schema(request, stream=stream, forward_user=options.forward_user, adaptation=adaptation),
            warnings=() if effort is None else (chat.Warning(message=effort.warning),),
        )

    def _effort(self, request: service.CompleteRequest, call: Call) -> reasoning_effort.Effort | None:
        """Return what replaces the request's effort; None if it is sent unchanged."""
        options = self._options
        if not (request.reasoning_effort and options.adapt_reasoning_effort and call.adapts_reasoning_effort):
            return None
        entry = options.catalog_entry(request.model)
        return None if entry is None else reasoning_effort.replacement(request, entry)
