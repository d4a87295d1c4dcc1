"""Translates the unary response of `POST /v1/chat/completions` to a `CompleteResponse`."""

from collections.abc import Iterable

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, logprobs, response_parts, schema


def from_schema(
    completion: schema.Completion, *, caller_brought_key: bool = False, secrets: tuple[Secret, ...] = ()
) -> service.CompleteResponse:
    """The whole answer; its `attempts` is left to whoever counted them.

    The two other arguments are for an error that came with status 200, see `failures`.

    Raises:
        ServiceError: the body is an error after all, or has no choice in it
            (UPSTREAM_MALFORMED_RESPONSE).
    """
    if completion.error is not None:
        raise errors.from_stream_error(
            completion.error, caller_brought_key=caller_brought_key, secrets=secrets
        )
    if not completion.choices:
        raise ServiceError(Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's answer has no choice in it")
    choices = [_choice(place, choice) for place, choice in enumerate(completion.choices)]
    choice_usages = [choice.usage for choice in completion.choices if choice.usage is not None]
    remarks = dict.fromkeys(response_parts.remarks(completion.warnings))
    return service.CompleteResponse(
        id=completion.id,
        model=completion.model,
        create_time=response_parts.create_time(completion.created),
        choices=sorted(choices, key=lambda choice: choice.index),
        usage=response_parts.usage(completion.usage, choice_usages[-1] if choice_usages else None, pieces=0),
        system_fingerprint=completion.system_fingerprint,
        warnings=[chat.Warning(message=remark) for remark in remarks],
        prompt=[_echoed(entry) for entry in completion.prompt or ()],
    )


def _choice(place: int, choice: schema.Choice) -> chat.Choice:
    tokens = logprobs.of_answer(choice.logprobs)
    return chat.Choice(
        index=place if choice.index is None else choice.index,
        message=_answered(choice.message),
        finish_reason=response_parts.finish_reason(choice.finish_reason),
        finish_reason_raw=choice.finish_reason,
        logprobs=chat.Logprobs(tokens=tokens) if tokens else None,
        seed=choice.seed,
    )


def _answered(message: schema.Message) -> chat.Message:
    reasoning, reasoning_key = response_parts.reasoning(message)
    return chat.Message(
        role=response_parts.role(message.role),
        content=[chat.ContentPart(text=message.content)] if message.content else [],
        tool_calls=_called(message.tool_calls or ()),
        reasoning=reasoning,
        reasoning_key=reasoning_key,
    )


def _called(calls: Iterable[schema.ToolCall]) -> list[chat.ToolCall]:
    """By index, which is what a stream's fragments are joined on; without one, by place."""
    placed = [(place if call.index is None else call.index, call) for place, call in enumerate(calls)]
    return [_call(call) for _, call in sorted(placed, key=lambda pair: pair[0])]


def _call(call: schema.ToolCall) -> chat.ToolCall:
    function = call.function or schema.Function()
    return chat.ToolCall(
        id=call.id, function=chat.FunctionCall(name=function.name, arguments=function.arguments or "")
    )


def _echoed(entry: schema.PromptEntry) -> chat.EchoedPrompt:
    tokens = logprobs.of_answer(entry.logprobs)
    return chat.EchoedPrompt(text=entry.text, logprobs=chat.Logprobs(tokens=tokens) if tokens else None)
