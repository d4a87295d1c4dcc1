"""Runs the `togetherchat` command as `python -m togetherchat_client.cli`."""

import sys

from togetherchat_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
