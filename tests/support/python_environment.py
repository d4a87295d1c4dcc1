"""A fresh Python environment for a test, with the wheel of this tree and the named packages."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def floors():
    """The lowest version of each dependency of the base install, `name==version`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for text in project["dependencies"]:
        requirement = Requirement(text)
        (bound,) = requirement.specifier
        assert ">=" == bound.operator, text
        found[requirement.name] = bound.version
    return found


def build_wheel(folder):
    """The wheel of this tree, built into `folder`."""
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, ROOT,
    )  # fmt: skip
    (wheel,) = folder.glob("togetherchat-*.whl")
    return wheel


def make_environment(folder, *requirements):
    """The interpreter of a fresh environment with only these packages."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    install(python, *requirements)
    return python


def install(python, *requirements):
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *requirements)


def run(*words, cwd=ROOT, **environment):
    """Run a program without PYTHONPATH; return its standard output. It must exit with 0."""
    outer = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd, env={**outer, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, f"{words}: {(done.stdout + done.stderr)[-4000:]}"
    return done.stdout
