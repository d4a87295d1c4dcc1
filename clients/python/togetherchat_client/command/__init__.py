"""The `togetherchat` command: chat, complete, models, health.

This file owns the door alone: without the `cli` extra it says what is missing.
"""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

INSTALL = "togetherchat needs a package for the terminal: pip install 'togetherchat[cli]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, or the process's own arguments, and return its exit code."""
    if find_spec("rich") is None:
        print(INSTALL, file=sys.stderr)  # noqa: T201  what prints otherwise is what is missing
        return 2
    # gRPC's own log is no output of this command; set the variable to see it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from togetherchat_client.command.dispatch import dispatch  # noqa: PLC0415  it needs the extra

    return dispatch(sys.argv[1:] if argv is None else argv, os.environ)
