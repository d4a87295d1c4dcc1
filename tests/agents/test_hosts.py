"""The Python client in programs that others run: gevent, prefork servers, notebooks. `make test-agents`."""

import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": os.pathsep.join(str(ROOT / source) for source in ("protos", "clients/python")),
}

GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
from togetherchat_client import connect, text_of

ticks = []

def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.005)

gevent.spawn(tick)
with connect(sys.argv[1], timeout_s=20) as client:
    calls = [gevent.spawn(client.complete, "sandbox/slow", f"echo: {number}") for number in range(5)]
    gevent.joinall(calls)
    print(*(text_of(call.value) for call in calls), len(ticks) > 20)
    with client.stream("a/b", "echo: one two") as stream:
        print(text_of(stream.finish()))
"""
GEVENT_ASYNCIO = """
from gevent import monkey; monkey.patch_all()
import asyncio, sys
from togetherchat_client import connect_async

async def main():
    async with connect_async(sys.argv[1], timeout_s=20) as client:
        await client.complete("a/b", "echo: hi")

asyncio.run(main())
"""
NOTEBOOK = """
import asyncio, sys
import nest_asyncio
from togetherchat_client import connect, connect_async, text_of

client = connect_async(sys.argv[1], timeout_s=20)
blocking = connect(sys.argv[1], timeout_s=20)

async def cell():
    nest_asyncio.apply()
    inner = asyncio.run(client.complete("a/b", "echo: nested"))
    outer = await client.complete("a/b", "echo: awaited")
    print(text_of(inner), text_of(outer), text_of(blocking.complete("a/b", "echo: blocking")))
    await client.close()
    blocking.close()

asyncio.run(cell())
"""
APPLICATION = """
import os
from togetherchat_client import connect, text_of

client = connect(os.environ["TARGET"], timeout_s=20)
BEFORE_THE_FORK = os.getpid()

def application(environ, start_response):
    text = text_of(client.complete("a/b", "echo: hi"))
    start_response("200 OK", [("content-type", "text/plain")])
    return [f"{text} {os.getpid() != BEFORE_THE_FORK}".encode()]
"""


def run(program, target):
    return subprocess.run(
        [sys.executable, "-c", program, target],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def test_the_blocking_client_works_with_gevent(served):
    """Greenlets run while others wait for completions, without a line for gRPC in the program."""
    done = run(GEVENT, served.grpc_address)

    assert ("0 1 2 3 4 True\none two\n", 0) == (done.stdout, done.returncode), done.stderr


def test_the_asyncio_client_with_gevent_is_a_clear_error(served):
    """gRPC's asyncio API would hang."""
    done = run(GEVENT_ASYNCIO, served.grpc_address)

    assert "RuntimeError: gevent has replaced Python's threads" in done.stderr
    assert 1 == done.returncode


def test_a_client_of_the_module_works_in_nested_loops(served):
    """As in a notebook: the loop runs already, and a cell calls asyncio.run."""
    done = run(NOTEBOOK, served.grpc_address)

    assert ("nested awaited blocking\n", 0) == (done.stdout, done.returncode), done.stderr


@contextmanager
def gunicorn(folder, target):
    """The address of a gunicorn that imports the application before it forks two workers."""
    (folder / "application.py").write_text(APPLICATION, encoding="utf-8")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0",
            "--no-control-socket", "application:application",
        ],
        cwd=folder, env={**ENVIRONMENT, "TARGET": target}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"Listening at: http://(\S+)", line):
                yield found[1]
                break
        else:
            raise AssertionError("".join(lines))
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


def test_a_client_from_before_the_fork_works_in_the_workers(served, tmp_path):
    """gunicorn imports the module, with its client, and then forks."""
    with gunicorn(tmp_path, served.grpc_address) as address:
        bodies = []
        for _ in range(6):
            with urllib.request.urlopen(f"http://{address}/", timeout=TIMEOUT_S) as response:
                bodies.append(response.read())

    assert [b"hi True"] * 6 == bodies
