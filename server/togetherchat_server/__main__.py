"""The command `togetherchat-server`: hears signals first, and loads the rest of itself then.

To load the rest takes half a second. The first process of a container does not hear of a signal that
it has no handler for: told to stop in that time it would go on, and be killed at the end of its grace.
"""

import os
import signal
import sys


def main() -> int:
    if sys.argv[1:2] != ["keys"]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
    from togetherchat_server.cli import main as command  # noqa: PLC0415  see the top

    return command.main()


def _leave(_number: int, _frame: object) -> None:
    """Nothing is served or held yet, so it is an orderly end. By no exception: one that is raised while
    a module is loaded may be lost there.
    """
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
