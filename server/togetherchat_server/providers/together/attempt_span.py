"""Records one attempt for the call's trace, if the call is traced.

Owns which facts of requests and responses are recorded: numbers, ids, model names and finish reasons;
never a text. Does not know how a span is exported: that is `telemetry/tracing`.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self, final

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.call import Call, EventBatch
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.domain.trace_context import CANCELLED, AttemptTrace

PARAMETERS: Final = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "n",
)
TOKENS: Final = ("cached_tokens", "reasoning_tokens")
FINISH_REASONS: Final[Mapping[chat.FinishReason.ValueType, str]] = {
    chat.FINISH_REASON_STOP: "stop",
    chat.FINISH_REASON_LENGTH: "length",
    chat.FINISH_REASON_TOOL_CALLS: "tool_calls",
    chat.FINISH_REASON_CONTENT_FILTER: "content_filter",
    chat.FINISH_REASON_OTHER: "other",
}


class NoopAttemptSpan:
    """The attempt of a call that is not traced. Records nothing."""

    def __init__(self, call: Call) -> None:
        self.traceparent = call.traceparent
        self.tracestate = call.tracestate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def request(self, request: service.CompleteRequest, *, streamed: bool) -> None:
        pass

    def status(self, status: int, upstream: str) -> None:
        pass

    def events(self, events: EventBatch) -> None:
        """Record a batch of a streamed completion."""

    def response(self, response: service.CompleteResponse) -> None:
        pass

    def done(self) -> None:
        pass


@final
class AttemptSpan(NoopAttemptSpan):
    """The attempt of a traced call."""

    def __init__(self, attempt: AttemptTrace, clock: Callable[[], float]) -> None:
        self.traceparent = attempt.span.traceparent
        self.tracestate = attempt.span.state
        self._attempt = attempt
        self._clock = clock
        self._done = False

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        attempt = self._attempt
        attempt.ended_s = self._clock()
        if self._done or attempt.failure:
            return
        if isinstance(exception, ServiceError):
            attempt.failure = exception.reason.value
        elif exception is not None:
            attempt.failure = CANCELLED

    def request(self, request: service.CompleteRequest, *, streamed: bool) -> None:
        self._attempt.model = request.model
        self._attempt.streamed = streamed
        self._attempt.parameters = {
            name: getattr(request, name) for name in PARAMETERS if request.HasField(name)
        }

    def status(self, status: int, upstream: str) -> None:
        self._attempt.http_status = status
        self._attempt.upstream = upstream

    def events(self, events: EventBatch) -> None:
        attempt = self._attempt
        if attempt.first_event_s is None and events:
            attempt.first_event_s = self._clock()
        for event in events:
            match event.WhichOneof("event"):
                case "started":
                    attempt.response_id, attempt.response_model = event.started.id, event.started.model
                case "choice_finished":
                    reason = FINISH_REASONS.get(event.choice_finished.finish_reason, "other")
                    attempt.finish_reasons += (reason,)
                case "completed":
                    attempt.usage = _tokens(event.completed.usage)
                    self.done()
                case _:
                    pass

    def response(self, response: service.CompleteResponse) -> None:
        attempt = self._attempt
        attempt.response_id, attempt.response_model = response.id, response.model
        attempt.finish_reasons = tuple(
            FINISH_REASONS.get(choice.finish_reason, "other") for choice in response.choices
        )
        attempt.usage = _tokens(response.usage)
        self.done()

    def done(self) -> None:
        self._done = True


def _tokens(usage: chat.Usage) -> dict[str, int]:
    if usage.estimated or not usage.total_tokens:
        return {}
    optional = {name: getattr(usage, name) for name in TOKENS if usage.HasField(name)}
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, **optional}
