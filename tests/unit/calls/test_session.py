"""Sessions: the life of a call, without a frontend, a provider or a socket."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.calls.admission import Admission, AdmissionLimits
from togetherchat_server.calls.auth_throttle import AuthThrottle
from togetherchat_server.calls.credentials import CredentialCheck
from togetherchat_server.calls.incoming import IncomingCall, Protocol
from togetherchat_server.calls.session_parts import SessionParts
from togetherchat_server.calls.sessions import Sessions
from togetherchat_server.calls.validation import RequestLimits
from togetherchat_server.domain.addresses import TrustedProxies
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together.opened_stream import OpenedStream

PROTOCOL = Protocol(name="test", status_name=lambda error: f"status of {error.reason}")
ADDRESS = "192.0.2.1"
SERVED = service.CompleteResponse(usage=chat.Usage(prompt_tokens=3, completion_tokens=4, cost_nano_usd=5))
STARTED = service.StreamCompleteResponse(started=service.Started())
COMPLETED = service.StreamCompleteResponse(completed=service.Completed(usage=SERVED.usage))


class FakeProvider:
    """A `Chat` and a `ModelListing` that log their steps. `fail` and `gate` control every call."""

    def __init__(self, steps):
        self.steps = steps
        self.fail = None
        self.gate = None

    async def _step(self, call):
        self.steps.append("attempt")
        call.progress.attempts += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fail is not None:
            raise self.fail

    async def complete(self, _request, call):
        await self._step(call)
        return SERVED

    async def stream(self, _request, call):
        return await OpenedStream.of(self._batches(call))

    async def _batches(self, call):
        await self._step(call)
        try:
            yield [STARTED]
            yield [COMPLETED]
        finally:
            self.steps.append("closed")

    async def list_models(self, _request, call):
        await self._step(call)
        return service.ListModelsResponse()

    async def get_model(self, _request, call):
        await self._step(call)
        return service.GetModelResponse()


class Quota:
    """Counts the calls that are in the store of the replicas."""

    def __init__(self, steps):
        self._steps = steps

    @asynccontextmanager
    async def in_replicas(self, _tenant):
        self._steps.append("reserve")
        try:
            yield
        finally:
            self._steps.append("release")


class Policy:
    def __init__(self, steps):
        self._steps = steps

    def weight(self, _tenant):
        return 1.0

    def apply(self, request, _call):
        self._steps.append("policy")
        return request


class World:
    """Sessions over fakes, with a clock that tests move."""

    def __init__(self, *, mode="server", permits=10, queue=0, queue_timeout_s=5.0, call_timeout_s=600.0):
        self.now_s = 1000.0
        self.steps = []
        self.records = []
        self.provider = FakeProvider(self.steps)
        self.throttle = AuthThrottle(per_minute=5, clock=self.clock)
        self.admission = Admission(
            AdmissionLimits(
                max_concurrent_calls=permits, max_queued_calls=queue, queue_timeout_s=queue_timeout_s
            ),
            clock=self.clock,
        )
        self.sessions = Sessions(
            SessionParts(
                credentials=CredentialCheck(key_mode=mode, server_key=lambda: Secret("server-key")),
                admission=self.admission,
                auth_throttle=self.throttle,
                request_limits=RequestLimits(max_request_bytes=10_000),
                policy=Policy(self.steps),
                quota=Quota(self.steps),
                chat=self.provider,
                models=self.provider,
                trusted_proxies=TrustedProxies(),
                call_timeout_s=call_timeout_s,
                clock=self.clock,
                wall_clock=lambda: 1_800_000_000.25,
                sinks=(self.records.append,),
            )
        )

    def clock(self):
        return self.now_s

    def open(self, **metadata):
        return self.sessions.open(IncomingCall(protocol=PROTOCOL, method="/s/M", **metadata))

    def start(self, session, steps):
        """Run a call in a task of its own, as a frontend does. The task returns what `run` returns."""

        async def work():
            session.set_peer(ADDRESS)
            session.admit()
            await steps(session)

        return asyncio.create_task(session.run(work))

    async def run(self, steps, **metadata):
        return await self.start(self.open(**metadata), steps)

    def ends(self):
        """The status of each finished call."""
        return [record.code for record in self.records]


def request(**fields):
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="hello")])
    return service.CompleteRequest(**({"model": "m", "messages": [message]} | fields))


async def complete(session):
    async with session.deadline():
        await session.complete(request())


async def stream(session):
    async with session.deadline(), session.stream(request()) as batches:
        async for _ in batches:
            pass


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_callers_deadline_applies_if_it_is_earlier():
    """A call ends a margin before its caller's deadline."""
    session = World().open()

    session.deadline(10.0)

    assert (session.call.deadline_s, session.call.deadline_reason) == (1009.9, Reason.CALLER_DEADLINE)


