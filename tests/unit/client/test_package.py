"""What importing the library costs and needs."""

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
    """The list, the table and the modules agree."""
    missing = [name for name in togetherchat_client.__all__ if not hasattr(togetherchat_client, name)]
    assert [] == missing
    assert set(togetherchat_client.__all__) == set(togetherchat_client._MODULE_BY_NAME)


def test_importing_the_library_loads_nothing_heavy():
    """gRPC comes with the first name that needs it."""
    assert set() == loaded_after("import togetherchat_client") & {"grpc", "google.protobuf", "asyncio"}


def test_importing_it_stays_cheap():
    """Counted, for a clock would tell of the machine: 62 modules for the library and 253 with every name, on 3.11."""
    assert MODULES_MAX >= len(loaded_after("import togetherchat_client"))
    assert MODULES_OF_EVERY_NAME_MAX >= len(loaded_after(EVERY_NAME))


def test_the_library_needs_the_base_install_alone():
    """No extra of ours or of gRPC's, and neither the server nor the simulator.

    (The outer package of some is loaded by gRPC itself where it is installed.)
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
    """py.typed stands in both."""
    marked = [
        Path(package.__path__[0], "py.typed").exists() for package in (togetherchat, togetherchat_client)
    ]
    assert [True, True] == marked
