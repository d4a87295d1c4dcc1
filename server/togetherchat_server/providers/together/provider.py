"""Together as a provider: the glue between the ports, the transport and the pure modules.

Owns the order of things in one attempt: ask, judge the status, read, translate; and what is
span of it in the call's `Progress`. Every decision is made elsewhere: translation in
`request`, `response` and `stream`, meaning of failures in `errors`, patience in `timeouts`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

from togetherchat.accumulator import Accumulator
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call, EventBatch, Phase
from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, rate_limits, schema, stream
from togetherchat_server.providers.together import models as model_list
from togetherchat_server.providers.together.attempt_span import AttemptSpan, NoopAttemptSpan
from togetherchat_server.providers.together.request import to_schema
from togetherchat_server.providers.together.response import from_schema
from togetherchat_server.upstream.client import UpstreamClient, UpstreamResponse, UpstreamStream
from togetherchat_server.upstream.sse import SseDecoder
from togetherchat_server.upstream.stream_timeouts import StreamTimeouts

NAME: Final = "together"
SANDBOX: Final = "sandbox"
CHAT_PATH: Final = "chat/completions"
MODELS_PATH: Final = "models"
DONE: Final = b"[DONE]"
ERROR_EVENT: Final = "error"
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
END_OF_HTTP_S: Final = 0.05
ERROR_BODY_BYTES_MAX: Final = 64 * 2**10
REQUEST_ID_HEADERS: Final = ("x-request-id", "x-together-traceid", "cf-ray")

LATE: Final = {
    Reason.FIRST_TOKEN_TIMEOUT: "the provider sent nothing of its answer in time",
    Reason.STREAM_IDLE_TIMEOUT: "the provider fell silent in the middle of its answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """How long to wait for what, in seconds, and how much to take, in bytes."""

    response_timeout_s: float
    first_token_timeout_s: float
    stream_idle_timeout_s: float
    max_response_bytes: int
    max_event_bytes: int
    stream_upstream_min_tokens: int
    """From this `max_tokens` on a whole answer is read as a stream; 0: always."""


@final
class TogetherProvider:
    """`Chat` and `LiveModels` over one transport."""

    def __init__(
        self,
        client: UpstreamClient,
        *,
        limits: ProviderLimits,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._limits = limits
        self._clock = clock
        self._wall_clock = wall_clock

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        if self._is_long(request):
            return await self._folded(request, call)
        body = to_schema(request, stream=False)
        with self._begin_attempt("POST", CHAT_PATH, call) as span:
            span.request(request, streamed=False)
            answer = await self._ask("POST", CHAT_PATH, call, body, span)
            response = _response(answer.body, request, call)
            span.response(response)
        self._note_id(response.id, call)
        return response

    @asynccontextmanager
    async def stream(
        self, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[AsyncIterator[EventBatch]]:
        timers = StreamTimeouts(
            started_s=self._clock(),
            first_token_timeout_s=self._limits.first_token_timeout_s,
            idle_s=self._limits.stream_idle_timeout_s,
        )
        async with AsyncExitStack() as stack:
            span = stack.enter_context(self._begin_attempt("POST", CHAT_PATH, call))
            span.request(request, streamed=True)
            opening = self._client.stream(
                CHAT_PATH,
                key=call.upstream_key,
                request_id=call.id,
                body=to_schema(request, stream=True),
                traceparent=span.traceparent,
                tracestate=span.tracestate,
            )
            async with _deadline(timers, self._clock()):
                answer = await stack.enter_async_context(opening)
            self._note_headers(answer.headers, call)
            span.status(answer.status, call.progress.upstream)
            if answer.status != HTTPStatus.OK:
                async with _deadline(timers, self._clock()):
                    body = await answer.read_all(ERROR_BODY_BYTES_MAX)
                raise self._failure(
                    UpstreamResponse(status=answer.status, headers=answer.headers, body=body), call
                )
            answered = self._answered(answer, timers, request, call)
            yield await stack.enter_async_context(aclosing(span.following(answered)))

    async def live_models(self, call: Call) -> Sequence[models.Model]:
        with self._begin_attempt("GET", MODELS_PATH, call) as span:
            answer = await self._ask("GET", MODELS_PATH, call, None, span)
            live = model_list.from_schema(schema.parse_models(answer.body))
            span.done()
        return live

    def _is_long(self, request: service.CompleteRequest) -> bool:
        """Whether the answer may take longer than the provider's edge lets a silent request last.

        Such an answer is read as a stream, with the patience of a stream, and folded. What a
        stream does not carry in full (alternatives, the prompt) is never asked for that way.
        """
        whole = request.HasField("logprobs") or request.echo
        return not whole and request.max_tokens >= self._limits.stream_upstream_min_tokens

    async def _folded(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        fold = Accumulator()
        async with self.stream(request, call) as batches:
            async for events in batches:
                for event in events:
                    fold.add(event)
        return fold.response()

    async def _ask(
        self, method: str, path: str, call: Call, body: bytes | None, span: NoopAttemptSpan
    ) -> UpstreamResponse:
        """One request with one JSON answer."""
        async with Deadline(
            self._limits.response_timeout_s, Reason.FIRST_TOKEN_TIMEOUT, LATE[Reason.FIRST_TOKEN_TIMEOUT]
        ):
            answer = await self._client.send(
                method,
                path,
                key=call.upstream_key,
                request_id=call.id,
                body=body,
                traceparent=span.traceparent,
                tracestate=span.tracestate,
            )
        self._note_headers(answer.headers, call)
        span.status(answer.status, call.progress.upstream)
        if answer.status != HTTPStatus.OK:
            raise self._failure(answer, call)
        _demand_json(answer.headers)
        call.progress.phase = Phase.ANSWERING
        return answer

    async def _answered(
        self, answer: UpstreamStream, timers: StreamTimeouts, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[EventBatch]:
        """The events of a 200. An answer that is JSON although a stream was asked for is an answer too."""
        if _media_type(answer.headers) == JSON:
            async with _deadline(timers, self._clock()):
                body = await answer.read_all(self._limits.max_response_bytes)
            response = _response(body, request, call)
            self._note_event(response.id, call)
            yield stream.events_from(response)
            return
        if _media_type(answer.headers) != EVENT_STREAM:
            raise ServiceError(Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's answer is no event stream")
        async with aclosing(self._translated(answer, timers, request, call)) as batches:
            async for events in batches:
                yield events

    async def _translated(
        self, answer: UpstreamStream, timers: StreamTimeouts, request: service.CompleteRequest, call: Call
    ) -> AsyncGenerator[EventBatch]:
        """Bytes to events, a batch for each read of the socket. What came before a failure is
        handed on before the failure is raised.
        """
        reading = _StreamReader(call, max_event_bytes=self._limits.max_event_bytes)
        failure: ServiceError | None = None
        while not reading.done and failure is None:
            async with _deadline(timers, self._clock()):
                data = await answer.read()
            if not data:
                break
            timers.bytes_arrived(self._clock())
            try:
                reading.feed(data)
            except ServiceError as error:
                failure = error
            events = reading.take(request.model)
            call.progress.output_pieces = reading.translator.pieces
            if events:
                timers.event_arrived(self._clock())
                self._note_event(events[0].started.id, call)
                yield events
        if failure is not None:
            raise failure
        reading.translator.finish(done=reading.done, attempts=call.progress.attempts)
        yield reading.translator.take()
        await answer.finish(END_OF_HTTP_S)

    def _begin_attempt(self, method: str, path: str, call: Call) -> NoopAttemptSpan:
        progress = call.progress
        progress.attempts += 1
        progress.output_pieces = 0
        progress.phase = Phase.AWAITING_ANSWER
        progress.upstream = NAME
        progress.upstream_request_id = ""
        progress.rate_limits = ()
        if call.trace is None:
            return NoopAttemptSpan(call)
        attempt = call.trace.attempt(http_method=method, path=path, started_s=self._clock())
        attempt.upstream = NAME
        return AttemptSpan(attempt, self._clock)

    def _note_headers(self, headers: Mapping[str, str], call: Call) -> None:
        progress = call.progress
        if headers.get("x-upstream") == SANDBOX:
            progress.upstream = SANDBOX
        progress.rate_limits = rate_limits.from_headers(headers)
        given = (headers.get(name, "") for name in REQUEST_ID_HEADERS)
        progress.upstream_request_id = next((value for value in given if value and value != call.id), "")

    def _note_event(self, upstream_id: str, call: Call) -> None:
        progress = call.progress
        if progress.first_event_s is None:
            progress.first_event_s = self._clock()
            progress.phase = Phase.ANSWERING
            self._note_id(upstream_id, call)

    def _note_id(self, upstream_id: str, call: Call) -> None:
        """The id in the body is what the provider's support asks for; a header will do."""
        if upstream_id:
            call.progress.upstream_request_id = upstream_id

    def _failure(self, answer: UpstreamResponse, call: Call) -> ServiceError:
        return errors.from_answer(
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            caller_brought_key=call.caller_brought_key,
            now_wall_s=self._wall_clock(),
            model=call.progress.model,
            secrets=_secrets(call),
        )


