"""The audit log of a test: its lines, as objects."""

import json
import time
from contextlib import contextmanager
from pathlib import Path

from support.waiting import eventually
from togetherchat_server.domain.audit import AUDIT_LOGGER
from togetherchat_server.telemetry.audit_file import line_of
from togetherchat_server.telemetry.audit_log import AuditHandler

COMMON = ("time", "pid")


class AuditedLines:
    """A writer that formats events at once and keeps the lines."""

    def __init__(self):
        self.lines = []

    def write(self, entry):
        self.lines.append(json.loads(line_of(entry)))

    def events(self):
        """Return the lines without their time and process."""
        return [without_common(line) for line in self.lines]


def without_common(line):
    return {name: value for name, value in line.items() if name not in COMMON}


@contextmanager
def audited(*, clock=time.monotonic):
    """Keep the lines of the events that are emitted while the context is open."""
    lines = AuditedLines()
    handler = AuditHandler(lines, clock=clock)
    AUDIT_LOGGER.addHandler(handler)
    try:
        yield lines
    finally:
        AUDIT_LOGGER.removeHandler(handler)


class AuditedFile:
    """The file of an audit log."""

    def __init__(self, path):
        self.path = Path(path)

    def events(self, *names):
        """Return the events so far, only those with one of these names if there are any."""
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if not names or line["event"] in names]

    async def wait_for(self, name, count=1):
        """Wait until this many events with a name are written, and return them."""
        await eventually(lambda: len(self.events(name)) >= count)
        return self.events(name)
