"""What is fuzzed. A target takes any bytes and returns, or raises: then it has found something.

They are plain functions, so that the same ones run under the fuzzer and, over the kept corpus,
as a test without it.
"""

from collections.abc import Callable
from typing import Final

TARGETS: Final = ("decoder", "answers", "streams", "caller")
"""Modules of this package, each with a function `target` and a docstring that says what it holds."""

Target = Callable[[bytes], None]
