"""Runs the unchanged server, which also collects garbage on SIGUSR1.

Python collects cyclic garbage only when the number of objects has grown by a quarter. After an
hour such garbage can be nothing, or tens of thousands of blocks. The soak measures what is left
after a collection.
"""

import gc
import signal
import sys

from togetherchat_server.cli.main import main

signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
sys.exit(main())
