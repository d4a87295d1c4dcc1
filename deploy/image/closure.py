"""`closure.py ENVIRONMENT ROOT` copies a virtual environment and everything it needs into an empty root.

Copied: the environment (made by `python3 -m venv`), the interpreter with the standard library, every shared
library that these are linked with, and the certificates. The record and licence of each Debian package that
a file came from are copied too, so that scanners find them.
Not copied: the shell, the package managers, installers, compilers and window toolkits.
Runs in the build stage, on Debian and its derivatives. Knows nothing of the service.
"""

# ruff: noqa: S607  the tools that this script runs are part of every Debian

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Not copied from the standard library: installers, development tools, terminals, windows, and databases,
# which would bring their shared libraries along.
STDLIB_EXCLUDED = (
    *(
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "test",
        "tkinter",
        "turtledemo",
        "turtle.py",
        "venv",
    ),
    *(
        "curses",
        "dbm",
        "sqlite3",
        "dist-packages",
        "site-packages",
        "__pycache__",
        "config-*",
        "EXTERNALLY-MANAGED",
    ),
    *(
        "_bsddb*",
        "_crypt*",
        "_ctypes_test*",
        "_curses*",
        "_dbm*",
        "_gdbm*",
        "_sqlite3*",
        "_test*",
        "_tkinter*",
    ),
    *("nis*", "ossaudiodev*", "readline*", "xx*", "sitecustomize.py"),
)
# Not copied from the environment: activation scripts, and the headers, stubs and tests of packages.
ENVIRONMENT_EXCLUDED = (
    "activate*",
    "Activate*",
    "__pycache__",
    "include",
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.c",
    "*.h",
    "tests",
)
COMMANDS = ("python", "python3", "python3.*", "togetherchat", "togetherchat-*")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Loaded by name at run time, when a thread ends, so `ldd` does not list it.
LOADED_BY_NAME = ("libgcc_s.so.1",)
ACCOUNTS = {
    "passwd": "root:x:0:0:root:/:/nowhere\nnonroot:x:65532:65532:nonroot:/:/nowhere\n",
    "group": "root:x:0:\nnonroot:x:65532:\n",
    "nsswitch.conf": "hosts: files dns\n",
}
FOLDERS = {"tmp": 0o1777, "run": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755}


class Root:
    """The root folder that is filled, and the paths that were copied into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.copied: set[Path] = set()

    def copy(self, path: Path, excluded: tuple[str, ...] = ()) -> None:
        """Copy a file or a tree to the same path, with every symbolic link on the way to it."""
        path = self._through_links(path)
        if path in self.copied:
            return
        self.copied.add(path)
        if path.is_dir():
            self._inside(path).mkdir(parents=True, exist_ok=True)
            for entry in sorted(path.iterdir()):
                if not any(entry.match(pattern) for pattern in excluded):
                    self.copy(entry, excluded)
        elif path.exists():
            self._inside(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self._inside(path))
            self._inside(path).chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)

    def write(self, name: str, text: str) -> None:
        place = self._folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def folder(self, name: str, mode: int) -> None:
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / name).chmod(mode)

    def install(self, source: Path, path: Path) -> None:
        shutil.copyfile(source, self._inside(path))
        self._inside(path).chmod(0o755)

    def _through_links(self, path: Path) -> Path:
        """Return the path with its symbolic links resolved, and create each of these links in the root."""
        reached = Path("/")
        parts = list(path.parts[1:])
        while parts:
            reached /= parts.pop(0)
            if reached.is_symlink():
                target = reached.readlink()
                self._create_link(reached, target)
                parts = [*Path(os.path.normpath(reached.parent / target)).parts[1:], *parts]
                reached = Path("/")
        return reached

    def _create_link(self, link: Path, target: Path) -> None:
        place = self._inside(link)
        self.copied.add(link)
        if not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)

    def _inside(self, path: Path) -> Path:
        return self._folder / path.relative_to("/")


def close(environment: Path, root: Root) -> None:
    """Fill a root with an environment and its dependencies."""
    for name, mode in FOLDERS.items():
        root.folder(name, mode)
    for name, text in ACCOUNTS.items():
        root.write(f"etc/{name}", text)
    root.copy(environment / "pyvenv.cfg")
    root.copy(environment / "lib", ENVIRONMENT_EXCLUDED)
    for pattern in COMMANDS:
        for command in sorted((environment / "bin").glob(pattern)):
            root.copy(command)
    root.install(Path(__file__).with_name("ready.py"), environment / "bin/togetherchat-ready")
    root.copy(Path(sysconfig.get_path("stdlib")), STDLIB_EXCLUDED)
    root.copy(CERTIFICATES)
    root.copy(Path("/etc/os-release"))
    for library in sorted(libraries(root.copied)):
        root.copy(library)
    root.copy(Path("/etc/ld.so.conf"))
    root.copy(Path("/etc/ld.so.conf.d"))
    for package in packages(root.copied):
        record = output("dpkg-query", "--status", package)
        root.write(f"var/lib/dpkg/status.d/{package.partition(':')[0]}", record)
        root.copy(Path("/usr/share/doc", package.partition(":")[0], "copyright"))


def index_libraries(folder: Path) -> None:
    """Make the loader find libraries in other than its default folders, as a Python in /usr/local has."""
    output("ldconfig", "-r", str(folder))
    shutil.rmtree(folder / "var/cache", ignore_errors=True)


def libraries(copied: set[Path]) -> set[Path]:
    """Return the shared libraries that the copied files are linked with, including the loader."""
    programs = [path for path in copied if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    found = {Path(name) for program in programs for name in linked(program)}
    # Libraries inside the environment are found by relative paths, and were copied with it.
    loader = output("ldconfig", "-p")
    by_name = {
        Path(line.rpartition("=> ")[2])
        for line in loader.splitlines()
        if line.strip().startswith(LOADED_BY_NAME)
    }
    return found | by_name


def linked(program: Path) -> Iterator[str]:
    text = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout
    if missing := re.findall(r"(\S+) => not found", text):
        raise SystemExit(f"{program} needs {missing}")
    for found in re.finditer(r"(?:=> |^\t)(/\S+) \(0x", text, re.MULTILINE):
        yield found[1]


def packages(copied: set[Path]) -> list[str]:
    """Return the Debian packages that own the files; dpkg may know a usr-merged path by its old name."""
    names = [str(path) for path in copied if not path.is_dir()]
    names += [name.removeprefix("/usr") for name in names if name.startswith("/usr/lib")]
    found: set[str] = set()
    for start in range(0, len(names), 500):
        command = ["dpkg-query", "--search", *names[start : start + 500]]
        lines = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
        owners = [line.partition(": ")[0] for line in lines if not line.startswith("diversion ")]
        found.update(name for owner in owners for name in owner.split(", "))
    return sorted(name for name in found if name)


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    close(Path(sys.argv[1]), Root(Path(sys.argv[2])))
    index_libraries(Path(sys.argv[2]))
