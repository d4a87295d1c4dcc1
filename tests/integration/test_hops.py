"""How many coroutines and generators are resumed for each token of a stream.

Each of them costs CPU for each token. The test looks at a stream that waits for its next token: the
frames between the loop that writes to the caller and the read of the provider's socket.
"""

import asyncio
import gc
import types
from pathlib import Path

import pytest

import togetherchat_server
from support.app import collect, request
from support.http_client import running_http
from support.scripted_upstream import ScriptedUpstream, always
from support.upstream_script import paused_sse
from support.waiting import eventually

PACKAGE = Path(togetherchat_server.__file__).parent
LOOPS = {
    "grpc": ("frontends/grpc/methods.py", "respond"),
    "http": ("frontends/http/openai/chat.py", "_stream"),
}
"""The function that writes to the caller, for each frontend."""
HOPS_MAX = 5
UPSTREAM = [
    ("providers/together/provider.py", "_batches"),
    ("upstream/client.py", "read"),
    ("upstream/http1.py", "read"),
]


def awaited(waiting):
    """Return what a coroutine, a generator, or an iterator of one waits for."""
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(waiting, name):
            return getattr(waiting, name)
    # `anext` and `asend` return objects that do not name their generator.
    kinds = (types.AsyncGeneratorType, types.CoroutineType)
    return next((one for one in gc.get_referents(waiting) if isinstance(one, kinds)), None)


def frames(task):
    """Return the functions of the service that a task waits in, outermost first."""
    found, waiting = [], task.get_coro()
    while waiting is not None:
        code = getattr(waiting, "cr_code", None) or getattr(waiting, "ag_code", None)
        if code is not None and Path(code.co_filename).is_relative_to(PACKAGE):
            found.append((str(Path(code.co_filename).relative_to(PACKAGE)), code.co_name))
        waiting = awaited(waiting)
    return found


def waiting_streams(loop):
    """Return the frames of each stream that waits for its provider, from its write loop on."""
    found = [one for one in map(frames, asyncio.all_tasks()) if loop in one and UPSTREAM[-1] in one]
    return [one[one.index(loop) :] for one in found]


async def stream_over_grpc(service):
    events, failure = await collect(service.app.chat.StreamComplete(request()))
    assert (None, True) == (failure, events[-1].HasField("completed"))


async def stream_over_http(service):
    assert "[DONE]" == (await service.events())[-1]


@pytest.mark.parametrize(
    ("frontend", "stream"), [("grpc", stream_over_grpc), ("http", stream_over_http)], ids=["gRPC", "HTTP"]
)
@pytest.mark.parametrize("ledger", [False, True], ids=["plain", "metered"])
async def test_a_token_passes_few_hops(frontend, stream, ledger, tmp_path):
    """Between the socket and the write there is one generator in each layer, and no layer that only forwards."""
    released = asyncio.Event()
    settings = {"usage_database": f"sqlite:///{tmp_path}/usage.sqlite"} if ledger else {}
    async with (
        ScriptedUpstream(always(paused_sse(released))) as upstream,
        running_http(upstream.base_url, **settings) as service,
    ):
        calling = asyncio.create_task(stream(service))
        await upstream.until(lambda log: log.requests and log.requests[0].bytes_sent)
        await eventually(lambda: waiting_streams(LOOPS[frontend]))
        await asyncio.sleep(0.1)  # until the first token was written, and the stream waits for the second
        (hops,) = waiting_streams(LOOPS[frontend])
        released.set()
        await calling

    assert UPSTREAM == hops[-len(UPSTREAM) :]
    assert len(hops) <= HOPS_MAX, hops
