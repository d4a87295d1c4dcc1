"""A demonstration of the console's page Usage: `make demo-usage`.

Inserts 40 days of invented calls into a new ledger, writes a tenants file with budgets, creates a key for
the page, and starts the service. The calls of a day depend on its distance from today only.
"""

import argparse
import asyncio
import io
import math
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.usage import DAY_US, HOUR_US, usage_row
from support.usage_seed import insert_rows
from togetherchat_server.cli.keys import CommandContext, run_keys

DAYS = 40
NANO = 10**9
WEEKEND = 0.35
HOURS = (2, 1, 1, 1, 1, 2, 4, 8, 13, 17, 18, 17, 15, 17, 18, 17, 14, 11, 8, 6, 5, 4, 3, 2)
"""How many of a day's calls arrive in each hour, relative to the others."""
FAILURES = {
    "UPSTREAM_OVERLOADED": ("UNAVAILABLE", 5),
    "CALLER_QUOTA": ("RESOURCE_EXHAUSTED", 3),
    "UPSTREAM_TIMEOUT": ("DEADLINE_EXCEEDED", 1),
}
FAILED = 0.015
CANCELLED = 0.02
BUDGETS_USED = {"search": (0.71, 0.64), "support": (0.9, 0.83), "ingest": (None, 1.01), "mobile": (0.34, 0.4)}
"""The parts of the budgets per day and month that the demonstration has used; None for no budget."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Prices are in US dollars per million tokens, as of the catalog or near it; times are medians."""

    id: str
    input_usd: float
    output_usd: float
    first_token_s: float
    tokens_per_s: float


