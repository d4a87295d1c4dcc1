"""The import gate reports a forbidden import wherever it is planted."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "protos/togetherchat",
    "clients/python/togetherchat_client",
    "server/togetherchat_server",
    "server/togetherchat_sandbox",
)
SERVER = "server/togetherchat_server/"

PLANTS = {
    "Layers of the server": ("telemetry/log.py", "togetherchat_server.calls.admission"),
    "A frontend imports no other frontend": (
        "frontends/http/exchange.py",
        "togetherchat_server.frontends.grpc.peer",
    ),
    "Server, client and sandbox import the contract, and not each other": (
        "domain/call.py",
        "togetherchat_client.errors",
    ),
    "Frontends and calls do not import the upstream": (
        "frontends/http/handler.py",
        "togetherchat_server.upstream.sse",
    ),
    "Providers and the upstream import no calls, models or tenants": (
        "providers/together/models.py",
        "togetherchat_server.calls.auth_throttle",
    ),
    "The supervisor loads neither grpc nor httpx": ("supervisor/cpus.py", "httpx"),
    "grpc in frontends.grpc and one module of the command": ("domain/deadline.py", "grpc"),
    "httpx and aiohappyeyeballs in upstream and tenants.jwt": ("config/exposure.py", "httpx"),
    "httptools in upstream and frontends.http": ("upstream/sse.py", "httptools"),
    "starlette in frontends.http, and uvicorn nowhere": ("telemetry/admin.py", "starlette"),
    "pydantic in config, schemas and file parsers": ("tenants/rate_limiter.py", "pydantic"),
    "opentelemetry in telemetry.tracing": ("tenants/rate_limiter.py", "opentelemetry"),
    "python-socks in upstream.socks": ("upstream/dialers.py", "python_socks"),
    "redis in tenants.redis": ("tenants/quota_store.py", "redis"),
    "sqlalchemy and alembic in usage": ("usage/row.py", "sqlalchemy"),
    "jwt and cryptography in tenants": ("tenants/api_keys.py", "jwt"),
    "prometheus_client in telemetry.metrics": ("calls/admission.py", "prometheus_client"),
    "structlog in telemetry": ("upstream/retry_policy.py", "structlog"),
}
"""For every contract a module of the server, and a module that it may not import."""


def contracts():
    """The names of the contracts in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the gate reports of a copy of the tree with every forbidden import, and their lines."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    lines = {}
    for contract, (path, module) in PLANTS.items():
        file = copy / SERVER / path
        lines[contract] = len(file.read_text(encoding="utf-8").splitlines()) + 1
        with file.open("a", encoding="utf-8") as planted:
            planted.write(f"import {module}\n")
    roots = os.pathsep.join(str((copy / package).parent) for package in PACKAGES)
    lint_imports = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run(
        [lint_imports, "--no-cache"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": roots, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    return ended.stdout, lines


def test_every_contract_has_a_plant():
    """A new contract fails until a forbidden import is planted for it."""
    assert set(contracts()) == set(PLANTS)


@pytest.mark.parametrize("contract", PLANTS)
def test_a_forbidden_import_is_named(report, contract):
    """The gate names the contract, the module and the line."""
    printed, lines = report
    path, module = PLANTS[contract]
    importer = "togetherchat_server." + path.removesuffix(".py").replace("/", ".")

    assert f"{contract} BROKEN" in printed
    section = printed.partition("Broken contracts")[2].partition(f"\n{contract}\n")[2]
    section = re.split(r"\n-{8,}\n", section.partition("\n")[2])[0]
    assert re.search(rf"{re.escape(importer)} -> {re.escape(module)} \(l\.{lines[contract]}\)", section), (
        printed
    )
