"""The command `togetherchat-server`: installs signal handlers before it loads anything else.

Loading the rest takes half a second. The kernel ignores a signal to the first process of a container
unless the process has a handler for it. Without a handler, a SIGTERM in that half second would be
lost, and the process killed at the end of its grace period.
"""

import os
import signal
import sys


def main() -> int:
    """Run the command. Return its exit status."""
    if sys.argv[1:2] not in (["keys"], ["usage"]):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _exit)
    from togetherchat_server.cli import main as command  # noqa: PLC0415  see the top

    return command.main()


def _exit(_number: int, _frame: object) -> None:
    """Exit with status 0: nothing is served yet, so there is nothing to close.

    An exception instead may be lost if it is raised while a module is loaded.
    """
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
