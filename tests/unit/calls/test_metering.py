"""What an attempt reserves before it is sent, and what it settles however it ends."""

import asyncio

import pytest

from support.calls import call_of
from support.quotas import NOON_US, TODAY
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.calls.metering import UNKNOWN_OUTPUT_TOKENS, MeteringChat, ModelFacts
from togetherchat_server.calls.token_bounds import input_size
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.tenants.budget_watch import BudgetWatch
from togetherchat_server.tenants.quota import TenantQuota
from togetherchat_server.tenants.quota_store import LocalQuotaStore
from togetherchat_server.tenants.tenants_file import TenantsFile

PRICE = models.Pricing(
    input_usd_per_million_tokens=1.0,
    output_usd_per_million_tokens=10.0,
    cached_input_usd_per_million_tokens=0.5,
)
"""1,000 and 10,000 nano-USD a token."""
USAGE = chat.Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=40, reasoning_tokens=5)
COST = 60 * 1_000 + 40 * 500 + 20 * 10_000
BUDGET = "[tenants.acme]\nbudget_usd_per_day = 1\n"


class FakeProvider:
    """A `Chat` that does what the test says; `sent` are the requests that reached it."""

    def __init__(self):
        self.sent = []
        self.failure = None
        self.billable = True
        self.deltas = 0
        self.usage = USAGE

    async def complete(self, request, call):
        self._send(request, call)
        return service.CompleteResponse(usage=self.usage)

    async def stream(self, request, call):
        self._send(request, call)
        return self._batches(call)

    async def _batches(self, call):
        for number in range(self.deltas):
            call.progress.output_deltas = number + 1
            yield [service.StreamCompleteResponse(delta=service.Delta(text="x"))]
        if self.failure is not None:
            raise self.failure
        call.progress.usage = self.usage
        yield [service.StreamCompleteResponse(completed=service.Completed(usage=self.usage))]

    def _send(self, request, call):
        self.sent.append(request)
        call.progress.attempts += 1
        call.progress.billable = self.billable
        call.progress.output_deltas = 0
        call.progress.usage = None
        if self.failure is not None and not self.deltas:
            raise self.failure


class Metered:
    """A metering chat, its store and one call."""

    def __init__(self, tmp_path, limits="", entries=(), price=PRICE):
        path = tmp_path / "tenants.toml"
        path.write_text(limits)
        self.store = LocalQuotaStore()
        self.store.load({}, {}, TODAY)
        self.provider = FakeProvider()
        self.quota = TenantQuota(
            TenantsFile(path, clock=lambda: 0.0),
            self.store,
            clock=lambda: 0.0,
            lease_s=600.0,
            budgets=BudgetWatch(wall_clock=lambda: NOON_US / 1e6),
        )
        catalog = {entry.id: entry for entry in entries}
        self.chat = MeteringChat(
            self.provider,
            facts=ModelFacts(price=lambda _: price, entry=catalog.get),
            quota=self.quota,
            output_reserve_tokens=1024,
        )
        self.call = call_of("acme")

    async def complete(self, **fields):
        return await self.chat.complete(request(**fields), self.call)

    @property
    def spending(self):
        return self.store.usage("acme", TODAY).spending

    @property
    def billed(self):
        return self.call.billed


@pytest.fixture
def metered(tmp_path):
    return lambda *args, **more: Metered(tmp_path, *args, **more)


def request(text="Hello", model="m", **fields):
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])
    return service.CompleteRequest(model=model, messages=[message], **fields)


async def test_a_completion_is_settled_with_the_providers_usage(metered):
    """Cached input at its own price; the ledger's sums and the budget agree."""
    it = metered(BUDGET)
    await it.complete(max_tokens=50)

    assert (100, 20, 40, 5, COST) == (
        it.billed.input_tokens, it.billed.output_tokens, it.billed.cached_tokens,
        it.billed.reasoning_tokens, it.billed.cost_nano_usd,
    )  # fmt: skip
    assert not it.billed.estimated
    assert (COST, 0) == (it.spending.day_committed, it.spending.day_reserved)
    assert 0 == it.quota.reservations


async def test_the_most_that_a_call_can_cost_is_reserved_while_it_runs(metered):
    """The bytes of the request bound its input; `max_tokens` times `n` bounds its output."""
    it = metered(BUDGET)
    reserved = []
    it.provider.complete = recording(it, reserved)
    await it.complete(max_tokens=50, n=3)
    size = input_size(request(max_tokens=50, n=3))

    assert [size.most_tokens(0) * 1_000 + 150 * 10_000] == reserved
    assert size.most_tokens(0) >= len("Hello")


