"""The cache of the provider's list: for which key it is kept, and the response without it."""

import asyncio
from collections.abc import Sequence

import pytest

from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import ProviderErrorInfo, Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.models.catalog import Catalog, load_catalog
from togetherchat_server.models.list_cache import ListCacheLimits, ModelListCache
from togetherchat_server.models.unavailable import UnavailableModels

CATALOG = load_catalog(b"""
[[lists]]
source = "a page"
as_of = "2026-10"
type = "chat"
availability = "SERVERLESS"
[[lists.models]]
id = "shipped"
display_name = "S"
organization = "O"
input_usd = 1
output_usd = 2
cached_input_usd = 0.5
[[lists.models]]
id = "old"
display_name = "S"
organization = "O"
retirement_date = 2026-11-01
""")
DAY_S = 86_400.0
NOVEMBER_22_S = 1_795_305_600.0  # 2026-11-22T00:00:00Z
FAILURE = ServiceError(Reason.UPSTREAM_CONNECT_FAILED, "refused")


class Clock:
    """A clock that the test sets."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Provider:
    """A `LiveModels` with prepared results, which a test can block."""

    def __init__(self, *results: Sequence[models.Model] | Exception) -> None:
        self.results = list(results)
        self.calls: list[Call] = []
        self.cancelled = 0
        self.unblocked = asyncio.Event()
        self.unblocked.set()

    async def live_models(self, call: Call) -> Sequence[models.Model]:
        self.calls.append(call)
        try:
            await self.unblocked.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        result = self.results[min(len(self.calls), len(self.results)) - 1]
        if isinstance(result, Exception):
            raise result
        return result


def live(*ids: str) -> list[models.Model]:
    return [models.Model(id=model_id, type="chat") for model_id in ids]


class Bench:
    """A list cache with its clocks and provider."""

    def __init__(self, *results: Sequence[models.Model] | Exception, catalog: Catalog = CATALOG, **bounds):
        self.clock = Clock(1000.0)
        self.wall_clock = Clock(NOVEMBER_22_S)
        self.provider = Provider(*results)
        self.unavailable = UnavailableModels(clock=self.clock)
        self.cache = ModelListCache(
            self.provider,
            catalog,
            aliases={"quick": "shipped"},
            clock=self.clock,
            wall_clock=self.wall_clock,
            unavailable=self.unavailable,
            limits=ListCacheLimits(**bounds),
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.wall_clock.now_s += seconds

    def call(self, *, key: str | None = "service", brought: bool = False, seconds: float = 60.0) -> Call:
        return Call(
            id="call",
            method="ListModels",
            received_s=self.clock.now_s,
            deadline_s=self.clock.now_s + seconds,
            deadline_reason=Reason.CALLER_DEADLINE,
            upstream_key=None if key is None else Secret(key),
            caller_brought_key=brought,
        )

    async def list_models(self, **options) -> service.ListModelsResponse:
        return await self.cache.list_models(service.ListModelsRequest(), self.call(**options))

    async def get_model(self, name: str) -> service.GetModelResponse:
        return await self.cache.get_model(service.GetModelRequest(id=name), self.call())

    def start_listing(self, **options) -> asyncio.Task[service.ListModelsResponse]:
        return asyncio.create_task(self.list_models(**options))


def states(response: service.ListModelsResponse) -> dict[str, str]:
    return {
        model.id: models.ModelState.Name(model.state).removeprefix("MODEL_STATE_")
        for model in response.models
    }


def warnings(response: service.ListModelsResponse) -> list[str]:
    return [warning.message for warning in response.warnings]


async def let_tasks_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_providers_list_is_merged_with_the_catalog():
    """There is no warning, and the response has the time of the list."""
    response = await Bench(live("shipped", "new")).list_models()
    assert states(response) == {"shipped": "ACTIVE", "new": "ACTIVE", "old": "RETIRED"}
    assert response.provider_list_time.seconds == NOVEMBER_22_S
    assert warnings(response) == []
    assert next(list(model.aliases) for model in response.models if model.id == "shipped") == ["quick"]


async def test_a_list_is_fetched_once_while_it_is_fresh():
    """It is fetched again when it is not: after 300 s by default."""
    bench = Bench(live("one"), live("two"))
    await bench.list_models()
    bench.pass_time(299.9)
    assert "one" in states(await bench.list_models())
    assert len(bench.provider.calls) == 1
    bench.pass_time(0.1)
    assert "two" in states(await bench.list_models())
    assert len(bench.provider.calls) == 2


async def test_with_the_provider_down_the_last_list_is_returned_with_a_warning():
    """The response has the time of that list."""
    bench = Bench(live("shipped"), FAILURE)
    await bench.list_models()
    bench.pass_time(DAY_S)
    response = await bench.list_models()
    assert states(response)["shipped"] == "ACTIVE"
    assert response.provider_list_time.seconds == NOVEMBER_22_S
    assert warnings(response) == [
        "The provider's list is unavailable (UPSTREAM_CONNECT_FAILED): these models are from its last list."
    ]


async def test_without_any_list_the_catalog_is_returned_with_a_warning():
    """The response has no time of a list."""
    response = await Bench(FAILURE).list_models()
    assert states(response) == {"shipped": "UNCONFIRMED", "old": "RETIRED"}
    assert not response.HasField("provider_list_time")
    assert warnings(response) == [
        (
            "The provider's list is unavailable (UPSTREAM_CONNECT_FAILED): these models are from the "
            "catalog alone, as of 2026-10."
        )
    ]


async def test_without_any_list_and_without_a_catalog_the_response_is_empty():
    """The warning names the reason."""
    response = await Bench(FAILURE, catalog=Catalog(by_id={}, as_of="")).list_models()
    assert {} == states(response)
    assert [
        "The provider's list is unavailable (UPSTREAM_CONNECT_FAILED), and the catalog is empty."
    ] == warnings(response)


async def test_after_a_failure_the_provider_is_not_asked_for_a_while():
    """For 15 s by default, the response has the warning."""
    bench = Bench(FAILURE, live("new"))
    await bench.list_models()
    bench.pass_time(14.9)
    assert len(warnings(await bench.list_models())) == 1
    assert len(bench.provider.calls) == 1
    bench.pass_time(0.1)
    assert warnings(await bench.list_models()) == []
    assert len(bench.provider.calls) == 2


async def test_retirement_follows_the_calendar():
    """The day of the wall clock in UTC decides."""
    bench = Bench(FAILURE)
    bench.wall_clock.now_s = NOVEMBER_22_S - 21 * DAY_S - 1
    assert states(await bench.list_models())["old"] == "UNCONFIRMED"
    bench.wall_clock.now_s += 1
    assert states(await bench.list_models())["old"] == "RETIRED"


async def test_each_key_has_its_own_list():
    """One caller's private models are not shown to another. Calls without a key share one list."""
    bench = Bench(live("private"), live("public"), live("local"))
    assert "private" in states(await bench.list_models(key="first", brought=True))
    assert "private" not in states(await bench.list_models(key="second", brought=True))
    assert "local" in states(await bench.list_models(key=None))
    assert "private" in states(await bench.list_models(key="first", brought=True))
    assert len(bench.provider.calls) == 3