@pytest.mark.parametrize("left_s", [None, 1e9])
async def test_the_call_timeout_applies_otherwise(left_s):
    """Without a deadline, or with an absurd one, the service's own call timeout applies.

    It begins with the call: time spent on reading the request counts.
    """
    world = World(call_timeout_s=60.0)
    session = world.open()
    world.now_s += 5

    session.deadline(left_s)

    assert (session.call.deadline_s, session.call.deadline_reason) == (1060.0, Reason.CALL_TIMEOUT)


def test_a_valid_request_id_is_kept():
    """Callers find their call by their own id."""
    assert World().open(request_id="order-17/3").call.id == "order-17/3"


@pytest.mark.parametrize("offered", ["", "with space", "é", "x" * 129, "a\nb", "a\x7fb"])
def test_an_invalid_request_id_is_replaced(offered):
    """An id that is empty or cannot be sent back is replaced by a new one."""
    first, second = (World().open(request_id=offered).call.id for _ in range(2))

    assert 32 == len(first) == len(second)
    assert offered != first != second


@pytest.mark.parametrize(
    ("text", "number"), [("", 0), ("2", 2), ("-1", 0), ("x", 0), ("1" * 400, 0), ("²", 0)]
)
def test_an_invalid_number_of_earlier_attempts_counts_as_zero(text, number):
    """`grpc-previous-rpc-attempts` is untrusted text of the caller."""
    assert number == World().open(previous_attempts=text).call.previous_attempts


def test_only_a_valid_traceparent_is_sent_to_the_provider():
    """Text that is not a trace context is dropped."""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert [good, ""] == [
        World().open(traceparent=text).call.traceparent for text in (good, good + "\r\nx: y")
    ]


async def test_a_call_writes_one_record():
    """The facts and the cost of a call go to every sink, without its text."""
    world = World()

    async def steps(session):
        await complete(session)
        for event in (STARTED, COMPLETED):
            session.sending(event)
        session.call.progress.model, session.call.progress.first_event_s = "m", 1000.5
        world.now_s += 2.5

    error = await world.run(steps, request_id="r")
    await settle()

    (record,) = world.records
    assert error is None
    assert (
        record.id,
        record.protocol,
        record.method,
        record.code,
        record.reason,
        record.model,
        record.attempts,
        record.duration_s,
        record.first_token_s,
        record.messages_sent,
        record.prompt_tokens,
        record.completion_tokens,
        record.usage_estimated,
        record.cost_nano_usd,
    ) == ("r", "test", "/s/M", "OK", "", "m", 1, 2.5, 0.5, 2, 3, 4, False, 5)


async def test_a_completion_that_broke_off_is_recorded_with_its_tokens_so_far():
    """The deltas received count as tokens, marked as an estimate."""
    world = World()

    async def steps(session):
        session.call.progress.output_deltas = 7
        raise ServiceError(Reason.UPSTREAM_TRUNCATED, "ended early")

    await world.run(steps)

    (record,) = world.records
    assert (record.completion_tokens, record.usage_estimated, record.reason, record.code) == (
        7,
        True,
        "UPSTREAM_TRUNCATED",
        "status of UPSTREAM_TRUNCATED",
    )


@pytest.mark.parametrize(("steps", "closed"), [(complete, []), (stream, ["closed"])])
async def test_the_order_of_steps(steps, closed):
    """Policy comes before the quota, the quota before the attempt; all of it is released in reverse."""
    world = World()

    assert None is await world.run(steps)

    assert ["policy", "reserve", "attempt", *closed, "release"] == world.steps


@pytest.mark.parametrize("steps", [complete, stream])
async def test_an_invalid_request_takes_no_permit(steps):
    """A request is valid before its call is queued, so a bad one is rejected while all permits are in use."""
    world = World(permits=1, queue=5, queue_timeout_s=60)
    world.provider.gate = asyncio.Event()
    holder = world.start(world.open(), complete)
    await settle()

    async def invalid(session):
        with pytest.raises(ServiceError) as caught:
            await session.complete(request(model=""))
        raise caught.value

    error = await world.run(invalid)

    assert Reason.INVALID_REQUEST is error.reason
    world.provider.gate.set()
    assert None is await holder