def recording(metered, reserved):
    complete = metered.provider.complete

    async def record(*args):
        reserved.append(metered.spending.day_reserved)
        return await complete(*args)

    return record


async def test_a_call_that_could_exceed_the_budget_is_not_sent(metered):
    """The error says what is left, and what the call could cost."""
    it = metered(BUDGET)
    with pytest.raises(ServiceError, match=r"has 1\.00 USD left of its 1\.00 USD budget") as caught:
        await it.complete(max_tokens=200_000)

    assert (Reason.CALLER_QUOTA, False, []) == (caught.value.reason, caught.value.retryable, it.provider.sent)
    assert (0, 0) == (it.spending.day_committed, it.spending.day_reserved)


@pytest.mark.parametrize(
    ("entries", "sent"),
    [
        ([], UNKNOWN_OUTPUT_TOKENS),
        ([models.Model(id="m", max_output_tokens=700)], 700),
        ([models.Model(id="m", context_length=4096)], 4096 - 2 * 5),
        ([models.Model(id="m", context_length=4096, max_output_tokens=100)], 100),
    ],
    ids=["unknown", "output", "context", "both"],
)
async def test_a_budget_bounds_the_output_of_a_call_without_max_tokens(metered, entries, sent):
    """By the model's limits, and the caller is told; a call with `max_tokens` is sent unchanged."""
    it = metered(BUDGET, entries)
    await it.complete()
    warnings = it.call.progress.warnings
    await it.complete(max_tokens=5)

    assert [pytest.approx(sent, abs=8), 5] == [one.max_tokens for one in it.provider.sent]
    assert "because tenant acme has a budget" in warnings[0]
    assert () == it.call.progress.warnings


async def test_a_model_without_a_price_is_rejected_for_a_tenant_with_a_budget(metered):
    """Unless the operator allows it: then the call is counted as unpriced."""
    it = metered(BUDGET, price=None)
    with pytest.raises(ServiceError, match="has no known price") as caught:
        await it.complete()
    allowed = metered(BUDGET + 'unpriced_models = "allow"\n', price=None)
    await allowed.complete()

    assert (Reason.MODEL_NOT_ALLOWED, []) == (caught.value.reason, it.provider.sent)
    assert (True, 0, 100) == (
        allowed.billed.unpriced,
        allowed.billed.cost_nano_usd,
        allowed.billed.input_tokens,
    )


@pytest.mark.parametrize(
    "failure",
    [ServiceError(Reason.UPSTREAM_CONNECT_FAILED, "no"), ServiceError(Reason.RATE_LIMITED, "no")],
    ids=["never sent", "declined"],
)
async def test_what_the_provider_did_not_do_costs_nothing(metered, failure):
    it = metered(BUDGET)
    it.provider.failure = failure
    with pytest.raises(ServiceError):
        await it.complete(max_tokens=10)

    assert (0, 0, False) == (it.spending.day_committed, it.spending.day_reserved, it.billed.estimated)


async def test_a_status_of_the_provider_costs_nothing(metered):
    """An attempt that was answered by an error did no work."""
    it = metered(BUDGET)
    it.provider.failure, it.provider.billable = ServiceError(Reason.UPSTREAM_INTERNAL, "no"), False
    with pytest.raises(ServiceError):
        await it.complete(max_tokens=10)

    assert 0 == it.billed.cost_nano_usd


@pytest.mark.parametrize(
    "failure",
    [
        ServiceError(Reason.UPSTREAM_RESET, "no"),
        ServiceError(Reason.FIRST_TOKEN_TIMEOUT, "no"),
        asyncio.CancelledError(),
    ],
    ids=["reset", "timeout", "cancel"],
)
async def test_an_attempt_that_broke_off_is_estimated_from_earlier_calls(metered, failure):
    """Its input by the bytes per token of the same model: here one token for each of its bytes."""
    it = metered(BUDGET)
    size = input_size(request(max_tokens=10)).text_bytes
    it.provider.usage = chat.Usage(prompt_tokens=size, completion_tokens=1)
    await it.complete(max_tokens=10)
    it.provider.failure = failure
    with pytest.raises(type(failure)):
        await it.complete(max_tokens=10)

    cost = size * 1_000
    assert (True, cost, 2 * cost + 10_000) == (
        it.billed.estimated, it.billed.estimated_cost_nano_usd, it.billed.cost_nano_usd
    )  # fmt: skip
    assert (it.billed.cost_nano_usd, 0) == (it.spending.day_committed, it.spending.day_reserved)


