"""Deploys the dev or the production overlay for each test file, by the commands of the guide."""

import os

import pytest
from cluster import Installation, kubectl, paste
from guide import blocks
from operator_folder import deploy, make_folder


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of an operator."""
    folder = tmp_path_factory.mktemp("operator")
    make_folder(folder)
    return folder


@pytest.fixture(scope="module")
def production(folder):
    """The installation that the commands under "Production" create."""
    deploy(folder)
    yield Installation(namespace="togetherchat")
    paste("kubectl delete --kustomize mine", folder)


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
