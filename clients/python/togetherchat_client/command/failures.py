"""Exit codes, and what is said of a failure.

Scripts decide by the exit code or by `--json`; the line on standard error is for people.
"""

import enum
import json
import math
from collections.abc import Mapping
from typing import Final

from togetherchat_client import errors
from togetherchat_client.command.terminal import Terminal


class Exit(enum.IntEnum):
    """How the command ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    LIMITED = 6
    UNAVAILABLE = 7
    OUT_OF_TIME = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_BY_CLASS: Mapping[type[errors.TogetherChatError], Exit] = {
    errors.InvalidRequestError: Exit.REFUSED,
    errors.AuthenticationError: Exit.NOT_ALLOWED,
    errors.PermissionDeniedError: Exit.NOT_ALLOWED,
    errors.NotFoundError: Exit.NOT_FOUND,
    errors.ResourceExhaustedError: Exit.LIMITED,
    errors.FailedPreconditionError: Exit.LIMITED,
    errors.ConflictError: Exit.UNAVAILABLE,
    errors.UnavailableError: Exit.UNAVAILABLE,
    errors.DeadlineExceededError: Exit.OUT_OF_TIME,
    errors.CallCancelledError: Exit.INTERRUPTED,
    errors.UnimplementedError: Exit.FAILED,
    errors.InternalError: Exit.FAILED,
}
"""Direct children of TogetherChatError: a finer class ends as its parent does."""

HINT_BY_REASON: Final = {
    "CALLER_KEY_REJECTED": "check TOGETHERCHAT_UPSTREAM_KEY",
    "CONTEXT_LENGTH_EXCEEDED": "shorten it; in a chat, /clear starts anew",
    "INVALID_CREDENTIALS": "check TOGETHERCHAT_KEY",
    "MISSING_CREDENTIALS": "set TOGETHERCHAT_KEY or give --key-file",
    "MODEL_NOT_FOUND": "`togetherchat models` lists what there is",
    "QUOTA_EXHAUSTED": "waiting will not help",
    "SERVICE_KEY_REJECTED": "the service's own Together key was refused: tell who runs it",
    "SPEND_LIMIT_REACHED": "raise the account's limit at Together",
}


def exit_of(error: errors.TogetherChatError) -> Exit:
    """The exit code for `error`."""
    return next(EXIT_BY_CLASS[each] for each in type(error).__mro__ if each in EXIT_BY_CLASS)


def report(error: errors.TogetherChatError, terminal: Terminal, *, target: str, as_json: bool) -> None:
    """Say on standard error what went wrong."""
    if as_json:
        terminal.error_json(json.dumps({"error": _record(error, target)}))
    else:
        terminal.warn(_line(error, target))


def _line(error: errors.TogetherChatError, target: str) -> str:
    word = error.reason or error.code.name
    violations = "; ".join(f"{each.field}: {each.description}" for each in error.violations)
    notes = ", ".join(note for note in (f"request {error.request_id}", _hint(error, target)) if note)
    return f"{word}: {' - '.join(text for text in (error.message, violations) if text)} ({notes})"


def _record(error: errors.TogetherChatError, target: str) -> dict[str, object]:
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "request_id": error.request_id,
        "retryable": error.retryable,
        "retry_after_s": error.retry_after_s,
        "violations": [{"field": each.field, "description": each.description} for each in error.violations],
        "metadata": dict(error.metadata),
        "hint": _hint(error, target),
        "exit_code": int(exit_of(error)),
    }


def _hint(error: errors.TogetherChatError, target: str) -> str:
    if error.reason in HINT_BY_REASON:
        return HINT_BY_REASON[error.reason]
    if error.retry_after_s:
        return f"try again in {math.ceil(error.retry_after_s)} s"
    if isinstance(error, errors.UnavailableError) and not error.reason:
        # No reason: nobody of ours has said this, so nobody of ours was reached.
        return f"is the service running at {target}?"
    return ""
