"""The Python client as it is installed: from its wheel, with the oldest and the newest of what it needs.

Needs a package index, as `pip` finds it.
"""

import asyncio
import re
import zipfile
from dataclasses import replace

import pytest
from packaging.version import Version

from conformance import actors
from support.app import running_app
from support.conformance import play_all
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
    """The name of a set of versions, and a Python that has them."""
    folder = tmp_path_factory.mktemp(request.param) / "venv"
    return request.param, make_environment(folder, wheel, *PINS[request.param])


def with_servers(act):
    """What `act(address, base_url)` gives while the service and its sandbox run beside it."""

    async def main():
        async with (
            Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0)) as sandbox,
            running_app(sandbox.base_url) as app,
        ):
            return await asyncio.to_thread(act, app.addresses.grpc, sandbox.base_url)

    return asyncio.run(main())


def test_the_wheel_says_that_it_is_typed(wheel):
    """Both packages carry the marker, and the contract its service config."""
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
    """The library is the wheel's, the tests are this tree's."""
    name, python = pinned
    health = f"grpcio-health-checking=={LOWEST['grpcio']}" if name == "lowest" else "grpcio-health-checking"
    install(python, *TEST_TOOLS, health, *PINS[name])
    where = run(python, "-c", "import togetherchat_client as c; print(c.__file__)", cwd=tmp_path)
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CLIENT_TESTS)

    assert where.startswith(str(python.parents[1]))
    assert re.search(r"\d+ passed", said)


def test_the_wheel_holds_four_packages_and_their_licence(wheel):
    """No test, no generator and nothing compiled: what is imported, its types and data, and what the wheel says of itself."""
    names = zipfile.ZipFile(wheel).namelist()
    said = [name for name in names if ".dist-info/" in name]

    assert {
        "togetherchat",
        "togetherchat_client",
        "togetherchat_sandbox",
        "togetherchat_server",
    } == {name.split("/")[0] for name in names if name not in said}
    assert [] == [name for name in names if re.search(r"\.pyc$|(^|/)(test_|conftest|generate_)", name)]
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == {
        name.partition("/")[2] for name in said
    }


@pytest.mark.parametrize("name", actors.IN_PYTHON)
def test_the_actors_see_what_they_should(name, pinned):
    """Every case of the conformance list, with these versions."""
    _, python = pinned
    language = actors.LANGUAGES[name]
    language = replace(language, command=(str(python), *language.command[1:]))

    assert {} == {case: why for case, why in play_all(language, {"PYTHONPATH": ""}).items() if why}


def test_versions_are_what_they_are_called(pinned):
    """The lowest are the floors that the wheel declares; the highest are above them."""
    name, python = pinned
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    found = run(python, "-c", code, *LOWEST).split()

    assert (name == "lowest") == ([*map(Version, LOWEST.values())] == [*map(Version, found)])


def test_it_lives_beside_the_together_sdk(tmp_path, wheel):
    """One environment, both imported, a call with each, against the same simulator."""
    python = make_environment(tmp_path / "venv", wheel, "together")
    said = with_servers(
        lambda address, base_url: run(python, "-c", BESIDE_TOGETHER, base_url, address, cwd=tmp_path)
    )

    assert "the same|the same" == said.strip()
