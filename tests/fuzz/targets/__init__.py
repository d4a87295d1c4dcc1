"""The fuzz targets. A target accepts any bytes and returns; an exception is a finding.

Targets are plain functions: they run under the fuzzer, and over the kept corpus as a test without it.
"""

from collections.abc import Callable
from typing import Final

TARGETS: Final = ("decoder", "answers", "streams", "caller")
"""Modules of this package, each with a function `target` and a docstring that states its invariants."""

Target = Callable[[bytes], None]
