"""Records the attempts of calls in their `Progress`, and opens the span of each."""

from collections.abc import Callable, Mapping
from typing import Final, final

from togetherchat_server.domain.call import Call, Phase
from togetherchat_server.providers.together import debug_headers, rate_limits
from togetherchat_server.providers.together.attempt_span import AttemptSpan, NoopAttemptSpan

NAME: Final = "together"
SANDBOX: Final = "sandbox"
REQUEST_ID_HEADERS: Final = ("x-request-id", "x-together-traceid", "cf-ray")


@final
class AttemptRecorder:
    """What a call's `Progress` says about its last attempt is written here."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def begin(self, method: str, path: str, call: Call) -> NoopAttemptSpan:
        progress = call.progress
        progress.attempts += 1
        progress.output_deltas = 0
        progress.billable = False
        progress.usage = None
        progress.phase = Phase.AWAITING_RESPONSE
        progress.upstream = NAME
        progress.upstream_request_id = ""
        progress.rate_limits = ()
        progress.debug_headers = ()
        if call.trace is None:
            return NoopAttemptSpan(call)
        attempt = call.trace.attempt(http_method=method, path=path, started_s=self._clock())
        attempt.upstream = NAME
        return AttemptSpan(attempt, self._clock)

    def headers(self, headers: Mapping[str, str], call: Call) -> None:
        """Record the headers of a response. Their names are in lower case."""
        progress = call.progress
        if headers.get("x-upstream") == SANDBOX:
            progress.upstream = SANDBOX
        progress.rate_limits = rate_limits.from_headers(headers)
        if call.debug:
            progress.debug_headers = debug_headers.from_headers(headers)
        ids = (headers.get(name, "") for name in REQUEST_ID_HEADERS)
        progress.upstream_request_id = next((value for value in ids if value and value != call.id), "")

    def first_event(self, upstream_id: str, call: Call) -> None:
        progress = call.progress
        if progress.first_event_s is None:
            progress.first_event_s = self._clock()
            progress.phase = Phase.RESPONDING
            self.body_id(upstream_id, call)

    def body_id(self, upstream_id: str, call: Call) -> None:
        """Prefer the id in the body, which the provider's support needs, to one from a header."""
        if upstream_id and upstream_id != call.id:
            call.progress.upstream_request_id = upstream_id