MODELS = {
    model.id: model
    for model in (
        Model(id="moonshotai/Kimi-K3", input_usd=1.2, output_usd=4.5, first_token_s=0.72, tokens_per_s=92),
        Model(
            id="deepseek-ai/DeepSeek-V4-Pro-0813",
            input_usd=1.32, output_usd=3.96, first_token_s=1.1, tokens_per_s=61,
        ),
        Model(id="openai/gpt-oss-120b", input_usd=0.15, output_usd=0.6, first_token_s=0.28, tokens_per_s=210),
        Model(id="openai/gpt-oss-20b", input_usd=0.05, output_usd=0.2, first_token_s=0.19, tokens_per_s=290),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Team:
    """A tenant, and how it calls. `models` has weights; tokens are medians."""

    tenant: str
    calls: int
    """On a working day."""
    models: dict[str, int]
    users: tuple[str, ...]
    key_ids: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    steady: bool = False
    """Whether weekends are as other days."""


TEAMS = (
    Team(
        tenant="search", calls=420, models={"moonshotai/Kimi-K3": 6, "openai/gpt-oss-120b": 4},
        users=("ranking", "answers", "synonyms"), key_ids=("40d1c1a7b0e2", "9be27a3f5c11"), input_tokens=21_000, output_tokens=900,
    ),
    Team(
        tenant="support", calls=300, models={"deepseek-ai/DeepSeek-V4-Pro-0813": 5, "openai/gpt-oss-120b": 3},
        users=("agent-desk", "triage", "summaries", ""), key_ids=("c07be9914ad2",), input_tokens=14_000, output_tokens=1_400,
    ),
    Team(
        tenant="ingest", calls=240, models={"openai/gpt-oss-120b": 5, "deepseek-ai/DeepSeek-V4-Pro-0813": 2},
        users=("nightly-labels", "captions"), key_ids=("77f10c2be8d4",), input_tokens=26_000, output_tokens=2_200, steady=True,
    ),
    Team(
        tenant="mobile", calls=260, models={"openai/gpt-oss-20b": 7, "moonshotai/Kimi-K3": 2},
        users=("assistant", "autocomplete"), key_ids=("1d5a90cc37be",), input_tokens=6_000, output_tokens=500,
    ),
    Team(
        tenant="research", calls=60, models={"moonshotai/Kimi-K3": 3, "deepseek-ai/DeepSeek-V4-Pro-0813": 3},
        users=("evals",), key_ids=("e3b8412f60aa",), input_tokens=30_000, output_tokens=3_500,
    ),
)  # fmt: skip


def demo_rows(now_us):
    """Return the rows of the last 40 days, those of today up to now, in no order."""
    today = now_us // DAY_US
    rows = []
    for days_ago in range(DAYS):
        chance = random.Random(days_ago)
        day_us = (today - days_ago) * DAY_US
        is_weekend = datetime.fromtimestamp(day_us / 1e6, UTC).weekday() >= 5
        growth = 1 - 0.4 * days_ago / DAYS
        for team in TEAMS:
            rhythm = WEEKEND if is_weekend and not team.steady else 1
            for _ in range(round(team.calls * rhythm * growth * chance.uniform(0.85, 1.15))):
                hour = chance.choices(range(24), HOURS)[0]
                time_us = day_us + hour * HOUR_US + chance.randrange(HOUR_US)
                row = demo_row(team, chance, f"demo-{days_ago}-{len(rows)}", time_us)
                if time_us < now_us:
                    rows.append(row)
    return rows


def demo_row(team, chance, name, time_us):
    """Return the row of one call."""
    model = MODELS[chance.choices(list(team.models), list(team.models.values()))[0]]
    caller = {
        "id": name, "call_id": name, "time_us": time_us, "tenant": team.tenant, "key_id": chance.choice(team.key_ids),
        "user": chance.choices(team.users, range(len(team.users), 0, -1))[0], "model": model.id, "model_requested": model.id,
    }  # fmt: skip
    if chance.random() < FAILED:
        reason = chance.choices(list(FAILURES), [weight for _, weight in FAILURES.values()])[0]
        return usage_row(
            **caller, code=FAILURES[reason][0], reason=reason, cost_nano_usd=0, input_tokens=0, output_tokens=0,
            cached_tokens=0, reasoning_tokens=0, duration_us=chance.randrange(2_000, 40_000),
        )  # fmt: skip
    cancelled = chance.random() < CANCELLED
    input_tokens = round(team.input_tokens * chance.lognormvariate(0, 0.5))
    output_tokens = round(team.output_tokens * chance.lognormvariate(0, 0.7) * (0.4 if cancelled else 1))
    cost = round((input_tokens * model.input_usd + output_tokens * model.output_usd) * NANO / 1e6)
    first_token_s = model.first_token_s * chance.lognormvariate(0, 0.45)
    duration_s = first_token_s + output_tokens / model.tokens_per_s * chance.lognormvariate(0, 0.2)
    return usage_row(
        **caller, code="CANCELLED" if cancelled else "OK", reason="CALLER_CANCELLED" if cancelled else "",
        input_tokens=input_tokens, output_tokens=output_tokens, cached_tokens=input_tokens * chance.randrange(5) // 10,
        reasoning_tokens=output_tokens // 4, cost_nano_usd=cost, estimated=cancelled,
        estimated_cost_nano_usd=cost if cancelled else 0, duration_us=round(duration_s * 1e6),
        first_token_us=round(first_token_s * 1e6),
    )  # fmt: skip


def demo_tenants(rows, now_us):
    """Return a tenants file whose budgets are used as BUDGETS_USED has it, up to rounding."""
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    starts_us = {
        "budget_usd_per_day": now_us // DAY_US * DAY_US,
        "budget_usd_per_month": int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp() * 1e6),
    }
    lines = []
    for tenant, parts in BUDGETS_USED.items():
        lines.append(f"[tenants.{tenant}]")
        for (name, start_us), part in zip(starts_us.items(), parts, strict=True):
            cost = Counter({row.tenant: 0 for row in rows})
            for row in rows:
                cost[row.tenant] += row.cost_nano_usd if row.time_us >= start_us else 0
            if part is not None:
                lines.append(f"{name} = {max(0.01, rounded(cost[tenant] / NANO / part))}")
        lines.append("requests_per_minute = 600\n")
    return "\n".join(lines)


def rounded(number):
    """Return a number with three significant digits."""
    return round(number, 2 - math.floor(math.log10(number))) if number > 0 else 0


def admin_key(file):
    """Create a key that sees all tenants."""
    out = io.StringIO()
    context = CommandContext(
        environment={"TOGETHERCHAT_API_KEYS_FILE": str(file)},
        out=out,
        error=sys.stderr,
        now=lambda: datetime.now(UTC),
    )
    status = run_keys(["create", "--tenant", "operators", "--scope", "chat,models,admin"], context)
    assert 0 == status
    return out.getvalue().strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the ledger and the tenants file are made anew")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    database, tenants, keys = folder / "usage.sqlite", folder / "tenants.toml", folder / "keys.jsonl"
    for old in (*folder.glob("usage.sqlite*"), keys):
        if old.is_file():
            old.unlink()
    now_us = int(time.time() * 1e6)
    rows = demo_rows(now_us)
    asyncio.run(insert_rows(database, rows))
    tenants.write_text(demo_tenants(rows, now_us), encoding="utf-8")
    print(f"{len(rows)} invented calls of {DAYS} days: open http://localhost:3000/usage")  # noqa: T201
    print(f"API key for all tenants: {admin_key(keys)}", flush=True)  # noqa: T201  execv does not flush
    os.execv(
        sys.executable,
        [
            sys.executable, "-m", "togetherchat_server", "--sandbox", "--console", "--http-listen", "127.0.0.1:3000",
            "--usage-database", f"sqlite:///{database}", "--tenants-file", str(tenants),
            "--api-keys-file", str(keys),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