async def test_a_failure_concerns_one_key_only():
    """Another key is fetched all the same."""
    bench = Bench(FAILURE, live("new"))
    await bench.list_models(key="first", brought=True)
    assert warnings(await bench.list_models(key="second", brought=True)) == []


async def test_the_least_recently_used_key_is_evicted():
    """The number of keys is bounded: callers may bring any number."""
    bench = Bench(live("a"), keys_max=2)
    for key in ("first", "second", "first", "third", "first"):
        await bench.list_models(key=key, brought=True)
    assert [call.upstream_key for call in bench.provider.calls] == [
        Secret("first"),
        Secret("second"),
        Secret("third"),
    ]
    await bench.list_models(key="second", brought=True)
    assert len(bench.provider.calls) == 4


@pytest.mark.parametrize("reason", [Reason.CALLER_KEY_REJECTED, Reason.SERVICE_KEY_REJECTED])
async def test_a_caller_whose_own_key_is_rejected_gets_an_error(reason):
    """The error has the provider's message. It is returned again, without a request, for a while."""
    bench = Bench(ServiceError(reason, "no such key", upstream=ProviderErrorInfo(http_status=401)), live("a"))
    for _ in range(2):
        with pytest.raises(ServiceError) as raised:
            await bench.list_models(brought=True)
        assert raised.value.reason is Reason.CALLER_KEY_REJECTED
        assert raised.value.message == "no such key"
        assert raised.value.upstream == ProviderErrorInfo(http_status=401)
    assert len(bench.provider.calls) == 1


async def test_a_caller_whose_key_is_rejected_gets_no_old_list():
    """The list was fetched when the key was valid."""
    bench = Bench(live("private"), ServiceError(Reason.CALLER_KEY_REJECTED, "revoked"))
    await bench.list_models(brought=True)
    bench.pass_time(300)
    with pytest.raises(ServiceError, match="revoked"):
        await bench.list_models(brought=True)


