"""Tests of clients that are shared: by event loops, threads and forked processes."""

import asyncio
import gc
import os
import subprocess
import sys
import threading

import pytest

from support.scripted_service import MODEL, ScriptedService, delta, response_of, serving, started
from togetherchat_client import CallCancelledError, connect, connect_async, text_of


def hello():
    return ScriptedService(Complete=[[response_of("Hello.")]])


class ServerThread:
    """A scripted server in a thread of its own, for tests that start event loops themselves."""

    def __init__(self, scripted):
        self._scripted = scripted
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self.target

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._scripted) as self.target:
            self._ready.set()
            await self._stop.wait()


def test_a_client_can_be_created_without_a_loop_and_used_in_several():
    """As at module level: each `asyncio.run` has a channel of its own."""
    with ServerThread(hello()) as target:
        client = connect_async(target, timeout_s=20)

        async def call():
            return text_of(await client.complete(MODEL, "Hi"))

        assert ["Hello."] * 3 == [asyncio.run(call()) for _ in range(3)]
        # The channels of the first two loops are not kept.
        assert 1 == len(client._channels._opened)
        asyncio.run(client.close())
        gc.collect()


def test_loops_in_several_threads_share_a_client():
    """Four loops at a time, ten calls in each."""
    with ServerThread(hello()) as target:
        client, texts = connect_async(target, timeout_s=20), []

        async def calls():
            for _ in range(10):
                texts.append(text_of(await client.complete(MODEL, "Hi")))  # noqa: PERF401  one after another

        threads = [threading.Thread(target=lambda: asyncio.run(calls())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        asyncio.run(client.close())

    assert ["Hello."] * 40 == texts


def test_close_closes_the_channels_of_all_loops():
    """A stream of another thread's loop is cancelled, and a later call is an error."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    with ServerThread(scripted) as target:
        client, reading, ended = connect_async(target, timeout_s=30), threading.Event(), []

        async def read():
            try:
                async with client.stream(MODEL, "Hi") as stream:
                    await anext(stream.text())
                    reading.set()
                    await stream.finish()
            except (CallCancelledError, asyncio.CancelledError) as exc:
                ended.append(exc)

        thread = threading.Thread(target=lambda: asyncio.run(read()))
        thread.start()
        assert reading.wait(20)
        asyncio.run(client.close())
        thread.join(20)
        assert (1, False) == (len(ended), thread.is_alive())

        async def call():
            await client.complete(MODEL, "Hi")

        with pytest.raises(RuntimeError, match="the client is closed"):
            asyncio.run(call())


def test_a_closed_blocking_client_is_a_clear_error():
    """Also where it was never used."""
    client = connect("127.0.0.1:1")
    client.close()
    client.close()
    for call in (lambda: client.complete(MODEL, "Hi"), client.health):
        with pytest.raises(RuntimeError, match="the client is closed"):
            call()


def test_threads_share_a_blocking_client():
    """The first calls of eight threads open one channel."""
    with ServerThread(hello()) as target, connect(target, timeout_s=20) as client:
        texts = []
        threads = [
            threading.Thread(target=lambda: texts.append(text_of(client.complete(MODEL, "Hi"))))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert ["Hello."] * 8 == texts


async def test_a_blocking_client_works_inside_a_running_loop():
    """As in a notebook. The server needs another thread, since the call blocks the loop."""
    with ServerThread(hello()) as target, connect(target, timeout_s=20) as client:
        assert "Hello." == text_of(client.complete(MODEL, "Hi"))


FORKING = """
import asyncio, os, sys
from togetherchat_client import connect, connect_async, text_of

used, target = sys.argv[1:]
blocking = connect(target, timeout_s=20)
client = connect_async(target, timeout_s=20)


async def in_asyncio():
    return text_of(await client.complete("a/b", "Hi"))


def outcome(call):
    try:
        return call()
    except RuntimeError as error:
        return f"RuntimeError: {error}"[:60]


if used == "blocking":
    blocking.complete("a/b", "Hi")
if used == "asyncio":
    asyncio.run(in_asyncio())
child = os.fork()
if child == 0:
    print(outcome(lambda: text_of(blocking.complete("a/b", "Hi"))), flush=True)
    print(outcome(lambda: asyncio.run(in_asyncio())), flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text_of(blocking.complete("a/b", "Hi")))
"""
WORKS = ["Hello.", "Hello."]
FAILS = ["RuntimeError: the process was forked after a call of an asyncio c"[:60]] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("used", "in_child"), [("not", WORKS), ("blocking", WORKS), ("asyncio", FAILS)])
def test_a_client_in_a_forked_process(used, in_child):
    """A client from before the fork works after it; after a call of an asyncio client it is a clear error."""
    with ServerThread(hello()) as target:
        done = subprocess.run(
            [sys.executable, "-c", FORKING, used, target],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert [*in_child, "0 Hello."] == done.stdout.splitlines(), done.stderr