async def test_a_queued_call_runs_when_a_permit_is_released():
    """The time in the queue is recorded."""
    world = World(permits=1, queue=1, queue_timeout_s=60)
    world.provider.gate = asyncio.Event()
    first = world.start(world.open(), complete)
    await settle()
    second = world.start(world.open(), complete)
    await settle()
    assert (1, 1) == (world.admission.in_flight, world.admission.queued)

    world.now_s += 0.5
    world.provider.gate.set()

    assert [None, None] == [await first, await second]
    assert [0.0, 0.5] == [record.queued_s for record in world.records]


async def test_a_queued_call_is_rejected_after_the_queue_timeout():
    """No capacity became free in time."""
    world = World(permits=1, queue=1, queue_timeout_s=0.01)
    world.provider.gate = asyncio.Event()
    holder = world.start(world.open(), complete)
    await settle()

    error = await world.run(complete)

    assert Reason.OVERLOADED is error.reason
    await settle()
    assert (1, 0) == (world.admission.in_flight, world.admission.queued)
    world.provider.gate.set()
    await holder


async def test_several_pages_of_models_take_one_permit():
    """The HTTP frontend requests every page in one call."""
    world = World(permits=1)

    async def pages(session):
        for _ in range(3):
            await session.list_models(service.ListModelsRequest())
        await session.get_model(service.GetModelRequest(id="m"))

    assert None is await world.run(pages)
    await settle()
    assert 0 == world.admission.in_flight


async def test_a_full_service_rejects_a_call_unread():
    """`admit` raises before the frontend reads anything."""
    world = World(permits=1)
    world.provider.gate = asyncio.Event()
    holder = world.start(world.open(), complete)
    await settle()
    read = []

    error = await world.run(lambda _session: read.append("read"))

    assert (Reason.OVERLOADED, []) == (error.reason, read)
    world.provider.gate.set()
    await holder


async def test_rejected_credentials_are_counted_and_then_throttled():
    """An address that sends bad credentials again and again has to wait, whatever else it sends."""
    world = World(mode="caller")

    reasons = [(await world.run(complete)).reason for _ in range(6)]

    assert [Reason.MISSING_CREDENTIALS] * 5 + [Reason.CALLER_QUOTA] == reasons
    assert Reason.CALLER_QUOTA is (await world.run(complete, authorization="Bearer new")).reason


async def test_a_served_caller_is_exempt_from_the_throttle():
    """Behind a proxy, one caller with a bad key does not block the others."""
    world = World(mode="caller")
    assert None is await world.run(complete, authorization="Bearer good")
    for _ in range(6):
        await world.run(complete)

    assert None is await world.run(complete, authorization="Bearer good")


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (ServiceError(Reason.UPSTREAM_RESET, "broken"), Reason.UPSTREAM_RESET),
        (ValueError("a secret"), Reason.INTERNAL_ERROR),
        (asyncio.CancelledError(), Reason.INTERNAL_ERROR),
        (TimeoutError("a secret"), Reason.INTERNAL_ERROR),
    ],
)
async def test_whatever_is_raised_becomes_one_error(raised, reason):
    """Also a CancelledError that no one requested. The text of an exception does not reach the caller."""
    world = World()

    async def steps(_session):
        raise raised

    error = await world.run(steps)
    await settle()

    assert (reason, [f"status of {reason}"]) == (error.reason, world.ends())
    assert "secret" not in error.message


async def test_a_caller_that_leaves_cancels_its_call():
    """Nothing can be sent, so `run` raises; the stream is closed and the permit released."""
    world = World()
    reached = asyncio.Event()

    async def steps(session):
        async with session.deadline(), session.stream(request()) as batches:
            await anext(batches)
            reached.set()
            await asyncio.Event().wait()

    call = world.start(world.open(), steps)
    await reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await settle()

    assert ["status of CALLER_CANCELLED"] == world.ends()
    assert ["closed", "release"] == world.steps[-2:]
    assert 0 == world.admission.in_flight


async def test_a_cancel_after_the_deadline_is_the_deadline():
    """gRPC cancels the task of a call whose deadline has passed: that is not a caller that left."""
    world = World()
    reached = asyncio.Event()

    async def steps(session):
        session.deadline(10.0)
        reached.set()
        await asyncio.Event().wait()

    call = world.start(world.open(), steps)
    await reached.wait()
    world.now_s += 9.95
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert ["status of CALLER_DEADLINE"] == world.ends()


