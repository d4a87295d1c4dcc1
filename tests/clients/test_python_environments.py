"""The Python client installed from its wheel, with the lowest and the highest versions of its dependencies.

Requires the package index that `pip` is configured for.
"""

import asyncio
import re
import zipfile
from dataclasses import replace

import pytest
from packaging.version import Version

from conformance import actors
from support.app import running_app
from support.conformance import run_all
from support.python_environment import build_wheel, floors, install, make_environment, run
from togetherchat_sandbox import Sandbox, SandboxSettings

CLIENT_TESTS = ("tests/integration/client/test_calls.py", "tests/integration/client/test_service_config.py")
LOWEST = floors()
PINS = {
    "lowest": [f"{name}=={version}" for name, version in LOWEST.items()],
    "highest": [],
}
TEST_TOOLS = ("pytest", "pytest-asyncio")

BESIDE_TOGETHER = """
import sys
import together
from togetherchat_client import connect, text_of

words = "echo: the same"
theirs = together.Together(api_key="none", base_url=sys.argv[1].removesuffix("/v1")).chat.completions.create(
    model="openai/gpt-oss-120b", messages=[{"role": "user", "content": words}]
)
with connect(sys.argv[2]) as client:
    ours = client.complete("openai/gpt-oss-120b", words)
print(theirs.choices[0].message.content, text_of(ours), sep="|")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=list(PINS))
def pinned(request, tmp_path_factory, wheel):
    """The name of a set of versions, and a Python in which they are installed."""
    folder = tmp_path_factory.mktemp(request.param) / "venv"
    return request.param, make_environment(folder, wheel, *PINS[request.param])


def with_servers(act):
    """Return `act(address, base_url)`, called while the service and its sandbox are running."""

    async def main():
        async with (
            Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as sandbox,
            running_app(sandbox.base_url) as app,
        ):
            return await asyncio.to_thread(act, app.addresses.grpc, sandbox.base_url)

    return asyncio.run(main())


def test_the_wheel_has_type_markers_and_the_service_config(wheel):
    """Both client packages contain `py.typed`, and the contract contains its service config."""
    names = set(zipfile.ZipFile(wheel).namelist())

    assert (
        set()
        == {
            "togetherchat/py.typed",
            "togetherchat/v1/chat_service_pb2.pyi",
            "togetherchat/v1/service_config.json",
            "togetherchat_client/py.typed",
        }
        - names
    )


def test_the_client_passes_its_tests(pinned, tmp_path):
    """The repository's tests of the client pass with the library of the wheel."""
    name, python = pinned
    health = f"grpcio-health-checking=={LOWEST['grpcio']}" if name == "lowest" else "grpcio-health-checking"
    install(python, *TEST_TOOLS, health, *PINS[name])
    where = run(python, "-c", "import togetherchat_client as c; print(c.__file__)", cwd=tmp_path)
    output = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CLIENT_TESTS)

    assert where.startswith(str(python.parents[1]))
    assert re.search(r"\d+ passed", output)


def test_the_wheel_contains_four_packages_and_their_licence(wheel):
    """The wheel contains modules, types, data and its metadata: no tests, generators or compiled files."""
    names = zipfile.ZipFile(wheel).namelist()
    metadata = [name for name in names if ".dist-info/" in name]

    assert {
        "togetherchat",
        "togetherchat_client",
        "togetherchat_sandbox",
        "togetherchat_server",
    } == {name.split("/")[0] for name in names if name not in metadata}
    assert [] == [name for name in names if re.search(r"\.pyc$|(^|/)(test_|conftest|generate_)", name)]
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == {
        name.partition("/")[2] for name in metadata
    }


@pytest.mark.parametrize("name", actors.IN_PYTHON)
def test_the_conformance_cases_pass(name, pinned):
    """Every conformance case passes with these versions."""
    _, python = pinned
    language = actors.LANGUAGES[name]
    language = replace(language, command=(str(python), *language.command[1:]))

    assert {} == {case: why for case, why in run_all(language, {"PYTHONPATH": ""}).items() if why}


def test_the_versions_are_the_lowest_and_the_highest(pinned):
    """The lowest versions are those that the wheel declares; the highest are above them."""
    name, python = pinned
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    found = run(python, "-c", code, *LOWEST).split()

    assert (name == "lowest") == ([*map(Version, LOWEST.values())] == [*map(Version, found)])


def test_the_client_works_beside_the_together_sdk(tmp_path, wheel):
    """In one environment and program, the client and the SDK make a call each to the same sandbox."""
    python = make_environment(tmp_path / "venv", wheel, "together")
    output = with_servers(
        lambda address, base_url: run(python, "-c", BESIDE_TOGETHER, base_url, address, cwd=tmp_path)
    )

    assert "the same|the same" == output.strip()
