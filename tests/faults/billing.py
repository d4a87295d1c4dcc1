"""`make billing`: a day's traffic through two workers, one of which is killed, and the ledger against the bill.

Five tenants call with completions, streams, streams that they leave, calls that they cancel, deadlines,
failures, retries and fallbacks. At the end the ledger is compared with what the sandbox billed, call by call.
"""

import argparse
import asyncio
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from support.app import request as chat_request
from support.fleet import running_fleet
from support.tenants import Keys, bearer
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_sandbox import Sandbox, SandboxSettings

TENANTS = ("search", "support", "ingest", "agents", "batch")
CAPPED = "batch"
"""The tenant with a budget that its calls exceed."""
CALLERS = 100
ESTIMATED_RATIO_MAX = 0.02
USABLE_RATIO_MIN = 0.8
PRICED = ("moonshotai/Kimi-K3", "zai-org/GLM-5.3-Flash", "meta-llama/Llama-3.3-70B-Instruct-Turbo")
FAULTY = (
    "sandbox/error-503-x2",
    "sandbox/error-429",
    "sandbox/cut-stream",
    "sandbox/error-500",
    "sandbox/cut-body",
)
TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds. "
SANDBOX = SandboxSettings(first_token_ms=2, tokens_per_second=80, bill_size=10**7, request_log_size=1000)
ENDED = (grpc.aio.AioRpcError, asyncio.CancelledError)


@dataclass(slots=True)
class Progress:
    """What the callers have done so far."""

    outcomes: Counter
    started: int = 0


class Caller:
    """One client of one tenant, which makes one call after the other."""

    def __init__(self, address, tenant, key, seed):
        self.draw = random.Random(seed)
        self.name = f"{tenant}-{seed}"
        self.metadata = bearer(key)
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        self.channel = aio.insecure_channel(address, options=options)
        self.chat = service_grpc.ChatServiceStub(self.channel)

    def request(self):
        models = list(PRICED)
        if self.draw.random() < 0.15:
            models = list(FAULTY)
        fallbacks = [self.draw.choice(PRICED)] if self.draw.random() < 0.1 else []
        text = f"{self.draw.random()} " + TEXT * self.draw.randint(1, 30)
        return chat_request(
            text,
            model=self.draw.choice(models),
            max_tokens=self.draw.choice((5, 20, 60)),
            fallback_models=fallbacks,
        )

    async def call(self, number):
        """Make one call of a random kind. Return how it ended."""
        kind = self.draw.random()
        metadata = [*self.metadata, ("x-request-id", f"{self.name}-{number}")]
        deadline = 0.02 if kind > 0.97 else 60.0
        try:
            if kind < 0.45:
                await self.chat.Complete(self.request(), metadata=metadata, timeout=60.0)
                return "completed"
            stream = self.chat.StreamComplete(self.request(), metadata=metadata, timeout=deadline)
            leave_after = self.draw.randint(1, 10) if kind < 0.57 else 10**9
            if kind > 0.9:
                asyncio.get_running_loop().call_later(self.draw.random() / 50, stream.cancel)
            events = 0
            async for _ in stream:
                events += 1
                if events >= leave_after:
                    stream.cancel()
                    return "left"
        except grpc.aio.AioRpcError as error:
            return error.code().name
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise
            return "cancelled"
        return "completed"


async def run_callers(address, keys, calls, progress):
    callers = [
        Caller(address, tenant, keys[tenant], seed)
        for seed in range(CALLERS)
        for tenant in (TENANTS[seed % len(TENANTS)],)
    ]

    async def work(caller):
        while progress.started < calls:
            progress.started += 1
            progress.outcomes[await caller.call(progress.started)] += 1

    await asyncio.gather(*(work(caller) for caller in callers))
    for caller in callers:
        await caller.channel.close()


async def kill_one(fleet, progress, calls):
    """Kill one worker in the middle."""
    while progress.started < calls / 2:  # noqa: ASYNC110  a look every tenth of a second is enough
        await asyncio.sleep(0.1)
    victim = min(await fleet.wait_until_serving())
    os.kill(victim, signal.SIGKILL)
    await fleet.wait_until_serving(without={victim})