async def test_a_key_that_is_accepted_again_gets_its_list():
    """The provider is asked again some time after the failure."""
    bench = Bench(ServiceError(Reason.CALLER_KEY_REJECTED, "not yet"), live("new"))
    with pytest.raises(ServiceError, match="not yet"):
        await bench.list_models(brought=True)
    bench.pass_time(15)
    assert states(await bench.list_models(brought=True))["new"] == "ACTIVE"


async def test_a_rejected_key_of_the_service_is_a_warning():
    """The caller cannot correct it."""
    response = await Bench(ServiceError(Reason.SERVICE_KEY_REJECTED, "no such key")).list_models()
    assert "SERVICE_KEY_REJECTED" in warnings(response)[0]


async def test_an_invalid_request_does_not_reach_the_provider():
    """It is rejected before a fetch."""
    bench = Bench(live("a"))
    with pytest.raises(ServiceError) as raised:
        await bench.cache.list_models(service.ListModelsRequest(page_size=-1), bench.call())
    assert raised.value.reason is Reason.INVALID_REQUEST
    assert bench.provider.calls == []


async def test_simultaneous_calls_share_one_fetch():
    """Three calls cause one request."""
    bench = Bench(live("new"))
    bench.provider.unblocked.clear()
    listing = [bench.start_listing() for _ in range(3)]
    await let_tasks_run()
    bench.provider.unblocked.set()
    for response in await asyncio.gather(*listing):
        assert "new" in states(response)
    assert len(bench.provider.calls) == 1


async def test_a_cancelled_first_call_does_not_cancel_the_fetch():
    """The fetch continues for the second call."""
    bench = Bench(live("new"))
    bench.provider.unblocked.clear()
    first, second = bench.start_listing(), bench.start_listing()
    await let_tasks_run()
    first.cancel()
    await let_tasks_run()
    bench.provider.unblocked.set()
    assert "new" in states(await second)
    assert first.cancelled()
    assert (len(bench.provider.calls), bench.provider.cancelled) == (1, 0)


async def test_the_fetch_is_cancelled_with_the_last_waiting_call():
    """No request outlives the calls that need it; the next call starts another fetch."""
    bench = Bench(live("new"))
    bench.provider.unblocked.clear()
    callers = [bench.start_listing(), bench.start_listing()]
    await let_tasks_run()
    for caller in callers:
        caller.cancel()
    await let_tasks_run()
    assert bench.provider.cancelled == 1
    bench.provider.unblocked.set()
    assert "new" in states(await bench.list_models())
    assert len(bench.provider.calls) == 2


async def test_a_call_during_a_cancellation_starts_its_own_fetch():
    """It does not join the fetch that is being cancelled."""
    bench = Bench(live("new"))
    bench.provider.unblocked.clear()
    first = bench.start_listing()
    await let_tasks_run()
    first.cancel()
    second = bench.start_listing()
    await let_tasks_run()
    bench.provider.unblocked.set()
    assert "new" in states(await second)
    assert (len(bench.provider.calls), bench.provider.cancelled) == (2, 1)


async def test_a_fetch_has_its_own_timeout():
    """The second caller may have a later deadline than the first."""
    bench = Bench(live("new"))
    await bench.list_models(seconds=3.0)
    [call] = bench.provider.calls
    assert call.deadline_s == 1000.0 + 10.0
    assert call.deadline_reason is Reason.CALL_TIMEOUT


async def test_a_fetch_that_times_out_is_a_failure():
    """`fetch_timeout_s` bounds it, and it is cached like any other failure."""
    bench = Bench(live("new"), fetch_timeout_s=0.0)
    bench.provider.unblocked.clear()
    assert "CALL_TIMEOUT" in warnings(await bench.list_models())[0]
    assert "CALL_TIMEOUT" in warnings(await bench.list_models())[0]
    assert (len(bench.provider.calls), bench.provider.cancelled) == (1, 1)


async def test_a_caller_with_a_short_deadline_gets_what_is_cached():
    """It gets no error."""
    bench = Bench(live("new"))
    bench.provider.unblocked.clear()
    response = await bench.list_models(seconds=0.0)
    assert "shipped" in states(response)
    assert "no response in time" in warnings(response)[0]
    await let_tasks_run()
    assert bench.provider.cancelled == len(bench.provider.calls)


async def test_a_list_that_is_never_fresh_is_fetched_each_time_without_a_warning():
    """It was fetched for this call."""
    bench = Bench(live("new"), fresh_s=0.0)
    assert warnings(await bench.list_models()) == []
    bench.pass_time(0.1)
    assert warnings(await bench.list_models()) == []
    assert len(bench.provider.calls) == 2


