"""Opens the sessions of a process, and aborts those in flight when the process stops."""

import secrets
from itertools import count
from typing import Final, final

from togetherchat_server.calls.incoming import IncomingCall
from togetherchat_server.calls.response_metadata import request_id_or_new
from togetherchat_server.calls.session import Session
from togetherchat_server.calls.session_parts import SessionParts
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import Reason
from togetherchat_server.domain.trace_context import SpanContext

_SWITCHED_OFF: Final = frozenset({"false", "0", "off", "no"})


@final
class Sessions:
    """The sessions of one process."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts
        self._in_flight: set[Session] = set()
        self._process: Final = secrets.token_hex(8)
        self._numbers = count(1)

    def open(self, incoming: IncomingCall) -> Session:
        """Return the session of a call. Never raises: `Session.admit` raises what rejects the call."""
        parts = self._parts
        now_s = parts.clock()
        credentials = parts.credentials.check(incoming)
        parent = (
            SpanContext.parse(incoming.traceparent, incoming.tracestate) if incoming.traceparent else None
        )
        context, trace = (parent, None) if parts.spans is None else parts.spans.begin(parent)
        call = Call(
            id=request_id_or_new(incoming.request_id),
            method=incoming.method,
            received_s=now_s,
            received_us=int(parts.wall_clock() * 1e6),
            record_id=f"{self._process}-{next(self._numbers):x}",
            deadline_s=now_s + parts.call_timeout_s,
            deadline_reason=Reason.CALL_TIMEOUT,
            upstream_key=credentials.upstream_key,
            caller_brought_key=credentials.caller_brought_key,
            previous_attempts=_small_number(incoming.previous_attempts),
            tenant=credentials.identity.tenant,
            key_id=credentials.identity.key_id,
            subject=credentials.identity.subject,
            allowed_models=credentials.identity.models,
            adapts_reasoning_effort=incoming.adapt_reasoning_effort.lower() not in _SWITCHED_OFF,
            debug=incoming.together_debug == "1",
            traceparent=context.traceparent if context else "",
            tracestate=context.state if context else "",
            trace=trace,
        )
        return Session(parts, self._in_flight, incoming, credentials, call)

    def abort_in_flight(self) -> None:
        """Cancel every call in flight: each fails with DRAINING."""
        for session in tuple(self._in_flight):
            session.abort()


def _small_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
