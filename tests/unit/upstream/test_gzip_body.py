import asyncio
import gzip
import itertools
import random

import pytest

from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.upstream.gzip_body import PIECE_BYTES, RATIO_MAX, UNCHECKED_BYTES, GzipBody

TEXT = b'{"choices": [{"index": 0, "delta": {"content": "Hello"}}]}'
NOISE = random.Random(7).randbytes(300_000)
TEXTS = {
    "an event": TEXT,
    "nothing": b"",
    "noise": NOISE,
    "text": NOISE.hex().encode(),
    "one piece": b"x" * PIECE_BYTES,
    "two pieces": b"xy" * PIECE_BYTES,
}


def body_of(*pieces):
    """A body that arrives in these pieces, and whatever was read of it."""
    arriving = iter(pieces)

    async def read():
        return next(arriving, b"")

    return GzipBody(read)


async def read_all(body, pieces=None):
    pieces = [] if pieces is None else pieces
    while piece := await body.read():
        pieces.append(piece)
    assert b"" == await body.read()
    return pieces


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
async def test_a_body_is_unpacked_however_it_arrives(case, size):
    """No piece is larger than the bound."""
    text = TEXTS[case]
    packed = gzip.compress(text)

    pieces = await read_all(body_of(*(packed[at : at + size] for at in range(0, len(packed), size))))

    assert text == b"".join(pieces)
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)


async def test_a_piece_that_has_arrived_is_not_held_back():
    """An event that the provider flushed can be read before the next one arrives."""
    packed = gzip.compress(TEXT)
    body = body_of(packed[:-8])  # without the checksum and the size

    assert TEXT == await body.read()


BROKEN = {
    "no gzip": TEXT,
    "cut": gzip.compress(TEXT)[:-1],
    "more than one": gzip.compress(TEXT) + b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_body_that_is_not_one_gzip_stream_is_malformed(case):
    """A body that is cut could be half of a completion."""
    with pytest.raises(ServiceError) as caught:
        await read_all(body_of(BROKEN[case]))

    assert Reason.UPSTREAM_MALFORMED_RESPONSE is caught.value.reason


async def test_a_bomb_is_not_unpacked():
    """64 MB of zeros in 64 KB: the end comes with the bound on the ratio."""
    packed, unpacked = gzip.compress(bytes(2**26)), []

    with pytest.raises(ServiceError) as caught:
        await read_all(body_of(packed), unpacked)

    assert Reason.UPSTREAM_TOO_LARGE is caught.value.reason
    assert sum(map(len, unpacked)) <= UNCHECKED_BYTES + RATIO_MAX * len(packed)


async def test_other_work_has_its_turn_while_a_body_is_unpacked():
    """Between two pieces of one read."""
    turns = itertools.count()
    body = body_of(gzip.compress(NOISE))

    async def other():
        while True:
            next(turns)
            await asyncio.sleep(0)

    working = asyncio.create_task(other())
    pieces = await read_all(body)
    working.cancel()

    assert next(turns) >= len(pieces) - 1 > 2
