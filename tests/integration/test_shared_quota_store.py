"""The quota store that processes share: the store itself, and the workers of a real service."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack, contextmanager

import grpc
import pytest
from grpc import aio

from support.app import request
from support.command import REASONABLE_S, ROOTS
from support.fleet import running_fleet
from support.quotas import TODAY
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import Stall
from support.waiting import eventually
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.tenants.quota_store import LocalQuotaStore, QuotaMetric, QuotaRejection
from togetherchat_server.tenants.shared_quota_store import SharedQuotaStore, new_segment
from togetherchat_server.tenants.tenants_file import QuotaLimits

OTHER_PROCESS = """
import json, sys
from togetherchat_server.domain.periods import Period
from togetherchat_server.tenants.quota_store import Claim, QuotaRejection
from togetherchat_server.tenants.tenants_file import QuotaLimits
from togetherchat_server.tenants import shared_quota_store
# A busy machine may stop the holder of the lock for longer than a worker waits for it.
shared_quota_store.LOCK_ATTEMPTS = 1_000_000
store = shared_quota_store.SharedQuotaStore(int(sys.argv[1]))
for line in sys.stdin:
    name, tenant, *more = json.loads(line)
    if name in {"reserve", "settle"}:
        claim, *more = [Claim(**more[0]), *more[1:]]
        if name == "settle":
            more[0] = Claim(**more[0])
        more = [claim, *more[:-1], Period(*more[-1])]
    more = [QuotaLimits(**one) if isinstance(one, dict) else one for one in more]
    result = getattr(store, name)(tenant, *more)
    rejected = isinstance(result, QuotaRejection)
    print(json.dumps([result.metric, result.retry_after_s] if rejected else None), flush=True)
"""
FIVE = {"max_concurrent_calls": 5}


class OtherProcess:
    """Another process that uses the store."""

    def __init__(self, descriptor):
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, str(descriptor)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(ROOTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(descriptor,),
        )

    def call(self, *arguments):
        """Call a method of the store, and return its result."""
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def send(self, *arguments, times):
        """Call a method without waiting for the results."""
        for _ in range(times):
            print(json.dumps(arguments), file=self.process.stdin)
        self.process.stdin.flush()

    def results(self, times):
        return [json.loads(self.process.stdout.readline()) for _ in range(times)]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def joined(descriptor, count=1):
    others = [OtherProcess(descriptor) for _ in range(count)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()


@pytest.fixture
def segment():
    descriptor = new_segment(workers=2)
    yield descriptor
    os.close(descriptor)


def test_calls_of_all_processes_count_together(segment):
    """Five calls are admitted over all processes; a call that leaves makes room in any of them."""
    ours, limits = SharedQuotaStore(segment), QuotaLimits(**FIVE)
    with joined(segment) as (other,):
        assert [None] * 3 == [ours.enter("acme", limits, 0.0) for _ in range(3)]
        assert [None] * 2 == [other.call("enter", "acme", FIVE, 0.0) for _ in range(2)]
        assert QuotaRejection(QuotaMetric.CALLS, None) == ours.enter("acme", limits, 0.0)
        assert [QuotaMetric.CALLS, None] == other.call("enter", "acme", FIVE, 0.0)
        assert None is other.call("enter", "globex", FIVE, 0.0)
        ours.leave("acme")
        assert None is other.call("enter", "acme", FIVE, 0.0)


def test_requests_and_tokens_of_all_processes_count_together(segment):
    """One process reads the usage that another one has written."""
    ours, per_minute = SharedQuotaStore(segment), {"requests_per_minute": 2, "tokens_per_minute": 60}
    limits = QuotaLimits(**per_minute)
    with joined(segment) as (other,):
        assert None is ours.enter("acme", limits, 0.0)
        used, period = {"tokens": 120}, [TODAY.day, TODAY.month]
        other.call("reserve", "acme", used, per_minute, 0.0, period)
        other.call("settle", "acme", used, used, per_minute, 0.0, period)
        rejection = ours.enter("acme", limits, 0.0)
        assert (QuotaMetric.TOKENS, pytest.approx(61.0)) == (rejection.metric, rejection.retry_after_s)
        assert None is other.call("enter", "acme", per_minute, 61.0)
        assert None is ours.enter("acme", limits, 61.0)
        assert QuotaMetric.REQUESTS is ours.enter("acme", limits, 61.0).metric


def test_no_request_is_lost_when_processes_write_at_once(segment):
    """Two processes try 2,000 requests each, as fast as they can; 3,000 are available."""
    minute, times = {"requests_per_minute": 3000}, 2000
    with joined(segment, 2) as others:
        for other in others:
            other.send("enter", "acme", minute, 0.0, times=times)
        admitted = sum(result is None for other in others for result in other.results(times))

    assert 3000 == admitted


def test_the_calls_of_a_killed_process_are_released(segment):
    """At the next rejection, at most once a second; the columns of live processes are kept."""
    ours, limits = SharedQuotaStore(segment), QuotaLimits(**FIVE)
    with joined(segment, 2) as (dying, living):
        for other in (dying, dying, dying, living):
            other.call("enter", "acme", FIVE, 0.0)
        ours.enter("acme", limits, 0.0)
        assert QuotaMetric.CALLS is ours.enter("acme", limits, 0.0).metric
        dying.kill()
        assert QuotaMetric.CALLS is ours.enter("acme", limits, 0.5).metric
        assert [None] * 3 == [ours.enter("acme", limits, 1.0) for _ in range(3)]
        assert QuotaMetric.CALLS is ours.enter("acme", limits, 2.0).metric


def test_the_next_process_takes_the_column_of_a_dead_one(segment):
    """The column is cleared, so columns do not run out, however often workers die."""
    limits = QuotaLimits(**FIVE)
    for _ in range(20):
        with joined(segment) as (other,):
            assert [None] * 5 == [other.call("enter", "acme", FIVE, 0.0) for _ in range(5)]

    assert None is SharedQuotaStore(segment).enter("acme", limits, 0.0)


def test_a_stopped_process_does_not_block_others(segment):
    """A process that holds the lock and does not continue is ignored after a moment."""
    ours = SharedQuotaStore(segment)
    held = "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX, 1, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(segment)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(segment,),
    ) as holder:  # fmt: skip
        holder.stdout.readline()
        assert None is ours.enter("acme", QuotaLimits(**FIVE), 0.0)
        holder.kill()


def test_another_file_is_not_used_as_a_store(tmp_path, caplog):
    """The worker serves all the same, and logs that its limits apply to it alone."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)

    assert isinstance(SharedQuotaStore.open_or_local(descriptor), LocalQuotaStore)
    os.close(descriptor)
    assert "limits apply to this worker alone" in caplog.text