@final
class _StreamReader:
    """A stream being read: the decoder, the translator, and whether the end was seen."""

    def __init__(self, call: Call, *, max_event_bytes: int) -> None:
        self._call = call
        self._decoder = SseDecoder(max_event_bytes=max_event_bytes)
        self.translator = stream.ChatStreamTranslator(
            caller_brought_key=call.caller_brought_key, secrets=_secrets(call)
        )
        self.done = False

    def feed(self, data: bytes) -> None:
        for event in self._decoder.feed(data):
            if event.data.startswith(DONE):
                self.done = True
                return
            if event.name == ERROR_EVENT:
                raise _named_error(event.data, self._call)
            self.translator.feed(schema.parse_chunk(event.data))

    def take(self, model: str) -> EventBatch:
        """The events since the last take; an engine that does not say which model serves is taken at
        the caller's word.
        """
        events = self.translator.take()
        if events and events[0].HasField("started") and not events[0].started.model:
            events[0].started.model = model
        return events


def _deadline(timers: StreamTimeouts, now_s: float) -> Deadline:
    deadline_s, reason = timers.deadline()
    return Deadline(deadline_s - now_s, reason, LATE[reason])


def _response(body: bytes, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
    response = from_schema(
        schema.parse_completion(body),
        caller_brought_key=call.caller_brought_key,
        secrets=_secrets(call),
    )
    response.attempts = call.progress.attempts
    response.model = response.model or request.model
    return response


def _named_error(data: bytes, call: Call) -> ServiceError:
    """What an event called `error` says, whatever its form."""
    return errors.from_stream_error(
        schema.parse_error(data) or schema.ErrorBody(),
        caller_brought_key=call.caller_brought_key,
        model=call.progress.model,
        secrets=_secrets(call),
    )


def _secrets(call: Call) -> tuple[Secret, ...]:
    """What must not come back in the text of an error."""
    return () if call.upstream_key is None else (call.upstream_key,)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _demand_json(headers: Mapping[str, str]) -> None:
    if _media_type(headers) != JSON:
        raise ServiceError(Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's answer is no JSON")
