"""Exit codes of the command. Scripts act on them, so they are part of its interface."""

import enum
from collections.abc import Mapping

from togetherchat_client import errors


class ExitCode(enum.IntEnum):
    """Exit code of the command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    LIMITED = 6
    UNAVAILABLE = 7
    TIMED_OUT = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODE_BY_CLASS: Mapping[type[errors.TogetherChatError], ExitCode] = {
    errors.InvalidRequestError: ExitCode.REJECTED,
    errors.AuthenticationError: ExitCode.NOT_ALLOWED,
    errors.PermissionDeniedError: ExitCode.NOT_ALLOWED,
    errors.NotFoundError: ExitCode.NOT_FOUND,
    errors.ResourceExhaustedError: ExitCode.LIMITED,
    errors.FailedPreconditionError: ExitCode.LIMITED,
    errors.ConflictError: ExitCode.UNAVAILABLE,
    errors.UnavailableError: ExitCode.UNAVAILABLE,
    errors.DeadlineExceededError: ExitCode.TIMED_OUT,
    errors.CallCancelledError: ExitCode.INTERRUPTED,
    errors.UnimplementedError: ExitCode.FAILED,
    errors.InternalError: ExitCode.FAILED,
}
"""Direct subclasses of TogetherChatError. A finer class has the exit code of its parent."""


def exit_code_of(error: errors.TogetherChatError) -> ExitCode:
    """Return the exit code for `error`."""
    return next(EXIT_CODE_BY_CLASS[each] for each in type(error).__mro__ if each in EXIT_CODE_BY_CLASS)
