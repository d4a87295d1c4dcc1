"""Deploys the dev overlay for each test file, by the commands of the guide."""

import os
import re

import pytest
from cluster import Installation, kubectl, paste
from rendered import ROOT

GUIDE = (ROOT / "deploy/README.md").read_text("utf-8")


def blocks(title):
    """The shell blocks of the guide under a title."""
    section = GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="session", autouse=True)
def operator_kinds():
    """Resource definitions of the Prometheus operator. They validate our objects; the operator does not run."""
    kubectl("apply", "--server-side", "--filename", os.environ["E2E_TOOLS"] + "/kinds")
    kubectl("wait", "--for=condition=established", "customresourcedefinitions", "--all")


@pytest.fixture(scope="module")
def try_it_output():
    """The output of the commands under "Try it". The last command there removes everything afterwards."""
    deploy, other_ways = blocks("Try it")
    yield paste(deploy)
    paste(other_ways.splitlines()[-1])


@pytest.fixture(scope="module")
def dev(try_it_output):
    """The installation that these commands create."""
    return Installation(namespace="togetherchat-dev")


@pytest.fixture(scope="session")
def report_calls(request):
    """Record the results of a load generator for the summary after all tests."""
    recorded = []
    request.config.stash[CALLS] = recorded
    return lambda title, results: recorded.append((title, results))


CALLS = pytest.StashKey[list]()


def pytest_terminal_summary(terminalreporter, config):
    """Print, for each path, the completions, the finished streams and the lost calls."""
    for title, results in config.stash.get(CALLS, []):
        for path, it in results.items():
            counted = f"{it['completed']} completions, {it['streamed']} streams, {len(it['lost'])} lost"
            terminalreporter.write_line(f"{title}, {path}: {counted}")
