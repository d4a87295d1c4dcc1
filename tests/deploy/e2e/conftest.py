"""The dev overlay, deployed for each file of tests by the lines of the guide."""

import os
import re

import pytest
from cluster import Installation, kubectl, pasted
from rendered import ROOT

GUIDE = (ROOT / "deploy/README.md").read_text("utf-8")


def blocks(title):
    """What the guide has to be pasted under a title."""
    part = GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


@pytest.fixture(scope="session", autouse=True)
def kinds():
    """Those of the Prometheus operator, which does not run; only its word on our objects is wanted."""
    kubectl("apply", "--server-side", "--filename", os.environ["E2E_TOOLS"] + "/kinds")
    kubectl("wait", "--for=condition=established", "customresourcedefinitions", "--all")


@pytest.fixture(scope="module")
def tried():
    """What a newcomer sees who pastes the lines of "Try it"; afterwards its last line removes all of it."""
    deploy, other_ways = blocks("Try it")
    yield pasted(deploy)
    pasted(other_ways.splitlines()[-1])


@pytest.fixture(scope="module")
def dev(tried):
    """What the lines have brought about."""
    return Installation(namespace="togetherchat-dev")


@pytest.fixture(scope="session")
def figures(request):
    """Takes what callers saw; it is printed when all tests have ended."""
    taken = []
    request.config.stash[FIGURES] = taken
    return lambda title, seen: taken.append((title, seen))


FIGURES = pytest.StashKey[list]()


def pytest_terminal_summary(terminalreporter, config):
    """Of each way: answers, streams that ended in full, and calls that were lost."""
    for title, seen in config.stash.get(FIGURES, []):
        for way, it in seen.items():
            counted = f"{it['answered']} answers, {it['streamed']} streams, {len(it['lost'])} lost"
            terminalreporter.write_line(f"{title}, {way}: {counted}")
