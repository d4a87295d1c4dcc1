"""The Python client under agents that instrument gRPC, as they are installed: `make test-agents`.

Each agent runs in a process of its own, because agents patch modules. `instrumented.py` makes the calls.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from instrumented import AGENTS, TEXT

PROGRAM = Path(__file__).with_name("instrumented.py")
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
INVALID = {
    "class": "InvalidRequestError",
    "code": "INVALID_ARGUMENT",
    "reason": "INVALID_REQUEST",
    "violations": ["temperature"],
    "metadata": True,
}


@pytest.fixture(
    scope="module",
    params=[(agent, style) for agent in AGENTS for style in ("blocking", "asyncio")],
    ids="-".join,
)
def seen(request, served):
    """What the program saw under one agent, and the models of its streams."""
    agent, style = request.param
    model = f"agents/{agent}-{style}"
    sources = os.pathsep.join(str(ROOT / source) for source in ("protos", "clients/python"))
    done = subprocess.run(
        [sys.executable, PROGRAM, agent, style, served.grpc_address, model],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": sources},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), model


def test_the_agent_is_active(seen):
    """The agent recorded the calls: without that the other tests would test nothing."""
    assert seen[0]["collected"] > 0


def test_unary_calls_work(seen):
    """A completion, the models of all pages and the health of the service."""
    found = seen[0]
    assert (TEXT, "SERVING") == (found["unary"], found["health"])
    assert found["models"] > 0


def test_a_stream_is_whole(seen):
    """The accumulated text of a stream is that of the completion."""
    assert TEXT == seen[0]["stream"]


def test_calls_report_their_trailers(seen):
    """`on_info` gets the upstream of a unary call and of a stream."""
    assert {"unary": "sandbox", "stream": "sandbox"} == seen[0]["info"]


def test_leaving_a_stream_cancels_the_generation(seen, served):
    """The service closes its request to the provider."""
    assert "client_closed" == served.wait_until_ended(f"{seen[1]}-left")


def test_a_cancelled_stream_raises(seen, served):
    """`cancel` from elsewhere ends a running iteration, and the generation."""
    assert "client_closed" == served.wait_until_ended(f"{seen[1]}-cancelled")
    assert ("CallCancelledError", "CANCELLED") == (
        seen[0]["cancelled"]["class"],
        seen[0]["cancelled"]["code"],
    )


@pytest.mark.parametrize("kind", ["unary_error", "stream_error"])
def test_an_error_has_its_details(seen, kind):
    """The typed error has code, reason, violations and trailers."""
    assert INVALID == seen[0][kind]