def tenants_file(budget_usd):
    prices = "".join(
        f'[prices."{model}"]\ninput_usd_per_million_tokens = 0.2\noutput_usd_per_million_tokens = 0.6\n'
        for model in FAULTY
    )
    return f"[tenants.{CAPPED}]\nbudget_usd_per_day = {budget_usd}\n[default]\nbudget_usd_per_day = 1000\n{prices}"


def ledger_rows(path):
    """Return the rows: request id, tenant, reason, estimated, cost."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(
            "SELECT call_id, tenant, reason, estimated, cost_nano_usd FROM usage_calls"
        ).fetchall()


def compare(rows, bill, budget_usd):
    """Compare the ledger with the bill. Return the table's rows: what, ledger, bill, verdict."""
    exact = wrong = 0
    exact_cost = estimated_cost = estimated_bill = killed = killed_cost = 0
    seen = set()
    for call_id, _tenant, reason, estimated, cost in rows:
        seen.add(call_id)
        billed = bill.nano_usd_by_id.get(call_id, 0)
        if reason == "PROCESS_KILLED":
            killed += 1
            killed_cost += cost - billed
        elif estimated:
            estimated_cost += cost
            estimated_bill += billed
        else:
            exact += 1
            exact_cost += cost
            wrong += cost != billed
    missing = {call_id: cost for call_id, cost in bill.nano_usd_by_id.items() if call_id not in seen}
    capped = sum(cost for _, tenant, _, _, cost in rows if tenant == CAPPED)
    off = abs(estimated_cost - estimated_bill) / max(1, estimated_bill)
    used = capped / (budget_usd * 1e9)
    return [
        ("rows with the provider's usage", exact, f"{wrong} differ", wrong == 0),
        ("their cost, nano-USD", exact_cost, "equal to the bill" if not wrong else "differs", wrong == 0),
        (
            "estimated rows, nano-USD",
            estimated_cost,
            f"{estimated_bill} ({off:.2%} off)",
            off <= ESTIMATED_RATIO_MAX,
        ),
        (
            "rows of the killed worker, in full",
            killed,
            f"{killed_cost} nano-USD more than billed",
            killed_cost >= 0,
        ),
        ("billed calls without a row", len(missing), f"{sum(missing.values())} nano-USD", not missing),
        (f"{CAPPED}: part of its budget", f"{used:.1%}", "80% to 100%", USABLE_RATIO_MIN <= used <= 1.0),
    ]


async def traffic(calls, *flags_more):
    """Run the traffic. Return how calls ended, the rows of the ledger, the bill, and the capped budget in USD."""
    progress = Progress(Counter())
    budget_usd = max(0.01, calls * 1.2e-5)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keys_file = Keys(root / "keys")
        keys = {tenant: keys_file.create(tenant) for tenant in TENANTS}
        (root / "tenants.toml").write_text(tenants_file(budget_usd))
        flags = (
            "--api-keys-file", str(root / "keys"), "--tenants-file", str(root / "tenants.toml"),
            "--usage-database", f"sqlite:///{root}/usage.sqlite", "--model-catalog", "on", "--max-retries", "2",
            *flags_more,
        )  # fmt: skip
        async with Sandbox(SANDBOX) as sandbox:
            async with running_fleet(*flags, base_url=sandbox.base_url) as fleet:
                killing = asyncio.create_task(kill_one(fleet, progress, calls))
                await run_callers(fleet.grpc, keys, calls, progress)
                await killing
                fleet.command.signal(signal.SIGTERM)
                await fleet.command.wait_for_exit()
            bill = sandbox.bill
        return progress.outcomes, ledger_rows(root / "usage.sqlite"), bill, budget_usd


async def main(options):
    began_s = time.monotonic()
    more = ("--redis-url", options.redis_url) if options.redis_url else ()
    outcomes, rows, bill, budget_usd = await traffic(options.calls, *more)
    took_s = time.monotonic() - began_s
    write(f"{outcomes.total()} calls in {took_s:.0f} s: {dict(outcomes.most_common())}")
    write("| | ledger | bill | verdict |\n|---|---|---|---|")
    table = compare(rows, bill, budget_usd)
    for what, ledger, billed, holds in table:
        write(f"| {what} | {ledger} | {billed} | {'holds' if holds else 'DOES NOT HOLD'} |")
    return 0 if all(row[3] for row in table) else 1


def write(line):
    print(line, flush=True)  # noqa: T201  the report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--redis-url")
    sys.exit(asyncio.run(main(parser.parse_args())))
