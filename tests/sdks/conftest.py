"""One service process for all tests. Their environment has the clients, not the service."""

import itertools
import os
import sys
from pathlib import Path

import pytest

from sdks.integrations import ROOT, Line, append_line
from sdks.loopback_only import outside
from support.service_process import serving

# Set before any client is imported: the clients report use, send traces or fetch tables otherwise.
os.environ |= {
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}

OUT = os.environ.get("INTEGRATIONS_OUT")


@pytest.fixture(scope="session")
def served():
    """A service without retries, so that the clients' retries are visible, and with the console."""
    flags = ("--max-retries", "0", "--sandbox-tokens-per-second", "100", "--log-format", "json", "--console")
    with serving(*flags) as service:
        yield service


@pytest.fixture
def base_url(served):
    """The address that a client is given."""
    return served.base_url


_stalls = itertools.count(20)


@pytest.fixture
def stalling_model():
    """A model that no other test uses, and whose streams stop in the middle without an end."""
    return f"sandbox/stall-after-{next(_stalls)}"


def pytest_collection_finish(session):
    """Record what the clients of the collected tests do not offer."""
    found = {
        _line(item, mark.args[0], result="n/a", reason=mark.kwargs["reason"])
        for item in session.items
        for mark in item.iter_markers("not_offered")
    }
    _record(*found)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Record the feature that a passed test proves."""
    report = yield
    if call.when == "call" and report.passed:
        _record(*(_line(item, mark.args[0], result="yes") for mark in item.iter_markers("proves")))
    return report


def pytest_sessionfinish(session):
    """Fail if a client turned to another machine, even if it hid the failure."""
    if outside:
        print(f"\nhosts outside of this machine: {sorted(set(outside))}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _line(item, feature, **fields):
    client = item.get_closest_marker("client")
    assert client, f"{item.nodeid} has no marker `client`"
    return Line(
        client=client.args[0], feature=feature, source=str(Path(item.path).relative_to(ROOT)), **fields
    )


def _record(*lines):
    for line in lines if OUT else ():
        append_line(OUT, line)
