"""What every row of the matrix gets: a stage to act on, a line in the table, a scan for canaries."""

import functools
import logging

import pytest

from faults.matrix.scene import CANARIES, acted


@pytest.fixture
def heard(capfd, caplog):
    """Call it with what was let be heard; at the end no canary may be in that, nor in anything
    that was printed or logged.
    """
    caplog.set_level(logging.DEBUG)
    texts = []
    yield lambda *more: texts.extend(more)
    texts += [*capfd.readouterr(), caplog.text]
    for canary in CANARIES:
        assert not [text for text in texts if canary in text]


@pytest.fixture
def stage(heard):
    """`async with stage(script, **settings) as scene`: see `scene.acted`."""
    return functools.partial(acted, heard)


@pytest.fixture
def table(record_property):
    """`table(fault, expected, *seen)`: a row, which holds if all that was seen is what was expected.

    Where what is seen is a measure, `holds` says whether it is good enough.
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
            assert holds, f"{fault}: {expected}, and not {seen}"

    return row
