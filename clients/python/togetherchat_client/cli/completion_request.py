"""Builds the completion request that the command line describes."""

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client.cli.arguments import Arguments


def build_request(
    arguments: Arguments, messages: list[chat.Message], *, model: str = ""
) -> service.CompleteRequest:
    """The request for the next completion of `messages`, by `model` or the model of the command line."""
    return service.CompleteRequest(
        model=model or arguments.model,
        messages=messages,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        seed=arguments.seed,
        user=arguments.user,
        stop=arguments.stop,
        reasoning_effort=arguments.reasoning_effort,
        fallback_models=arguments.fallback,
    )
