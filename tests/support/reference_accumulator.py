"""A second accumulator, written from the comments of the protos alone, for tests to compare with."""

from collections.abc import Iterable

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service


def accumulate(events: Iterable[service.StreamCompleteResponse]) -> service.CompleteResponse:
    """The response that the events make up."""
    response = service.CompleteResponse()
    choices: dict[int, chat.Choice] = {}
    calls: dict[tuple[int, int], chat.ToolCall] = {}
    for event in events:
        match event.WhichOneof("event"):
            case "started":
                _add_started(response, event.started)
            case "delta":
                choice = choices.setdefault(
                    event.delta.choice_index, chat.Choice(index=event.delta.choice_index)
                )
                _add_delta(choice, event.delta, calls)
            case "choice_finished":
                _add_finished(choices[event.choice_finished.choice_index], event.choice_finished)
            case "completed":
                response.usage.CopyFrom(event.completed.usage)
                response.warnings.extend(event.completed.warnings)
                response.attempts = event.completed.attempts
                if event.completed.HasField("timings"):
                    response.timings.CopyFrom(event.completed.timings)
    for (index, _), call in sorted(calls.items(), key=lambda item: item[0]):
        choices[index].message.tool_calls.append(call)
    response.choices.extend(choices[index] for index in sorted(choices))
    return response


def _add_started(response: service.CompleteResponse, started: service.Started) -> None:
    response.id = started.id
    response.model = started.model
    response.system_fingerprint = started.system_fingerprint
    if started.HasField("create_time"):
        response.create_time.CopyFrom(started.create_time)


def _add_delta(
    choice: chat.Choice, delta: service.Delta, calls: dict[tuple[int, int], chat.ToolCall]
) -> None:
    message = choice.message
    message.role = delta.role or message.role
    message.reasoning += delta.reasoning
    message.refusal += delta.refusal
    message.reasoning_field = delta.reasoning_field or message.reasoning_field
    if delta.text:
        if not message.content:
            message.content.add()
        message.content[0].text += delta.text
    choice.logprobs.tokens.extend(delta.logprobs.tokens)
    if not choice.logprobs.tokens:
        choice.ClearField("logprobs")
    for fragment in delta.tool_calls:
        call = calls.setdefault((choice.index, fragment.index), chat.ToolCall(function=chat.FunctionCall()))
        call.id = fragment.id or call.id
        call.function.name = fragment.name or call.function.name
        call.function.arguments += fragment.arguments


def _add_finished(choice: chat.Choice, finished: service.ChoiceFinished) -> None:
    choice.finish_reason = finished.finish_reason
    choice.finish_reason_raw = finished.finish_reason_raw
    if finished.HasField("seed"):
        choice.seed = finished.seed