async def test_a_stream_that_the_caller_leaves_is_billed_for_what_was_received(metered):
    it = metered(BUDGET)
    it.provider.deltas = 7
    stream = await it.chat.stream(request(max_tokens=10), it.call)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    await stream.aclose()

    assert (True, 3) == (it.billed.estimated, it.billed.output_tokens)
    assert (it.billed.cost_nano_usd, 0) == (it.spending.day_committed, it.spending.day_reserved)


async def test_a_stream_that_fails_is_billed_for_what_was_received(metered):
    it = metered(BUDGET)
    it.provider.deltas, it.provider.failure = 4, ServiceError(Reason.UPSTREAM_TRUNCATED, "cut")
    stream = await it.chat.stream(request(max_tokens=10), it.call)
    with pytest.raises(ServiceError):
        async for _ in stream:
            pass
    await stream.aclose()

    assert (True, 4) == (it.billed.estimated, it.billed.output_tokens)


async def test_a_complete_stream_is_billed_once(metered):
    """The last event has the usage; the end of the stream changes nothing."""
    it = metered(BUDGET)
    it.provider.deltas = 2
    stream = await it.chat.stream(request(max_tokens=10), it.call)
    async for _ in stream:
        pass
    await stream.aclose()

    assert (COST, False) == (it.billed.cost_nano_usd, it.billed.estimated)


async def test_attempts_of_a_call_add_up(metered):
    """The first attempt may be billed, the second is."""
    it = metered(BUDGET)
    it.provider.failure = ServiceError(Reason.UPSTREAM_RESET, "no")
    with pytest.raises(ServiceError):
        await it.complete(max_tokens=10)
    first = it.billed.cost_nano_usd
    it.provider.failure = None
    await it.complete(max_tokens=10)

    assert first > 0
    assert (first + COST, first) == (it.billed.cost_nano_usd, it.billed.estimated_cost_nano_usd)
    assert it.billed.cost_nano_usd == it.spending.day_committed


async def test_without_limits_nothing_is_reserved_and_all_is_counted(metered):
    """The ledger has the sums of tenants without a budget, too."""
    it = metered()
    await it.complete()

    assert (COST, False) == (it.billed.cost_nano_usd, it.provider.sent[0].HasField("max_tokens"))
    # A budget that is set later in the day counts it.
    assert (COST, 0) == (it.spending.day_committed, it.quota.reservations)


async def test_usage_that_the_provider_did_not_send_is_estimated(metered):
    it = metered()
    it.provider.usage = chat.Usage(completion_tokens=9, total_tokens=9, estimated=True)
    await it.complete()

    assert (True, 9) == (it.billed.estimated, it.billed.output_tokens)
    assert it.billed.input_tokens > 0


async def test_what_was_spent_must_be_known_before_a_budget_is_used(metered):
    """The call may be repeated: the database may answer again soon."""
    it = metered(BUDGET)
    it.store._loaded = False
    with pytest.raises(ServiceError) as caught:
        await it.complete(max_tokens=1)

    assert (Reason.USAGE_UNAVAILABLE, True, []) == (
        caught.value.reason,
        caught.value.retryable,
        it.provider.sent,
    )


async def test_what_is_left_is_reported_from_the_soft_limit_on(metered, caplog):
    """In the response's metadata, and once a day in the log."""
    it = metered(BUDGET + "soft_budget_ratio = 0.5\n")
    await it.complete(max_tokens=10)
    before = it.call.progress.budget_remaining_usd
    it.provider.usage = chat.Usage(prompt_tokens=400_000)
    await it.complete(max_tokens=10)
    it.provider.usage = USAGE
    for _ in range(2):
        await it.complete(max_tokens=20_000)

    assert "" == before
    assert it.call.progress.budget_remaining_usd.startswith("0.3")
    assert 1 == len([one for one in caplog.records if "left of its budget" in one.getMessage()])


def test_media_count_as_media_and_not_by_their_bytes():
    """A megabyte of an image is not a megabyte of text."""
    plain = input_size(request())
    image = request()
    image.messages[0].content.add(image=chat.Image(data=b"x" * 1_000_000, media_type="image/png"))
    size = input_size(image)

    assert plain.text_bytes - 50 < size.text_bytes < plain.text_bytes + 50
    assert plain.usual_tokens() < size.usual_tokens() < 2_000
    assert size.most_tokens(0) > size.usual_tokens()


def test_the_context_length_bounds_the_input():
    assert 4096 == input_size(request("x" * 100_000)).most_tokens(4096)
