"""The table of licences in docs/licences.md, from the metadata of what is installed.

    python requirements/licences.py > docs/licences.md

Owns which licences may be in a service that others run and change. A package with another one,
or with none that is known, is an error: somebody has to look at it.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

LOCK: Final = Path(__file__).with_name("telemetry.txt")
"""The largest set that a server is installed from."""

# What packages without an SPDX expression call it.
SPOKEN: Final[Mapping[str, str]] = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# Copyleft ends at their own files: MPL-2.0 asks for changes to those files and for nothing of ours.
ALLOWED: Final = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MPL-2.0", "PSF-2.0"})

HEAD: Final = """\
# Licences

What a server is installed from, and under which terms. Made by `requirements/licences.py` from the
packages' own metadata; a test compares it with what is locked and installed, and fails on a licence that
nobody has looked at.

| package | licence |
|---|---|
"""
FOOT: Final = """
MPL-2.0 asks for the source of changes to the files under it, and nothing of the rest. None of them is
changed here.
"""


class UnknownLicenceError(Exception):
    """A package says nothing that is known of its licence, or has one that nobody allowed."""


def locked(lock: str) -> list[str]:
    return re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)


def licence_of(name: str, about: Mapping[str, object], classifiers: Iterable[str] = ()) -> str:
    """An SPDX expression of licences that are allowed.

    Raises:
        UnknownLicenceError: there is none.
    """
    spoken = [str(about.get(field) or "") for field in ("license_expression", "license")]
    spoken += [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License :: ")]
    for said in filter(None, spoken):
        expression = SPOKEN.get(said, said)
        if ALLOWED.issuperset(re.findall(r"[\w.-]+", re.sub(r"\b(AND|OR)\b", "", expression))):
            return expression
        break  # the first word counts: what it does not allow, a looser one must not
    raise UnknownLicenceError(f"{name}: {spoken}")


def installed(name: str) -> str:
    about = metadata.metadata(name)
    return licence_of(name, about.json, about.get_all("Classifier") or ())


def page(names: Iterable[str]) -> str:
    return HEAD + "".join(f"| {name} | {installed(name)} |\n" for name in sorted(names)) + FOOT


if __name__ == "__main__":
    sys.stdout.write(page(locked(LOCK.read_text(encoding="utf-8"))))
