"""What others wrote and we install: locked, without known weaknesses, under licences that we know."""

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
FLOORS = tomllib.loads((FOLDER / "floors.toml").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split()
PYTHON = sorted([*FOLDER.glob("*.txt"), *(ROOT / "bench/requirements").glob("*.txt")])
OTHERS = [
    ROOT / name
    for name in TRACKED
    if Path(name).name in {"package-lock.json", "go.sum", "go.mod", ".npmrc", "pom.xml"}
]
CARGO = [ROOT / name for name in TRACKED if Path(name).name == "Cargo.lock"]
CRATES = "registry+https://github.com/rust-lang/crates.io-index"
PIN = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)", re.MULTILINE)
# XML names its schemas by addresses, and a project its homepage: nothing is fetched from there. A place
# to fetch from is a `<repository>`.
NO_PLACE = re.compile(
    r"<(url|connection|developerConnection)>[^<]*<|https?://(maven\.apache\.org/(POM|xsd)|www\.w3\.org/)[^\"\s]*"
)
ADDRESS = re.compile(
    r"https?://|\bregistry\s*=|--index|--find-links|<repository>|\b\d{1,3}(\.\d{1,3}){3}:\d+"
)


def module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


audit, licences = module("audit"), module("licences")


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("lock", PYTHON, ids=relative)
def test_every_package_is_pinned_with_hashes(lock):
    """Whatever is installed is what was looked at."""
    blocks = re.split(r"^(?=\S)", lock.read_text("utf-8"), flags=re.MULTILINE)[1:]

    assert blocks
    assert [] == [block for block in blocks if not PIN.match(block) or "--hash=sha256:" not in block]


@pytest.mark.parametrize("lock", [*PYTHON, *OTHERS], ids=relative)
def test_no_lock_names_a_registry(lock):
    """A lock does not say where packages are downloaded from; an address for donations is not a download address."""
    text = lock.read_text("utf-8")
    if lock.name == "package-lock.json":
        packages = json.loads(text)["packages"].values()
        text = json.dumps([{**entry, "funding": None} for entry in packages])

    assert None is ADDRESS.search(NO_PLACE.sub("", text))


@pytest.mark.parametrize("lock", [path for path in OTHERS if path.name == "package-lock.json"], ids=relative)
def test_every_npm_package_has_a_hash_and_no_place(lock):
    """An entry that says where it was resolved would be fetched from there."""
    packages = json.loads(lock.read_text("utf-8"))["packages"]
    theirs = {name: entry for name, entry in packages.items() if name and not entry.get("link")}

    assert theirs
    assert [] == [name for name, entry in theirs.items() if "resolved" in entry]
    assert [] == [
        name
        for name, entry in theirs.items()
        if not (entry.get("inBundle") or entry.get("integrity", "").startswith("sha512-"))
    ]


@pytest.mark.parametrize("lock", CARGO, ids=relative)
def test_every_crate_has_a_checksum_and_the_registry_that_cargo_itself_names(lock):
    """A mirror in the source of a crate would be asked for it."""
    crates = tomllib.loads(lock.read_text("utf-8"))["package"]
    theirs = [crate for crate in crates if "source" in crate]

    assert theirs
    assert {CRATES} == {crate["source"] for crate in theirs}
    assert [] == [crate["name"] for crate in theirs if "checksum" not in crate]


def test_every_floor_is_of_a_package_that_is_locked():
    """A row that protects nothing is taken out."""
    pinned = {name for lock in PYTHON for name, _ in PIN.findall(lock.read_text("utf-8"))}

    assert set() == set(FLOORS) - pinned
    assert [] == [name for name, floor in FLOORS.items() if not floor["advisories"]]


@pytest.mark.parametrize("lock", PYTHON, ids=relative)
def test_no_lock_pins_what_has_a_known_weakness(lock):
    """Everything is at least the version in which its vulnerability was fixed."""
    pinned = PIN.findall(lock.read_text("utf-8"))

    assert [] == [
        (name, version)
        for name, version in pinned
        if name in FLOORS and Version(version) < Version(FLOORS[name]["fixed"])
    ]


def test_what_is_declared_allows_nothing_with_a_known_weakness():
    """For those who install without our locks; but for code that the service never calls."""
    extras = PROJECT["optional-dependencies"].values()
    requirements = map(Requirement, [*PROJECT["dependencies"], *(one for extra in extras for one in extra)])

    assert [] == [
        str(requirement)
        for requirement in requirements
        if (floor := FLOORS.get(requirement.name))
        and not floor.get("not_called")
        and Version(next(one.version for one in requirement.specifier if one.operator == ">="))
        < Version(floor["fixed"])
    ]


WEAK = {"name": "p", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SOUND = {"name": "q", "version": "1", "vulns": []}
SKIPPED = {"name": "r", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("report", "status"),
    [
        ([SOUND], audit.CLEAN),
        ([SOUND, WEAK], audit.FOUND),
        ([SOUND, SKIPPED], audit.NOT_AUDITED),
        ([WEAK, SKIPPED], audit.FOUND),
        ([], audit.NOT_AUDITED),
    ],
)
def test_an_audit_that_did_not_happen_is_not_green(report, status):
    """A package of which the service knows nothing is not one without weaknesses."""
    result = audit.evaluate(report)

    assert status == result.status
    assert ("NOT AUDITED" in str(result.lines)) == (SKIPPED in report or not report)


def test_the_table_of_licences_is_what_is_installed():
    """Every package of the server's largest lock, with the licence of its own metadata."""
    names = licences.locked(licences.LOCK.read_text("utf-8"))

    assert licences.page(names) == (ROOT / "docs" / "licences.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("about", "classifiers"),
    [
        ({"license_expression": "GPL-3.0-or-later"}, ()),
        ({"license_expression": "MIT AND AGPL-3.0-only"}, ()),
        ({"license_expression": "MIT OR GPL-2.0-only"}, ()),
        ({"license": "Proprietary"}, ("License :: OSI Approved :: MIT License",)),
        ({}, ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)",)),
        ({}, ("Topic :: Internet",)),
    ],
)
def test_a_licence_that_nobody_allowed_is_refused(about, classifiers):
    """Strong copyleft, a word that is not known, and none at all."""
    with pytest.raises(licences.UnknownLicenceError):
        licences.licence_of("p", about, classifiers)


def test_an_expression_of_allowed_licences_is_kept():
    """As the package says it."""
    expression = "MPL-2.0 AND (Apache-2.0 OR MIT)"

    assert expression == licences.licence_of("p", {"license_expression": expression})
