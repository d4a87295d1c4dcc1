"""Together as a provider: connects the ports, the upstream client and the pure modules.

Owns the order of steps in one attempt: send, check the status, read, translate. Decisions are made
elsewhere: translation in `request_encoder`, `response` and `stream`, the meaning of failures in `errors`,
timeouts of streams in `stream_deadline`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from http import HTTPStatus
from typing import Final, final

from togetherchat.accumulator import Accumulator
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call, EventBatch, Phase, Progress
from togetherchat_server.domain.deadline import Deadline
from togetherchat_server.domain.reasons import Reason, ServiceError, without_frames
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import body_format, debug_headers, errors, response, schema
from togetherchat_server.providers.together import models as model_list
from togetherchat_server.providers.together.attempt_recorder import AttemptRecorder
from togetherchat_server.providers.together.attempt_span import NoopAttemptSpan
from togetherchat_server.providers.together.limits import ProviderLimits
from togetherchat_server.providers.together.opened_stream import OpenedStream
from togetherchat_server.providers.together.options import ProviderOptions
from togetherchat_server.providers.together.request_encoder import RequestEncoder
from togetherchat_server.providers.together.stream_reader import StreamReader
from togetherchat_server.providers.together.streaming_only import (
    INCOMPLETE_WARNING,
    StreamingOnlyModels,
    requires_stream,
)
from togetherchat_server.upstream.client import UpstreamClient, UpstreamResponse, UpstreamStream
from togetherchat_server.upstream.read_governor import ReadGovernor
from togetherchat_server.upstream.stream_deadline import StreamDeadline
from togetherchat_server.upstream.stream_timeouts import TIMEOUT_MESSAGES, StreamTimeouts

CHAT_PATH: Final = "chat/completions"
MODELS_PATH: Final = "models"
SERVERLESS_PATH: Final = "models?serverless=true"
SERVERLESS_TIMEOUT_S: Final = 3.0
"""Less than the time in which a list is fetched, so that the list of all models is not lost with this one."""
SLICE_BYTES: Final = 64 * 1024
"""How much of a whole event stream is read before other work of the event loop has its turn."""
END_OF_HTTP_S: Final = 0.05
"""How long to wait for the end of HTTP's framing after the stream's own end mark."""


@final
class TogetherProvider:
    """Implements `Chat` and `LiveModels` with one upstream client."""

    def __init__(
        self,
        client: UpstreamClient,
        *,
        limits: ProviderLimits,
        governor: ReadGovernor,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        options: ProviderOptions | None = None,
    ) -> None:
        self._client = client
        self._options = options if options is not None else ProviderOptions()
        self._encoder = RequestEncoder(self._options)
        self._record = AttemptRecorder(clock)
        self._streaming_only = StreamingOnlyModels(self._is_listed_as_streaming_only)
        self._limits = limits
        self._governor = governor
        self._clock = clock
        self._wall_clock = wall_clock

    async def complete(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        if self._reads_as_stream(request):
            return await self._accumulate(request, call)
        try:
            return await self._complete_unary(request, call)
        except ServiceError as error:
            if not requires_stream(error):
                raise
            without_frames(error)
        # Not a retry: the provider did no work, and the same request would fail again.
        self._streaming_only.add(request.model)
        return await self._accumulate(request, call)

    async def _complete_unary(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        encoded = self._encoder.encode(request, call, stream=False)
        with self._record.begin("POST", CHAT_PATH, call) as span:
            span.request(request, streamed=False)
            http_response = await self._send_request("POST", CHAT_PATH, call, encoded.body, span)
            if body_format.is_event_stream(http_response.headers, http_response.body):
                completion = await self._read_events(http_response.body, request, call)
            else:
                _require_json(http_response)
                completion = _parse_completion(http_response.body, request, call)
            completion.warnings.extend(encoded.warnings)
            span.response(completion)
        self._record.body_id(completion.id, call)
        return completion

    async def stream(self, request: service.CompleteRequest, call: Call) -> OpenedStream:
        return await OpenedStream.of(self._batches(request, call))

    async def live_models(self, call: Call) -> Sequence[models.Model]:
        live = await self._read_list(MODELS_PATH, call)
        if self._options.serverless_list:
            serverless = await self._serverless_ids(call)
            if serverless:
                model_list.mark_serverless(live, serverless)
        return live

    async def _serverless_ids(self, call: Call) -> frozenset[str]:
        """Return the ids of the models that can be called without a dedicated endpoint; none if unknown.

        The list is not documented. Whatever is wrong with it, the list of all models is enough.
        """
        # The call is about the other list: this request is not a retry of it, and does not fail it.
        detached = replace(call, progress=Progress())
        try:
            async with asyncio.timeout(SERVERLESS_TIMEOUT_S):
                return frozenset(model.id for model in await self._read_list(SERVERLESS_PATH, detached))
        except (ServiceError, TimeoutError):
            return frozenset()

    async def _read_list(self, path: str, call: Call) -> list[models.Model]:
        with self._record.begin("GET", MODELS_PATH, call) as span:
            http_response = await self._send_request("GET", path, call, None, span)
            _require_json(http_response)
            live = model_list.from_schema(schema.parse_models(http_response.body))
            span.done()
        return live

    def _reads_as_stream(self, request: service.CompleteRequest) -> bool:
        """Return whether the completion may take longer than the provider's edge lets a silent request last.

        Such a completion is read as a stream, with the timeouts of a stream, and accumulated. A
        request for data that a stream does not carry in full (alternatives, the prompt) is not, unless
        the provider serves the model only as a stream.
        """
        if request.model in self._streaming_only:
            return True
        unary_only = request.HasField("logprobs") or request.echo
        return not unary_only and request.max_tokens >= self._limits.stream_upstream_min_tokens

    async def _accumulate(self, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
        accumulator = Accumulator()
        async with aclosing(self._batches(request, call)) as batches:
            async for events in batches:
                for event in events:
                    accumulator.add(event)
        completion = accumulator.response()
        if request.logprobs or request.echo:
            completion.warnings.append(chat.Warning(message=INCOMPLETE_WARNING))
        return completion

    def _is_listed_as_streaming_only(self, model: str) -> bool:
        entry = self._options.catalog_entry(model)
        return entry is not None and entry.streaming_only

    async def _send_request(
        self, method: str, path: str, call: Call, body: bytes | None, span: NoopAttemptSpan
    ) -> UpstreamResponse:
        """Send one request and read its whole response; every other status than 200 raises."""
        reason = Reason.FIRST_TOKEN_TIMEOUT
        async with Deadline(self._limits.response_timeout_s, reason, TIMEOUT_MESSAGES[reason]):
            http_response = await self._client.send(
                method,
                path,
                key=call.upstream_key,
                request_id=call.id,
                body=body,
                traceparent=span.traceparent,
                tracestate=span.tracestate,
                more_headers=debug_headers.REQUEST if call.debug else (),
                on_send=call.progress.sent,
            )
        self._record.headers(http_response.headers, call)
        span.status(http_response.status, call.progress.upstream)
        if http_response.status != HTTPStatus.OK:
            raise self._error(http_response.status, http_response.headers, http_response.body, call)
        call.progress.phase = Phase.RESPONDING
        return http_response

    async def _read_whole(
        self,
        http_stream: UpstreamStream,
        timers: StreamTimeouts,
        request: service.CompleteRequest,
        call: Call,
    ) -> EventBatch:
        """Return the events of a response that is not a stream; JSON is accepted in place of one."""
        async with _deadline(timers, self._clock()):
            ok = http_stream.status == HTTPStatus.OK
            if ok and not body_format.is_json(http_stream.headers, await _start(http_stream)):
                raise ServiceError(
                    Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's response is not an event stream"
                )
            body = await http_stream.read_all()
        if http_stream.status != HTTPStatus.OK:
            raise self._error(http_stream.status, http_stream.headers, body, call)
        completion = _parse_completion(body, request, call)
        self._record.first_event(completion.id, call)
        return response.to_events(completion)

    async def _read_events(
        self, body: bytes, request: service.CompleteRequest, call: Call
    ) -> service.CompleteResponse:
        """Return the completion of an event stream that came in response to a request without `stream`."""
        reader = self._reader(call)
        for start in range(0, len(body), SLICE_BYTES):
            if not reader.done:
                reader.feed(body[start : start + SLICE_BYTES])
                await asyncio.sleep(0)
        reader.translator.finish(done=reader.done, attempts=call.progress.attempts)
        accumulator = Accumulator()
        for event in reader.pop_events(request.model):
            accumulator.add(event)
        return accumulator.response()

    def _reader(self, call: Call) -> StreamReader:
        return StreamReader(
            max_event_bytes=self._limits.max_event_bytes,
            caller_brought_key=call.caller_brought_key,
            model=call.progress.model,
            secrets=_secrets(call),
            call_id=call.id,
        )

    async def _is_event_stream(self, http_stream: UpstreamStream, timers: StreamTimeouts) -> bool:
        if http_stream.status != HTTPStatus.OK:
            return False
        async with _deadline(timers, self._clock()):
            return body_format.is_event_stream(http_stream.headers, await _start(http_stream))

    async def _batches(self, request: service.CompleteRequest, call: Call) -> AsyncGenerator[EventBatch]:
        """Send the request, and yield one batch for each read of the socket."""
        timers = StreamTimeouts(
            started_s=self._clock(),
            first_token_timeout_s=self._limits.first_token_timeout_s,
            idle_timeout_s=self._limits.stream_idle_timeout_s,
        )
        encoded = self._encoder.encode(request, call, stream=True)
        with self._record.begin("POST", CHAT_PATH, call) as span, self._governor:
            span.request(request, streamed=True)
            opening = self._open_stream(encoded.body, timers, call, span)
            async with aclosing(await opening) as http_stream:
                self._record.headers(http_stream.headers, call)
                span.status(http_stream.status, call.progress.upstream)
                if not await self._is_event_stream(http_stream, timers):
                    events = await self._read_whole(http_stream, timers, request, call)
                    events[-1].completed.warnings.extend(encoded.warnings)
                    call.progress.usage = events[-1].completed.usage
                    span.events(events)
                    yield events
                    return
                reader = self._reader(call)
                failure: ServiceError | None = None
                async with StreamDeadline(timers, clock=self._clock) as deadline:
                    while not reader.done and failure is None:
                        # The caller has read what was yielded. Its first token is never deferred.
                        if self._governor.interval_s and reader.translator.deltas:
                            due_s = self._governor.defer(http_stream, deadline_s=call.deadline_s)
                            timers.read_deferred(due_s)
                        deadline.begin_read()
                        data = await http_stream.read()
                        deadline.end_read()
                        if not data:
                            break
                        timers.bytes_arrived(self._clock())
                        try:
                            reader.feed(data)
                        except ServiceError as error:
                            failure = without_frames(error)  # raised after the events before it
                        events = reader.pop_events(request.model)
                        call.progress.output_deltas = reader.translator.deltas
                        if events:
                            timers.event_arrived(self._clock())
                            self._record.first_event(events[0].started.id, call)
                            span.events(events)
                            yield events
                        elif reader.pop_comments() and reader.translator.started:
                            yield ()  # a sign of life, which a frontend may pass on
                if failure is not None:
                    raise failure
                reader.translator.finish(done=reader.done, attempts=call.progress.attempts)
                events = reader.translator.pop_events()
                events[-1].completed.warnings.extend(encoded.warnings)
                call.progress.usage = events[-1].completed.usage
                span.events(events)
                yield events
                await http_stream.finish(END_OF_HTTP_S)

    async def _open_stream(
        self, body: bytes, timers: StreamTimeouts, call: Call, span: NoopAttemptSpan
    ) -> UpstreamStream:
        """Send a request for a stream, and wait for the head of its response, whatever its status."""
        async with _deadline(timers, self._clock()):
            return await self._client.open_stream(
                CHAT_PATH,
                key=call.upstream_key,
                request_id=call.id,
                body=body,
                traceparent=span.traceparent,
                tracestate=span.tracestate,
                more_headers=debug_headers.REQUEST if call.debug else (),
                on_send=call.progress.sent,
            )

    def _error(self, status: int, headers: Mapping[str, str], body: bytes, call: Call) -> ServiceError:
        call.progress.billable = False
        return errors.from_response(
            status=status,
            headers=headers,
            body=body,
            caller_brought_key=call.caller_brought_key,
            now_wall_s=self._wall_clock(),
            model=call.progress.model,
            secrets=_secrets(call),
        )


def _deadline(timers: StreamTimeouts, now_s: float) -> Deadline:
    deadline_s, reason = timers.deadline()
    return Deadline(deadline_s - now_s, reason, TIMEOUT_MESSAGES[reason])


async def _start(http_stream: UpstreamStream) -> bytes:
    """Return the first bytes of the body if they decide how it is read."""
    return await http_stream.peek() if body_format.is_unnamed(http_stream.headers) else b""


def _require_json(http_response: UpstreamResponse) -> None:
    if not body_format.is_json(http_response.headers, http_response.body):
        raise ServiceError(Reason.UPSTREAM_MALFORMED_RESPONSE, "the provider's response is not JSON")


def _parse_completion(body: bytes, request: service.CompleteRequest, call: Call) -> service.CompleteResponse:
    completion = response.from_schema(
        schema.parse_completion(body),
        caller_brought_key=call.caller_brought_key,
        call_id=call.id,
        secrets=_secrets(call),
    )
    completion.attempts = call.progress.attempts
    completion.model = completion.model or request.model
    return completion


def _secrets(call: Call) -> tuple[Secret, ...]:
    """Return the secrets that the text of an error must not contain."""
    return () if call.upstream_key is None else (call.upstream_key,)
