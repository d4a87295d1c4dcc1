"""Services whose usage ledgers have invented calls, for the tests of the page Usage."""

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from hostile_provider import ATTACK, LONG

from support.service_process import ROOT, SOURCES, ServiceProcess, serving

DAY_US = 86_400_000_000
NANO = 10**9
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join((SOURCES, str(ROOT / "tests")))}
TENANTS = """
[tenants.search]
budget_usd_per_day = 100
budget_usd_per_month = 1000
requests_per_minute = 600

[tenants.support]
budget_usd_per_day = 10
soft_budget_ratio = 0.5

[tenants.ingest]
budget_usd_per_day = 2
"""


@dataclass(frozen=True, kw_only=True)
class UsageService:
    """A running service, the rows of its ledger, and its keys by name."""

    process: ServiceProcess
    rows: list
    keys: dict

    @property
    def base_url(self):
        return self.process.base_url


def run(*words, text="", environment=None):
    """Run a module in the service's Python. Return what it prints."""
    command = [os.environ["TOGETHERCHAT_PYTHON"], "-m", *words]
    environment = {**ENVIRONMENT, **(environment or {})}
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def seed(database, rows):
    run("support.usage_seed", str(database), text="\n".join(json.dumps(row) for row in rows))


def create_key(file, tenant, scopes):
    environment = {"TOGETHERCHAT_API_KEYS_FILE": str(file)}
    return run(
        "togetherchat_server", "keys", "create", "--tenant", tenant, "--scope", scopes, environment=environment
    )  # fmt: skip


@contextmanager
def serving_usage(folder, rows, *, http="127.0.0.1:0"):
    """Serve the console with these rows in the ledger, budgets, and three keys."""
    database, tenants, keys = folder / "usage.sqlite", folder / "tenants.toml", folder / "keys.jsonl"
    seed(database, rows)
    tenants.write_text(TENANTS, encoding="utf-8")
    texts = {
        "admin": create_key(keys, "operators", "chat,models,admin"),
        "search": create_key(keys, "search", "usage"),
        "chat": create_key(keys, "search", "chat,models"),
    }
    flags = ("--usage-database", f"sqlite:///{database}", "--tenants-file", str(tenants))
    with serving("--console", *flags, "--api-keys-file", str(keys), http=http) as process:
        yield UsageService(process=process, rows=rows, keys=texts)


def today_us():
    return int(datetime.now(UTC).timestamp() * 1e6) // DAY_US * DAY_US


def call(*, days_ago=0, tenant="search", usd=1.0, at_us=0, **fields):
    """Return a row of a call at the beginning of a day, which has passed whatever the time is."""
    cost = None if usd is None else round(usd * NANO)
    time_us = today_us() - days_ago * DAY_US + at_us
    return {"time_us": time_us, "tenant": tenant, "cost_nano_usd": cost, "model": "acme/large", **fields}


def varied_calls():
    """Return calls of three tenants and models, with all that a report has to show."""
    rows = []
    for days_ago in range(0, 70, 2):
        rows += [
            call(days_ago=days_ago, usd=4.25, user="ranking", input_tokens=120_000, first_token_us=250_000, duration_us=2_000_000),
            call(days_ago=days_ago, usd=0.25, user="answers", input_tokens=9_000, first_token_us=900_000, duration_us=8_000_000),
            call(days_ago=days_ago, tenant="support", usd=6, key_id="c07be9914ad2", model="acme/small", first_token_us=100_000, duration_us=500_000),
        ]  # fmt: skip
    failed = {"code": "UNAVAILABLE", "reason": "UPSTREAM_OVERLOADED", "input_tokens": 0, "output_tokens": 0}
    cancelled = {"code": "CANCELLED", "reason": "CALLER_CANCELLED", "estimated": True}
    return [
        *rows,
        call(tenant="ingest", usd=2.5, days_ago=0, user=ATTACK, model="acme/small"),
        call(tenant="ingest", usd=1.5, days_ago=1, user=LONG, **cancelled, estimated_cost_nano_usd=NANO),
        call(tenant="ingest", usd=0, days_ago=3, **failed),
        call(tenant="ingest", usd=None, days_ago=3, model="acme/private"),
    ]


def calls_of_many_tenants():
    """Return calls of one day by 40 tenants, whose costs differ."""
    return [call(tenant=f"team-{number:02}", usd=number + 1) for number in range(40)]
