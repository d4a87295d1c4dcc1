"""What is declared, what is locked and what is installed are the same."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = {
    "server.txt": ["dependencies", "server", "cli", "usage", "postgres", "build"],
    "dev.txt": [
        "dependencies",
        "server",
        "cli",
        "redis",
        "identity",
        "socks",
        "usage",
        "postgres",
        "build",
        "dev",
    ],
    "image.txt": ["dependencies", "server", "redis", "identity", "socks", "usage", "postgres", "telemetry"],
    "build.txt": ["build"],
    "telemetry.txt": ["dependencies", "server", "cli", "usage", "postgres", "telemetry", "build"],
    "fuzz.txt": ["dependencies", "server", "fuzz"],
    "sdks.txt": ["sdks"],
    "sdks-openai2.txt": ["sdks-openai2"],
    "console.txt": ["console"],
    "generate.txt": ["generate"],
    "supply.txt": ["supply"],
    "deploy.txt": ["deploy"],
    "lint-image.txt": ["lint-image"],
    "lock.txt": ["lock"],
}


def declared(name):
    project = PROJECT["project"]
    if name == "dependencies":
        return project["dependencies"]
    return project["optional-dependencies"].get(name) or PROJECT["dependency-groups"][name]


def pins(lock):
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE)), text


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_is_declared(lock):
    """Every declared requirement is pinned, to a version that it allows."""
    pinned, _ = pins(lock)

    wrong = [
        requirement
        for group in LOCKS[lock]
        for requirement in map(Requirement, declared(group))
        if not requirement.specifier.contains(pinned.get(requirement.name, "0"), prereleases=True)
    ]

    assert [] == wrong


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_no_addresses(lock):
    """Every pin has a hash; no registry is named."""
    pinned, text = pins(lock)
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]

    assert len(pinned) == len(blocks)
    assert [] == [block for block in blocks if "--hash=sha256:" not in block]
    assert None is re.search(r"https?:|--index|--find-links", text)


@pytest.mark.parametrize("lock", ["image.txt", "build.txt"])
def test_the_image_holds_what_was_tested(lock):
    """Whatever goes into the image has the version that everybody runs."""
    tested = pins("dev.txt")[0] | pins("telemetry.txt")[0]

    assert [] == [(name, pin) for name, pin in pins(lock)[0].items() if tested.get(name) != pin]


def test_the_packages_are_typed_and_named_apart():
    """What a wheel installs are names that are nobody else's, with their types."""
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    names = {Path(package).name for package in packages}

    assert {"togetherchat", "togetherchat_client", "togetherchat_server", "togetherchat_sandbox"} == names
    for package in ("protos/togetherchat", "clients/python/togetherchat_client"):
        assert (ROOT / package / "py.typed").exists()


def test_the_changelog_knows_the_version():
    """The version that is built is the newest one in the changelog."""
    newest = re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert newest is not None
    assert importlib.metadata.version("togetherchat") == PROJECT["project"]["version"] == newest[1]


def test_a_wheel_holds_what_the_service_reads(tmp_path):
    """The files that are no Python: the catalogue and the console's pages."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    read = {
        str(path.relative_to(ROOT / "server"))
        for path in (ROOT / "server").rglob("*")
        if path.suffix in {".toml", ".html", ".css", ".js"}
    }

    assert {
        "console.css",
        "console.html",
        "console.js",
        "head.html",
        "models.toml",
        "shared.css",
        "shared.js",
        "top.html",
        "usage.css",
        "usage.html",
        "usage.js",
        "usage_chart.js",
        "usage_tables.js",
    } == {Path(name).name for name in read}
    assert set() == read - set(zipfile.ZipFile(wheel).namelist())
