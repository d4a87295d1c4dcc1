"""Call records with every field, for tests of their output."""

from dataclasses import dataclass, field

from togetherchat_server.telemetry.call_record import CallRecord


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


@dataclass
class Lines:
    """A writer that keeps its lines."""

    terminal: bool = False
    lines: list = field(default_factory=list)

    def write(self, line):
        self.lines.append(line)

    debug = info = warning = error = critical = write
