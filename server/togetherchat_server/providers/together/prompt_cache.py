"""The key by which the provider routes a request to a prompt cache.

Together routes by `prompt_cache_key`, else by `user`, else by content, and each server has a cache of its
own. Without a key, the calls of one conversation reach different servers: public measurements found hit
rates below 1% without a key and above 90% with one (github.com/vectorize-io/hindsight/pull/3271).

So a request without a key gets one: a hash of what stays the same in a conversation (tenant, user, model,
instructions, tools, first message of the user). The hash is keyed with the provider's key, so nobody else
can compute it. A caller's own key is hashed too if the caller belongs to a tenant: otherwise one tenant
could send the key of another one, and find out from the time and the cached tokens what that one sends.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.secret import Secret

PART_CHARACTERS_MAX: Final = 4096
"""The characters of one text that are hashed. Later ones rarely distinguish conversations."""
BYTES_MAX: Final = 256 * 1024
"""The bytes that are hashed, so that a large request does not hold up the event loop."""

_NO_KEY: Final = Secret("none")
"""For a provider without keys: nobody can be kept from computing the hash, and nobody has a reason to."""


def key_of(request: service.CompleteRequest, call: Call, *, derive: bool, with_user: bool) -> str:
    """Return the key to send; empty for none.

    Args:
        request: its own key is used if it has one.
        call: its tenant and its upstream key scope the result.
        derive: whether a request without a key gets one.
        with_user: whether `user` distinguishes derived keys. Without it, the provider cannot find out
            anything about the user, not even with its own key.
    """
    secret = call.upstream_key or _NO_KEY
    tenant = call.tenant.encode()
    if request.prompt_cache_key:
        if not tenant:
            return request.prompt_cache_key
        return secret.keyed_hash((b"prompt cache, scoped", tenant, request.prompt_cache_key.encode()))
    if not derive:
        return ""
    user = request.user.encode() if with_user else b""
    head = (b"prompt cache, derived", tenant, user, request.model.encode())
    return secret.keyed_hash((*head, *_bounded(_stable_parts(request))))


def _stable_parts(request: service.CompleteRequest) -> Iterator[str | bytes]:
    """Yield the parts of a prompt that stay the same in a conversation, the most specific one first."""
    instructions: list[chat.Message] = []
    for message in request.messages:
        if message.role == chat.ROLE_USER:
            yield from _content(message)
            break
        instructions.append(message)
    for message in instructions:
        yield from _content(message)
    for tool in request.tools:
        yield tool.function.name
        yield tool.function.description
        yield tool.function.parameters_json


def _content(message: chat.Message) -> Iterator[str | bytes]:
    for part in message.content:
        match part.WhichOneof("part"):
            case "image":
                yield part.image.data or part.image.url
            case "video_url":
                yield part.video_url
            case "audio_url":
                yield part.audio_url
            case "audio":
                yield part.audio.data
            case _:
                yield part.text


def _bounded(parts: Iterable[str | bytes]) -> Iterator[bytes]:
    left = BYTES_MAX
    for part in parts:
        cut = part[:PART_CHARACTERS_MAX]
        data = cut.encode() if isinstance(cut, str) else cut
        yield data
        left -= len(data) + 1
        if left <= 0:
            return
