"""The `togetherchat` command: chat, complete, models, usage, health.

This file is the entry point. Without the `cli` extra it prints how to install it.
"""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

INSTALL = "togetherchat: the package rich is not installed: pip install 'togetherchat[cli]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, or the process's own arguments, and return its exit code."""
    if find_spec("rich") is None:
        print(INSTALL, file=sys.stderr)  # noqa: T201  the terminal module needs the missing package
        return 2
    # gRPC's own log is not part of this command's output. Set the variable to see the log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from togetherchat_client.cli.dispatch import dispatch  # noqa: PLC0415  needs the extra

    return dispatch(sys.argv[1:] if argv is None else argv, os.environ)
