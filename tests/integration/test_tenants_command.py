"""`togetherchat-server tenants`: shows and resets the quotas of a running service."""

import asyncio
import io
import json
import os
import sys

import pytest

from support.app import running_app
from support.certificates import make_certificate
from support.memory_usage import MemoryQuotas, install, quota_statuses
from support.ports import refusing_port
from support.tenants import Keys
from togetherchat_server.cli.tenants import run_tenants


async def command(app, *words, key="", address=None):
    """Return the status and both texts of the command, run in a thread as in a process of its own."""
    out, error = io.StringIO(), io.StringIO()
    arguments = (*words, "--address", address or app.addresses.grpc)
    environment = {"TOGETHERCHAT_API_KEY": key} if key else {}
    status = await asyncio.to_thread(run_tenants, arguments, environment=environment, out=out, error=error)
    return status, out.getvalue(), error.getvalue()


async def test_show_prints_each_limit_with_what_is_left():
    """Costs are in dollars; names are those of the tenants file."""
    async with running_app() as app:
        install(app, quotas=MemoryQuotas(quota_statuses()))
        status, out, error = await command(app, "show")
        _, one, _ = await command(app, "show", "globex")

    assert (0, "") == (status, error)
    assert [
        ["TENANT", "LIMIT", "MAX", "USED", "RESERVED", "LEFT", "SOFT", "RESET"],
        ["acme", "requests_per_minute", "60", "60", "0", "0", "-", "2026-11-30T12:01:00+00:00"],
        [
            "acme",
            "budget_usd_per_day",
            "$30.00",
            "$24.00",
            "$7.00",
            "$0.00",
            "$24.00",
            "2026-12-01T00:00:00+00:00",
        ],
        ["globex", "tokens_per_minute", "1,000", "400", "600", "0", "-", "-"],
    ] == [line.split() for line in out.splitlines()]
    assert ["globex"] == [line.split()[0] for line in one.splitlines()[1:]]


async def test_reset_admits_the_tenant_again():
    """The output is the limits after the reset."""
    async with running_app() as app:
        install(app, quotas=MemoryQuotas(quota_statuses()))
        status, out, _ = await command(app, "reset", "acme", "--json")

    rate, cost = json.loads(out)
    assert 0 == status
    assert {
        "tenant": "acme",
        "metric": "requests_per_minute",
        "limit": 60,
        "used": 0,
        "reserved": 0,
        "left": 60,
        "soft_limit": None,
        "reset_time": "2026-11-30T12:01:00+00:00",
    } == rate
    assert (24 * 10**9, 24 * 10**9) == (cost["used"], cost["soft_limit"])


async def test_the_key_decides_what_is_shown(tmp_path):
    """From the environment or from a file. Without the scope `admin`, a reset is rejected with its reason."""
    keys = Keys(tmp_path / "keys")
    acme, admin = keys.create("acme"), keys.create("operators", "--scope", "admin")
    file = tmp_path / "admin.key"
    file.write_text(f"{admin}\n")
    async with running_app(api_keys_file=str(keys.path)) as app:
        install(app, quotas=MemoryQuotas(quota_statuses()))
        own = await command(app, "show", "--json", key=acme)
        every = await command(app, "show", "--json", "--key-file", str(file), key=acme)
        refused = await command(app, "reset", "acme", key=acme)
        missing = await command(app, "show")

    assert ({"acme"}, {"acme", "globex"}) == tuple(
        {quota["tenant"] for quota in json.loads(out)} for _, out, _ in (own, every)
    )
    assert (1, "") == refused[:2]
    assert "togetherchat-server tenants: CALLER_NOT_PERMITTED: " in refused[2]
    assert "MISSING_CREDENTIALS" in missing[2]
    assert acme not in refused[2] + missing[2]


async def test_failures_are_one_line_with_the_reason():
    """A service without quotas, a tenant without limits, and an address where nothing listens."""
    async with running_app() as app:
        without = await command(app, "show")
        install(app, quotas=MemoryQuotas(quota_statuses()))
        unknown = await command(app, "show", "nobody")
        reset = await command(app, "reset", "nobody")
        with refusing_port() as port:
            absent = await command(app, "show", "--timeout-s", "5", address=f"127.0.0.1:{port}")

    assert [1, 1, 1, 1] == [status for status, _, _ in (without, unknown, reset, absent)]
    assert "USAGE_NOT_RECORDED" in without[2]
    assert "nobody has no limits that the key may see" in unknown[2]
    assert "INVALID_REQUEST: tenant: must be a tenant with limits" in reset[2]
    assert "cannot be reached: UNAVAILABLE" in absent[2]
    assert all(1 == text.count("\n") for _, _, text in (without, unknown, reset, absent))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("reset",), "the following arguments are required: NAME"),
        (("forget", "acme"), "invalid choice: 'forget'"),
        (("show", "--timeout-s", "0"), "must be more than 0"),
        (("show", "--key-file", "/nonexistent/key"), "cannot read /nonexistent/key: No such file"),
        (("show", "--address", "http://localhost"), "--address http://localhost: "),
    ],
)
def test_wrong_usage_ends_with_2(words, text):
    """The error names the argument and the rule."""
    out, error = io.StringIO(), io.StringIO()

    assert 2 == run_tenants(words, environment={}, out=out, error=error)
    assert text in error.getvalue()
    assert "" == out.getvalue()


async def test_the_process_reaches_a_service_over_tls(tmp_path):
    """With --ca-file the connection uses TLS, to this machine too."""
    certificate = make_certificate(tmp_path)
    tls = {"tls_cert_file": str(certificate.certificate_file), "tls_key_file": str(certificate.key_file)}
    async with running_app(**tls) as app:
        install(app, quotas=MemoryQuotas(quota_statuses()))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "togetherchat_server", "tenants", "show", "globex"),
            *("--address", app.addresses.grpc, "--ca-file", str(certificate.certificate_file)),
            env=dict(os.environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, error = await process.communicate()

    assert (0, b"") == (process.returncode, error)
    assert b"tokens_per_minute" in out
