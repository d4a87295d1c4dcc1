"""Translates the unary response of `POST /v1/chat/completions` to a `CompleteResponse`."""

from collections.abc import Iterable

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, logprobs, lost_text, response_parts, schema
from togetherchat_server.providers.together.error_body import ErrorBody


def from_schema(
    completion: schema.Completion,
    *,
    caller_brought_key: bool = False,
    call_id: str = "",
    secrets: tuple[Secret, ...] = (),
) -> service.CompleteResponse:
    """Translate a completion. `attempts` is left to the caller of this function, which counts them.

    `call_id` is the completion's id if the provider sent none. The two other arguments are for an error
    that came with status 200, see `errors`.

    Raises:
        ServiceError: the body or a choice is an error, or there are no choices
            (UPSTREAM_MALFORMED_RESPONSE).
    """
    error = _failure(completion)
    if error is not None:
        raise errors.from_stream_error(error, caller_brought_key=caller_brought_key, secrets=secrets)
    if not completion.choices:
        raise ServiceError(Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's response has no choices")
    completion_id = completion.id or call_id
    choices = [_choice(position, choice, completion_id) for position, choice in enumerate(completion.choices)]
    choice_usages = [choice.usage for choice in completion.choices if choice.usage is not None]
    usage = response_parts.usage(completion.usage, choice_usages[-1] if choice_usages else None, deltas=0)
    lost = lost_text.warnings_of(lost_text.lost_choices(choices, usage))
    warnings = dict.fromkeys([*response_parts.warnings(completion.warnings), *lost])
    return service.CompleteResponse(
        id=completion_id,
        model=completion.model,
        create_time=response_parts.create_time(completion.created),
        choices=sorted(choices, key=lambda choice: choice.index),
        usage=usage,
        system_fingerprint=completion.system_fingerprint,
        warnings=[chat.Warning(message=text) for text in warnings],
        echoed_prompts=[_echoed_prompt(entry) for entry in completion.prompt or ()],
    )


def to_events(completion: service.CompleteResponse) -> list[service.StreamCompleteResponse]:
    """Return the completion as a stream, for a provider that responds to `stream: true` with plain JSON."""
    started = service.Started(
        id=completion.id,
        model=completion.model,
        create_time=completion.create_time if completion.HasField("create_time") else None,
        system_fingerprint=completion.system_fingerprint,
    )
    completed = service.Completed(
        usage=completion.usage, warnings=completion.warnings, attempts=completion.attempts
    )
    return [
        service.StreamCompleteResponse(started=started),
        *(service.StreamCompleteResponse(delta=_delta(choice)) for choice in completion.choices),
        *(
            service.StreamCompleteResponse(choice_finished=_choice_finished(choice))
            for choice in completion.choices
        ),
        service.StreamCompleteResponse(completed=completed),
    ]


def _failure(completion: schema.Completion) -> ErrorBody | None:
    """Return the failure that a body reports: its own, or that of a choice."""
    if completion.error is not None:
        return completion.error
    for choice in completion.choices or ():
        if choice.error is not None or choice.finish_reason == schema.ERROR_FINISH_REASON:
            return choice.error or ErrorBody()
    return None


def _choice(position: int, choice: schema.ResponseChoice, completion_id: str) -> chat.Choice:
    tokens = logprobs.from_response(choice.logprobs)
    index = position if choice.index is None else choice.index
    message = _message(choice.message or schema.ResponseMessage())
    for number, call in enumerate(message.tool_calls):
        call.id = call.id or response_parts.tool_call_id(completion_id, index, number)
    return chat.Choice(
        index=index,
        message=message,
        finish_reason=response_parts.finish_reason(
            choice.finish_reason, calls_tools=bool(message.tool_calls)
        ),
        finish_reason_raw=choice.finish_reason,
        logprobs=chat.Logprobs(tokens=tokens) if tokens else None,
        seed=choice.seed,
    )


def _message(message: schema.ResponseMessage) -> chat.Message:
    text = response_parts.text(message)
    reasoning, reasoning_field = response_parts.reasoning(message)
    return chat.Message(
        role=response_parts.role(message.role),
        content=[chat.ContentPart(text=text)] if text else [],
        tool_calls=_tool_calls(response_parts.tool_calls(message)),
        reasoning=reasoning,
        reasoning_field=reasoning_field,
        refusal=response_parts.refusal(message),
    )


def _tool_calls(calls: Iterable[schema.ResponseToolCall]) -> list[chat.ToolCall]:
    """Each entry is a call. Sorted by index, and those that share one by position."""
    indexed = [(position if call.index is None else call.index, call) for position, call in enumerate(calls)]
    return [_tool_call(call) for _, call in sorted(indexed, key=lambda pair: pair[0])]


def _tool_call(call: schema.ResponseToolCall) -> chat.ToolCall:
    function = call.function or schema.ResponseFunction()
    return chat.ToolCall(
        id=call.id, function=chat.FunctionCall(name=function.name, arguments=function.arguments or "")
    )


def _echoed_prompt(entry: schema.ResponsePrompt) -> chat.EchoedPrompt:
    tokens = logprobs.from_response(entry.logprobs)
    return chat.EchoedPrompt(text=entry.text, logprobs=chat.Logprobs(tokens=tokens) if tokens else None)


def _delta(choice: chat.Choice) -> service.Delta:
    message = choice.message
    calls = (
        service.ToolCallDelta(
            index=index, id=call.id, name=call.function.name, arguments=call.function.arguments
        )
        for index, call in enumerate(message.tool_calls)
    )
    return service.Delta(
        choice_index=choice.index,
        role=message.role,
        text="".join(part.text for part in message.content),
        reasoning=message.reasoning,
        reasoning_field=message.reasoning_field,
        refusal=message.refusal,
        tool_calls=calls,
        logprobs=choice.logprobs if choice.HasField("logprobs") else None,
    )


def _choice_finished(choice: chat.Choice) -> service.ChoiceFinished:
    return service.ChoiceFinished(
        choice_index=choice.index,
        finish_reason=choice.finish_reason,
        finish_reason_raw=choice.finish_reason_raw,
        seed=choice.seed if choice.HasField("seed") else None,
    )
