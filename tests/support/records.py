"""Call records with every field, for tests of their output."""

from togetherchat_server.telemetry.call_record import CallRecord
from togetherchat_server.telemetry.log import formatter


def record(**changed):
    return CallRecord(
        **{
            "id": "request-1",
            "protocol": "grpc",
            "method": "/togetherchat.v1.ChatService/Complete",
            "code": "OK",
            "reason": "",
            "phase": "responding",
            "model": "some/model",
            "upstream": "together",
            "upstream_request_id": "upstream-1",
            "attempts": 1,
            "previous_attempts": 0,
            "queued_s": 0.0,
            "duration_s": 1.23456789,
            "first_token_s": None,
            "messages_sent": 1,
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "usage_estimated": False,
            "cost_nano_usd": None,
            **changed,
        }
    )


class Lines:
    """A writer that formats entries at once and keeps the lines."""

    def __init__(self, log_format, *, terminal=False):
        self.lines = []
        self._line_of = formatter(log_format, terminal=terminal)

    def write(self, entry):
        self.lines.append(self._line_of(entry))
