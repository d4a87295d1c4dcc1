"""Reports a failed call on standard error: one line of text, or one line of JSON with `--json`.

The text is for people. Scripts act on the exit code or on the JSON.
"""

import json
import math
from collections.abc import Mapping
from typing import Final

from togetherchat_client import errors
from togetherchat_client.cli.exit_codes import exit_code_of
from togetherchat_client.cli.terminal import Terminal
from togetherchat_client.client_reasons import NOT_CONNECTED
from togetherchat_client.reasons import ErrorReason

HINT_BY_REASON: Final[Mapping[str, str]] = {
    ErrorReason.CALLER_KEY_REJECTED: "check TOGETHERCHAT_UPSTREAM_KEY",
    ErrorReason.CONTEXT_LENGTH_EXCEEDED: "shorten the prompt; in a chat, /clear forgets the conversation",
    ErrorReason.INVALID_CREDENTIALS: "check TOGETHERCHAT_KEY",
    ErrorReason.MISSING_CREDENTIALS: "set TOGETHERCHAT_KEY or give --key-file",
    ErrorReason.MODEL_NOT_FOUND: "`togetherchat models` lists the models",
    ErrorReason.QUOTA_EXHAUSTED: "waiting does not help",
    ErrorReason.SERVICE_KEY_REJECTED: "Together rejected the service's own key: report this to its operator",
    ErrorReason.USAGE_NOT_RECORDED: "the operator turns usage on with --usage-database",
    ErrorReason.SPEND_LIMIT_REACHED: "raise the account's spend limit at Together",
}


def report_error(error: errors.TogetherChatError, terminal: Terminal, *, target: str, as_json: bool) -> None:
    """Print `error` on standard error."""
    if as_json:
        terminal.error_json(json.dumps({"error": _record(error, target)}))
    else:
        terminal.warn(_line(error, target))


def _line(error: errors.TogetherChatError, target: str) -> str:
    reason = error.reason or error.code.name
    violations = "; ".join(f"{each.field}: {each.description}" for each in error.violations)
    notes = ", ".join(note for note in (f"request {error.request_id}", _hint(error, target)) if note)
    return f"{reason}: {' - '.join(text for text in (error.message, violations) if text)} ({notes})"


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
        "exit_code": int(exit_code_of(error)),
    }


def _hint(error: errors.TogetherChatError, target: str) -> str:
    if error.reason in HINT_BY_REASON:
        return HINT_BY_REASON[error.reason]
    if error.retry_after_s:
        return f"try again in {math.ceil(error.retry_after_s)} s"
    if error.reason == NOT_CONNECTED:
        return f"is the service running at {target}?"
    return error.hint