@pytest.fixture
def key(tmp_path):
    return Keys(tmp_path / "keys").create("acme")


def flags(tmp_path, limits):
    (tmp_path / "tenants.toml").write_text(f"[tenants.acme]\n{limits}\n")
    return ("--api-keys-file", f"{tmp_path}/keys", "--tenants-file", f"{tmp_path}/tenants.toml")


OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


async def callers(fleet, stack, count):
    """Clients with a connection each, which the kernel distributes over the workers."""
    channels = [aio.insecure_channel(fleet.grpc, options=OWN_CONNECTION) for _ in range(count)]
    return [service_grpc.ChatServiceStub(await stack.enter_async_context(channel)) for channel in channels]


async def codes_of(calls):
    """Return the status codes of calls."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    return [end.code() if isinstance(end, grpc.RpcError) else grpc.StatusCode.OK for end in ends]


async def test_requests_per_minute_hold_over_two_workers(tmp_path, key):
    """Both together admit what one worker would admit."""
    async with (
        running_fleet(*flags(tmp_path, "requests_per_minute = 30"), "--sandbox") as fleet,
        AsyncExitStack() as stack,
    ):
        await fleet.wait_until_serving()
        began_s = time.monotonic()
        stubs = await callers(fleet, stack, 12)
        codes = await codes_of(
            stub.Complete(request(max_tokens=1), metadata=bearer(key)) for stub in stubs for _ in range(6)
        )
        refilled = (time.monotonic() - began_s) / 2

    assert {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED} == set(codes)
    assert 30 <= codes.count(grpc.StatusCode.OK) <= 31 + refilled


async def test_calls_in_flight_hold_over_two_workers_and_the_death_of_one(tmp_path, key):
    """Four calls in all. Those of a killed worker are released, and no others."""
    async with (
        ScriptedUpstream(always((Stall(),))) as upstream,
        running_fleet(*flags(tmp_path, "max_concurrent_calls = 4"), base_url=upstream.base_url) as fleet,
        AsyncExitStack() as stack,
    ):
        await fleet.wait_until_serving()
        stubs = await callers(fleet, stack, 16)
        calls = [stub.Complete(request(), metadata=bearer(key)) for stub in stubs]
        for call in calls:
            stack.callback(call.cancel)
        rows = await fleet.wait_for(lambda rows: sum(row["in_flight"] for row in rows) == 4)
        await eventually(lambda: sum(call.done() for call in calls) == 12, within_s=REASONABLE_S)
        assert 4 == len(upstream.request_log.requests)

        dying = max(rows, key=lambda row: row["in_flight"])
        os.kill(dying["pid"], signal.SIGKILL)
        await fleet.wait_until_serving(without={dying["pid"]})
        freed = 0
        while freed < dying["in_flight"]:
            stub = (await callers(fleet, stack, 1))[0]
            call = stub.Complete(request(), metadata=bearer(key))
            stack.callback(call.cancel)
            before = len(upstream.request_log.requests)
            ended = asyncio.ensure_future(codes_of([call]))
            asked = asyncio.ensure_future(upstream.received(before + 1))
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            freed += asked.done() and not ended.done()
            asked.cancel()
        stub = (await callers(fleet, stack, 1))[0]

        assert [grpc.StatusCode.RESOURCE_EXHAUSTED] == await codes_of(
            [stub.Complete(request(), metadata=bearer(key))]
        )
