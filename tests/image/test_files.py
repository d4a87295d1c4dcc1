"""The files and the manifest of the image."""

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
    """Each file that is not a link, with its path in the image."""
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                yield str(path.relative_to(root)), path


def test_the_image_has_no_shell_package_manager_or_compiler(root):
    """An intruder finds no tool to install or build software."""
    programs = {path.name for _, path in files(root) if os.access(path, os.X_OK)}

    assert set() == programs & TOOLS


def test_the_image_has_no_python_installer(root):
    """The image has neither pip, nor ensurepip, nor the tools that built the wheel."""
    present = [
        name
        for name in BUILDERS
        for folder in (*LIBRARIES, PACKAGES)
        if any((root / folder / name.replace(".", "/")).with_suffix(end).exists() for end in ("", ".py"))
    ]

    assert [] == present


def test_no_file_changes_its_user(root):
    """No file has a setuid or setgid bit."""
    elevated = [name for name, path in files(root) if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]

    assert [] == elevated


def test_the_server_cannot_write_any_file(root):
    """All files belong to root and only root may write them, even if the root is not mounted read-only."""
    writable = [
        name
        for name, path in files(root)
        if (found := path.stat()).st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]

    assert [] == writable


def test_every_module_is_compiled(root):
    """Without bytecode, a read-only root would compile every module again at each start."""
    modules = [path for name, path in files(root) if path.suffix == ".py" and "/lib/" in f"/{name}"]

    missing = [
        path
        for path in modules
        if not (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists()
    ]

    assert 500 < len(modules)
    assert [] == missing


def test_scanners_find_the_debian_packages_and_their_licences(root):
    """Each Debian package that a file came from has its record and its copyright file."""
    packages = [path.name for path in (root / "var/lib/dpkg/status.d").iterdir()]

    assert {"libc6", "libssl3"} <= set(packages)
    assert [] == [name for name in packages if not (root / "usr/share/doc" / name / "copyright").exists()]


def test_the_data_files_of_the_wheel_are_present(root):
    """The image has the model catalog and the py.typed markers."""
    expected = (
        "togetherchat_server/models/models.toml",
        "togetherchat_client/py.typed",
        "togetherchat/py.typed",
    )

    assert [] == [name for name in expected if not (root / PACKAGES / name).exists()]


def test_the_labels_describe_the_image(manifest):
    """The image has the OCI labels that registries and scanners read."""
    labels = manifest["Config"]["Labels"]
    names = {name.removeprefix("org.opencontainers.image.") for name in labels}

    assert {"title", "description", "licenses", "version", "revision", "created", "base.name"} <= names
    assert [] == [name for name, value in labels.items() if value in ("", "unknown")]


def test_the_image_starts_the_server_directly_as_an_unprivileged_user(manifest):
    """The server is the entry point, so it receives the stop signal; the user is numeric."""
    config = manifest["Config"]

    assert ["togetherchat-server"] == config["Entrypoint"]
    assert "65532:65532" == config["User"]
    assert "SIGTERM" == config["StopSignal"]


def test_the_image_contains_no_key(manifest):
    """Neither the environment nor the build history mentions a key."""
    texts = [*manifest["Config"]["Env"], podman("history", "--no-trunc", IMAGE)]

    assert [] == [text for text in texts if "API_KEY" in text]
