"""`python -m togetherchat_client.command` is `togetherchat`."""

import sys

from togetherchat_client.command import main

if __name__ == "__main__":
    sys.exit(main())
