"""What is in the image, and what is not."""

import os
import stat
from pathlib import Path

from image.containers import IMAGE, podman

LIBRARIES = ("usr/lib/python3.11", "usr/local/lib/python3.11")
PACKAGES = "opt/togetherchat/lib/python3.11/site-packages"
TOOLS = {
    *("sh", "bash", "dash", "busybox", "perl", "env"),
    *("apt", "apt-get", "dpkg", "pip", "pip3", "uv", "conda"),
    *("gcc", "cc", "g++", "ld", "as", "make", "git", "curl", "wget"),
}
BUILDERS = ("pip", "ensurepip", "setuptools", "wheel", "hatchling", "distutils", "venv")


def files(root):
    """Every file that is not a link, by its path in the image."""
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                yield str(path.relative_to(root)), path


def test_it_holds_no_shell_no_package_manager_and_no_compiler(root):
    """Nobody who gets in finds anything to install or build with."""
    programs = {path.name for _, path in files(root) if os.access(path, os.X_OK)}

    assert set() == programs & TOOLS


def test_it_holds_nothing_of_python_that_installs(root):
    """Neither pip nor what would bring it back, nor what the wheel was built with."""
    here = [
        name
        for name in BUILDERS
        for place in (*LIBRARIES, PACKAGES)
        if any((root / place / name.replace(".", "/")).with_suffix(end).exists() for end in ("", ".py"))
    ]

    assert [] == here


def test_no_file_runs_as_anybody_else(root):
    """No setuid and no setgid bit."""
    raised = [name for name, path in files(root) if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]

    assert [] == raised


def test_no_file_is_its_own_to_write(root):
    """All of it is root's, and nobody else may write: also where the root is not mounted read-only."""
    writable = [
        name
        for name, path in files(root)
        if (found := path.stat()).st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]

    assert [] == writable


def test_every_module_is_compiled(root):
    """A root that cannot be written would compile them anew at every start."""
    modules = [path for name, path in files(root) if path.suffix == ".py" and "/lib/" in f"/{name}"]

    missing = [
        path
        for path in modules
        if not (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists()
    ]

    assert 500 < len(modules)
    assert [] == missing


def test_a_scanner_finds_the_packages_and_their_licences(root):
    """Each Debian package that a file came from has its record and its copyright."""
    packages = [path.name for path in (root / "var/lib/dpkg/status.d").iterdir()]

    assert {"libc6", "libssl3"} <= set(packages)
    assert [] == [name for name in packages if not (root / "usr/share/doc" / name / "copyright").exists()]


def test_the_data_of_the_wheel_are_there(root):
    """The catalogue of models, and the mark that the packages are typed."""
    wanted = (
        "togetherchat_server/models/models.toml",
        "togetherchat_client/py.typed",
        "togetherchat/py.typed",
    )

    assert [] == [name for name in wanted if not (root / PACKAGES / name).exists()]


def test_it_says_what_it_is(manifest):
    """By the annotations that registries and scanners read."""
    labels = manifest["Config"]["Labels"]
    said = {name.removeprefix("org.opencontainers.image.") for name in labels}

    assert {"title", "description", "licenses", "version", "revision", "created", "base.name"} <= said
    assert [] == [name for name, value in labels.items() if value in ("", "unknown")]


def test_it_starts_the_server_itself_as_nobody(manifest):
    """No shell stands between the engine's signals and the server; the user is a number."""
    config = manifest["Config"]

    assert ["togetherchat-server"] == config["Entrypoint"]
    assert "65532:65532" == config["User"]
    assert "SIGTERM" == config["StopSignal"]


def test_no_key_is_in_it(manifest):
    """Neither in its environment nor in the steps that made it."""
    told = [*manifest["Config"]["Env"], podman("history", "--no-trunc", IMAGE)]

    assert [] == [text for text in told if "API_KEY" in text]