async def test_an_unexpected_exception_is_not_hidden():
    """Any other exception than a ServiceError is raised in the call; the next call tries again."""
    bench = Bench(ZeroDivisionError("a defect"), live("new"))
    with pytest.raises(ZeroDivisionError):
        await bench.list_models()
    assert "new" in states(await bench.list_models())


async def test_close_cancels_fetches_and_their_callers_get_what_is_cached():
    """No task is left."""
    bench = Bench(live("new"))
    bench.provider.unblocked.clear()
    listing = bench.start_listing()
    await let_tasks_run()
    await bench.cache.aclose()
    assert bench.provider.cancelled == 1
    assert "shipped" in states(await listing)
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_a_list_is_renewed_before_it_expires():
    """After four fifths of its time, a call returns it at once and starts a fetch for the next one."""
    bench = Bench(live("one"), live("two"))
    await bench.list_models()
    bench.pass_time(240.0)
    bench.provider.unblocked.clear()
    response = await bench.list_models()
    assert ("one" in states(response), warnings(response)) == (True, [])
    await let_tasks_run()
    bench.provider.unblocked.set()
    await let_tasks_run()
    assert "two" in states(await bench.list_models())
    assert len(bench.provider.calls) == 2


async def test_one_renewal_runs_at_a_time_and_changes_no_call():
    """Calls meanwhile start no other, and they end before the renewal."""
    bench = Bench(live("one"), live("two"))
    await bench.list_models()
    bench.pass_time(299.0)
    bench.provider.unblocked.clear()
    call = bench.call()
    await bench.cache.list_models(service.ListModelsRequest(), call)
    await bench.list_models()
    await let_tasks_run()
    assert len(bench.provider.calls) == 2
    assert bench.provider.calls[1].progress is not call.progress
    await bench.cache.aclose()
    assert bench.provider.cancelled == 1


async def test_a_renewal_that_fails_keeps_the_list():
    """The failure causes a warning only when the list has expired."""
    bench = Bench(live("one"), FAILURE)
    await bench.list_models()
    bench.pass_time(299.0)
    assert warnings(await bench.list_models()) == []
    await let_tasks_run()
    assert warnings(await bench.list_models()) == []
    bench.pass_time(1.0)
    assert "UPSTREAM_CONNECT_FAILED" in warnings(await bench.list_models())[0]


async def test_the_number_of_renewals_is_bounded():
    """Beyond the bound, a list is fetched when it has expired, by the call that needs it."""
    bench = Bench(live("a"), background_max=1)
    for key in ("first", "second"):
        await bench.list_models(key=key, brought=True)
    bench.pass_time(299.0)
    bench.provider.unblocked.clear()
    for key in ("first", "second"):
        await bench.list_models(key=key, brought=True)
    await let_tasks_run()
    assert [call.upstream_key for call in bench.provider.calls[2:]] == [Secret("first")]
    await bench.cache.aclose()


async def test_with_an_older_list_no_call_waits_long_for_a_new_one():
    """The older list is returned with a warning, and the fetch continues for later calls."""
    bench = Bench(live("one"), live("two"), stale_wait_s=0.0)
    await bench.list_models()
    bench.pass_time(300.0)
    bench.provider.unblocked.clear()
    response = await bench.list_models()
    assert "one" in states(response)
    assert warnings(response) == [
        "The provider's list is unavailable (no response in time): these models are from its last list."
    ]
    bench.provider.unblocked.set()
    await let_tasks_run()
    assert ("two" in states(await bench.list_models()), bench.provider.cancelled) == (True, 0)
    assert len(bench.provider.calls) == 2


async def test_a_long_list_is_truncated_with_a_warning():
    """An endless list does not fill the memory."""
    bench = Bench(live("a", "b", "c"), models_max=2)
    response = await bench.list_models()
    assert ({"a", "b"} <= set(states(response)), "c" in states(response)) == (True, False)
    assert warnings(response) == ["The provider lists more than 2 models; the rest is left out."]


async def test_the_size_of_all_lists_is_bounded():
    """The least recently used list is evicted, whatever the number of keys."""
    bench = Bench(live("a" * 60), bytes_max=150)
    for key in ("first", "second", "third"):
        await bench.list_models(key=key, brought=True)
    await bench.list_models(key="second", brought=True)
    assert len(bench.provider.calls) == 3
    await bench.list_models(key="first", brought=True)
    assert len(bench.provider.calls) == 4