async def test_the_service_aborts_its_calls_when_it_stops():
    """Every call in flight fails with DRAINING, and can still send that."""
    world = World()
    world.provider.gate = asyncio.Event()
    calls = [world.start(world.open(), steps) for steps in (complete, stream)]
    await settle()

    world.sessions.abort_in_flight()

    assert [Reason.DRAINING] * 2 == [(await call).reason for call in calls]
    assert [0, 0] == [call.cancelling() for call in calls]


async def test_a_deadline_that_passes_while_the_last_part_is_written_is_not_a_failure():
    """The caller has received, or will receive, the whole response."""
    world = World()

    async def late(session, *, completing):
        async with session.deadline(0.01):
            if completing:
                session.sending_response()
            await asyncio.Event().wait()

    failed = await world.run(lambda session: late(session, completing=False))
    assert Reason.CALLER_DEADLINE is failed.reason
    assert None is await world.run(lambda session: late(session, completing=True))
    assert ["status of CALLER_DEADLINE", "OK"] == world.ends()


async def test_a_call_whose_work_never_begins_is_released_and_recorded():
    """A peer that disconnects between admission and the first step leaves nothing behind."""
    world = World(permits=1)

    async def never_run():
        world.open().admit()

    await asyncio.create_task(never_run())
    await settle()

    assert ["status of CALLER_CANCELLED"] == world.ends()
    assert 0 == world.admission.in_flight


async def test_another_task_can_release_a_stream():
    """While the frontend waits for a peer that reads nothing, the provider's connection is released."""
    world = World()
    released = []

    async def steps(session):
        async with session.stream(request()) as batches:
            await anext(batches)
            session.release_permit()
            await asyncio.create_task(batches.aclose())
            released.append((list(world.steps), world.admission.in_flight))
            session.close(ServiceError(Reason.CALLER_STALLED, "reads nothing"))

    assert None is await world.run(steps)
    await settle()

    assert ([("closed" in steps, left) for steps, left in released]) == [(True, 0)]
    assert (1, ["status of CALLER_STALLED"]) == (world.steps.count("closed"), world.ends())


async def test_a_rejected_call_counts_nothing():
    """Credentials are checked before permits, so a rejected caller holds none."""
    world = World(mode="caller", permits=1)
    error = await world.run(complete)

    assert (Reason.MISSING_CREDENTIALS, 0) == (error.reason, world.admission.in_flight)
    assert [] == world.steps


@pytest.mark.parametrize("priority", ["urgent", "0", "low, high"])
async def test_an_unknown_priority_is_rejected(priority):
    """A typing error would otherwise be noticed under load only."""
    world = World()
    error = await world.run(complete, priority=priority)

    assert (Reason.INVALID_REQUEST, 0) == (error.reason, world.admission.in_flight)


async def test_priority_orders_the_queued_calls_of_a_caller():
    """The name may be in any case. Among equals the earlier deadline is served first."""
    world = World(permits=1, queue=10, queue_timeout_s=60)
    world.provider.gate = asyncio.Event()
    holder = world.start(world.open(), complete)
    await settle()
    served = []

    def queue(name, seconds_left=None, **metadata):
        async def steps(session):
            session.deadline(seconds_left)
            await session.complete(request())
            served.append(name)

        return world.start(world.open(**metadata), steps)

    calls = [
        queue("low", priority="low"),
        queue("normal"),
        queue("normal, earlier", seconds_left=30),
        queue("high", priority="HIGH"),
    ]
    await settle()
    world.provider.gate.set()
    await asyncio.gather(holder, *calls)

    assert ["high", "normal, earlier", "normal", "low"] == served


async def test_a_call_that_is_read_makes_room_for_another_address():
    """It fails with OVERLOADED, is recorded once, and its place is free."""
    world = World(permits=2)
    reading = asyncio.Event()

    async def read(_session):
        await reading.wait()

    slow = [world.start(world.open(), read) for _ in range(2)]
    await settle()

    async def from_elsewhere():
        session = world.open()
        session.set_peer("198.51.100.9")

        async def work():
            session.admit()
            await complete(session)

        return await session.run(work)

    assert None is await asyncio.create_task(from_elsewhere())
    reading.set()
    first, newest = await asyncio.gather(*slow)

    assert (None, Reason.OVERLOADED) == (first, newest.reason)
    assert sorted(["OK", "OK", "status of OVERLOADED"]) == sorted(world.ends())
    await settle()
    assert 0 == world.admission.in_flight
