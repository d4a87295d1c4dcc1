"""Tests of the imports of the library: cost and dependencies."""

import subprocess
import sys
from pathlib import Path

import togetherchat
import togetherchat_client

EVERY_NAME = "from togetherchat_client import *"
MODULES_MAX = 120
MODULES_OF_EVERY_NAME_MAX = 400


def loaded_after(statement: str) -> set[str]:
    """The modules that a fresh Python has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    ran = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_every_public_name_is_there():
    """`__all__`, the table of modules and the modules have the same names."""
    missing = [name for name in togetherchat_client.__all__ if not hasattr(togetherchat_client, name)]
    assert [] == missing
    assert set(togetherchat_client.__all__) == set(togetherchat_client._MODULE_BY_NAME)


def test_importing_the_library_loads_nothing_heavy():
    """gRPC is imported with the first name that needs it."""
    assert set() == loaded_after("import togetherchat_client") & {"grpc", "google.protobuf", "asyncio"}


def test_importing_it_stays_cheap():
    """Modules are counted, because a time depends on the machine: 62, and 253 with all names, on 3.11."""
    assert MODULES_MAX >= len(loaded_after("import togetherchat_client"))
    assert MODULES_OF_EVERY_NAME_MAX >= len(loaded_after(EVERY_NAME))


def test_the_library_needs_the_base_install_alone():
    """Importing every name loads no extra, and neither server nor sandbox.

    (gRPC itself loads the outer package of some extras where they are installed.)
    """
    extras = {
        "grpc_health.v1",
        "grpc_reflection.v1alpha",
        "grpc_status",
        "httpx",
        "orjson",
        "pydantic",
        "rich",
        "starlette",
        "togetherchat_sandbox",
        "togetherchat_server",
        "uvicorn",
    }
    assert set() == loaded_after(EVERY_NAME) & extras


def test_type_checkers_may_read_the_packages():
    """Both packages have a `py.typed`."""
    marked = [
        Path(package.__path__[0], "py.typed").exists() for package in (togetherchat, togetherchat_client)
    ]
    assert [True, True] == marked
