"""Fixtures of every row of the matrix: a stage, a line in the table, a scan for canaries."""

import functools
import logging

import pytest

from faults.matrix.scene import CANARIES, running_scene


@pytest.fixture
def record_exposed(capfd, caplog):
    """Call it with every exposed text; at the end no canary may be in them, nor in anything printed
    or logged.
    """
    caplog.set_level(logging.DEBUG)
    texts = []
    yield lambda *more: texts.extend(more)
    texts += [*capfd.readouterr(), caplog.text]
    for canary in CANARIES:
        assert not [text for text in texts if canary in text]


@pytest.fixture
def stage(record_exposed):
    """`async with stage(script, **settings) as scene`: see `scene.running_scene`."""
    return functools.partial(running_scene, record_exposed)


@pytest.fixture
def table(record_property):
    """`table(fault, expected, *seen)`: a row, which holds if every `seen` equals `expected`.

    If `seen` is a measurement, `holds` tells whether it is good enough.
    """

    def row(fault, expected, *seen, holds=None):
        for name, value in (
            ("fault", fault),
            ("expected", expected),
            ("seen", " / ".join(dict.fromkeys(map(str, seen)))),
        ):
            record_property(name, str(value))
        if holds is None:
            assert [expected] * len(seen) == list(seen)
        else:
            assert holds, f"{fault}: expected {expected}, got {seen}"

    return row