async def test_a_listed_model_that_is_unavailable_is_unconfirmed_and_named():
    """The provider's last response for the key counts, not its list."""
    bench = Bench(live("shipped", "new"))
    key = bench.call().key_fingerprint()
    bench.unavailable.add(key, "new")
    response = await bench.list_models()
    assert states(response) == {"shipped": "ACTIVE", "new": "UNCONFIRMED", "old": "RETIRED"}
    assert warnings(response) == ["The provider recently rejected calls of new: not available with this key."]
    other = await bench.list_models(key="other", brought=True)
    assert (states(other)["new"], warnings(other)) == ("ACTIVE", [])


async def test_an_unavailable_model_becomes_active_again():
    """After 15 minutes, or at once when it has served a call."""
    bench = Bench(live("new"))
    key = bench.call().key_fingerprint()
    bench.unavailable.add(key, "new")
    bench.unavailable.discard(key, "new")
    assert states(await bench.list_models())["new"] == "ACTIVE"
    bench.unavailable.add(key, "new")
    bench.pass_time(900.0)
    assert states(await bench.list_models())["new"] == "ACTIVE"


async def test_a_warning_names_ten_unavailable_models_of_the_page():
    """It counts the others on the page, and ignores those of other pages."""
    bench = Bench(live(*(f"m{number:02}" for number in range(20))))
    for number in range(20):
        bench.unavailable.add(bench.call().key_fingerprint(), f"m{number:02}")
    request = service.ListModelsRequest(page_size=12)
    response = await bench.cache.list_models(request, bench.call())
    named = ", ".join(f"m{number:02}" for number in range(10))
    assert warnings(response) == [
        f"The provider recently rejected calls of {named} and 2 more: not available with this key."
    ]


async def test_a_model_and_the_list_share_a_fetch():
    """A second request within the fresh time does not reach the provider."""
    bench = Bench(live("new"))
    listing = bench.start_listing()
    assert (await bench.get_model("new")).model.state == models.MODEL_STATE_ACTIVE
    await listing
    assert (await bench.get_model("quick")).model.id == "shipped"
    assert len(bench.provider.calls) == 1


async def test_an_id_takes_precedence_over_an_alias():
    """A model of the provider may have the name of an alias."""
    assert (await Bench(live("quick")).get_model("quick")).model.id == "quick"


async def test_only_the_requested_model_is_in_the_warning_about_unavailable_models():
    """A warning about another model does not help the caller."""
    bench = Bench(live("new", "other"))
    bench.unavailable.add(bench.call().key_fingerprint(), "other")
    new, other = await bench.get_model("new"), await bench.get_model("other")
    assert [warning.message for warning in new.warnings] == []
    assert [warning.message for warning in other.warnings] == [
        "The provider recently rejected calls of other: not available with this key."
    ]


def priced(model_id: str, price: float) -> models.Model:
    return models.Model(
        id=model_id,
        pricing=models.Pricing(input_usd_per_million_tokens=price, output_usd_per_million_tokens=2.0),
    )


def input_price(bench: Bench, model_id: str) -> float | None:
    pricing = bench.cache.price(model_id)
    return None if pricing is None else pricing.input_usd_per_million_tokens


async def test_before_any_list_the_price_is_that_of_the_catalog():
    """The price of a model that is not in the catalog is unknown."""
    bench = Bench(live("new"))
    assert input_price(bench, "shipped") == 1.0
    assert input_price(bench, "new") is None
    assert bench.provider.calls == []


async def test_a_live_price_takes_precedence_over_the_catalogs():
    """From then on, also while the provider is down."""
    bench = Bench([priced("shipped", 3.0), priced("new", 4.0)], FAILURE)
    await bench.list_models()
    bench.pass_time(DAY_S)
    await bench.list_models()
    assert input_price(bench, "shipped") == 3.0
    assert input_price(bench, "new") == 4.0


async def test_a_cached_rate_of_the_catalog_is_used_while_the_other_prices_agree():
    """The rule is the same as for the list."""
    bench = Bench([priced("shipped", 1.0)])
    await bench.list_models()
    pricing = bench.cache.price("shipped")
    assert pricing is not None
    assert pricing.cached_input_usd_per_million_tokens == 0.5


async def test_prices_of_a_key_that_a_caller_brought_are_ignored():
    """They may be those of private models, or specific to that caller."""
    bench = Bench([priced("shipped", 3.0), priced("private", 4.0)])
    await bench.list_models(brought=True)
    assert input_price(bench, "shipped") == 1.0
    assert input_price(bench, "private") is None
