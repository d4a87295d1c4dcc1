"""What is remembered of the provider's list, for whom, and what is answered without it."""

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
    """Time that moves when told to."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Provider:
    """A `LiveModels` whose answers are put in beforehand, and which can be held."""

    def __init__(self, *answers: Sequence[models.Model] | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def live_models(self, call: Call) -> Sequence[models.Model]:
        self.calls.append(call)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self.answers[min(len(self.calls), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def live(*ids: str) -> list[models.Model]:
    return [models.Model(id=model_id, type="chat") for model_id in ids]


class Desk:
    """A directory with its clocks and provider at hand."""

    def __init__(self, *answers: Sequence[models.Model] | Exception, catalog: Catalog = CATALOG, **bounds):
        self.clock = Clock(1000.0)
        self.wall_clock = Clock(NOVEMBER_22_S)
        self.provider = Provider(*answers)
        self.unavailable = UnavailableModels(clock=self.clock)
        self.directory = ModelListCache(
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

    async def ask(self, **how) -> service.ListModelsResponse:
        return await self.directory.list_models(service.ListModelsRequest(), self.call(**how))

    def start_asking(self, **how) -> asyncio.Task[service.ListModelsResponse]:
        return asyncio.create_task(self.ask(**how))


def states(response: service.ListModelsResponse) -> dict[str, str]:
    return {
        model.id: models.ModelState.Name(model.state).removeprefix("MODEL_STATE_")
        for model in response.models
    }


def remarks(response: service.ListModelsResponse) -> list[str]:
    return [warning.message for warning in response.warnings]


async def until_all_wait() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_providers_list_is_merged_with_the_catalogue():
    """Without a remark, and with the time at which it was read."""
    response = await Desk(live("shipped", "new")).ask()
    assert states(response) == {"shipped": "ACTIVE", "new": "ACTIVE", "old": "RETIRED"}
    assert response.provider_list_time.seconds == NOVEMBER_22_S
    assert remarks(response) == []
    assert next(list(model.aliases) for model in response.models if model.id == "shipped") == ["quick"]


async def test_a_list_is_read_once_while_it_is_fresh():
    """And again when it is not: 300 s by default."""
    desk = Desk(live("one"), live("two"))
    await desk.ask()
    desk.pass_time(299.9)
    assert "one" in states(await desk.ask())
    assert len(desk.provider.calls) == 1
    desk.pass_time(0.1)
    assert "two" in states(await desk.ask())
    assert len(desk.provider.calls) == 2


async def test_with_the_provider_down_the_last_list_answers_and_says_so():
    """With the time of that list."""
    desk = Desk(live("shipped"), FAILURE)
    await desk.ask()
    desk.pass_time(DAY_S)
    response = await desk.ask()
    assert states(response)["shipped"] == "ACTIVE"
    assert response.provider_list_time.seconds == NOVEMBER_22_S
    assert remarks(response) == [
        "The provider's list is not to be had (UPSTREAM_CONNECT_FAILED): these models are from its last one."
    ]


async def test_with_no_list_ever_the_catalogue_answers_and_says_so():
    """Without a time."""
    response = await Desk(FAILURE).ask()
    assert states(response) == {"shipped": "UNCONFIRMED", "old": "RETIRED"}
    assert not response.HasField("provider_list_time")
    assert remarks(response) == [
        (
            "The provider's list is not to be had (UPSTREAM_CONNECT_FAILED): these models are from the "
            "catalogue alone, as of 2026-10."
        )
    ]


async def test_a_failing_provider_is_left_alone_for_a_while():
    """15 s by default, in which the answer carries the remark."""
    desk = Desk(FAILURE, live("new"))
    await desk.ask()
    desk.pass_time(14.9)
    assert len(remarks(await desk.ask())) == 1
    assert len(desk.provider.calls) == 1
    desk.pass_time(0.1)
    assert remarks(await desk.ask()) == []
    assert len(desk.provider.calls) == 2


async def test_retirement_follows_the_calendar():
    """The day of the wall clock, in UTC, decides."""
    desk = Desk(FAILURE)
    desk.wall_clock.now_s = NOVEMBER_22_S - 21 * DAY_S - 1
    assert states(await desk.ask())["old"] == "UNCONFIRMED"
    desk.wall_clock.now_s += 1
    assert states(await desk.ask())["old"] == "RETIRED"


async def test_each_key_has_its_own_list():
    """One caller's private models do not reach another; no key at all is a key of its own."""
    desk = Desk(live("private"), live("public"), live("local"))
    assert "private" in states(await desk.ask(key="first", brought=True))
    assert "private" not in states(await desk.ask(key="second", brought=True))
    assert "local" in states(await desk.ask(key=None))
    assert "private" in states(await desk.ask(key="first", brought=True))
    assert len(desk.provider.calls) == 3


async def test_one_keys_trouble_is_not_anothers():
    """A failure is remembered for its key alone."""
    desk = Desk(FAILURE, live("new"))
    await desk.ask(key="first", brought=True)
    assert remarks(await desk.ask(key="second", brought=True)) == []


async def test_the_key_that_was_used_longest_ago_is_forgotten():
    """Keys are bounded in number: callers bring as many as they like."""
    desk = Desk(live("a"), keys_max=2)
    for key in ("first", "second", "first", "third", "first"):
        await desk.ask(key=key, brought=True)
    assert [call.upstream_key for call in desk.provider.calls] == [
        Secret("first"),
        Secret("second"),
        Secret("third"),
    ]
    await desk.ask(key="second", brought=True)
    assert len(desk.provider.calls) == 4


@pytest.mark.parametrize("reason", [Reason.CALLER_KEY_REJECTED, Reason.SERVICE_KEY_REJECTED])
async def test_a_caller_whose_own_key_is_refused_is_told(reason):
    """As an error with what the provider said; at once again while that is remembered."""
    desk = Desk(ServiceError(reason, "no such key", upstream=ProviderErrorInfo(http_status=401)), live("a"))
    for _ in range(2):
        with pytest.raises(ServiceError) as raised:
            await desk.ask(brought=True)
        assert raised.value.reason is Reason.CALLER_KEY_REJECTED
        assert raised.value.message == "no such key"
        assert raised.value.upstream == ProviderErrorInfo(http_status=401)
    assert len(desk.provider.calls) == 1


async def test_a_caller_whose_key_is_refused_gets_no_old_list():
    """The list was for a key that was good then."""
    desk = Desk(live("private"), ServiceError(Reason.CALLER_KEY_REJECTED, "revoked"))
    await desk.ask(brought=True)
    desk.pass_time(300)
    with pytest.raises(ServiceError, match="revoked"):
        await desk.ask(brought=True)


async def test_a_key_that_is_accepted_again_is_served_again():
    """Once the failure is old enough to ask again."""
    desk = Desk(ServiceError(Reason.CALLER_KEY_REJECTED, "not yet"), live("new"))
    with pytest.raises(ServiceError, match="not yet"):
        await desk.ask(brought=True)
    desk.pass_time(15)
    assert states(await desk.ask(brought=True))["new"] == "ACTIVE"


async def test_a_refused_key_of_the_service_is_a_remark():
    """The caller can do nothing about it."""
    response = await Desk(ServiceError(Reason.SERVICE_KEY_REJECTED, "no such key")).ask()
    assert "SERVICE_KEY_REJECTED" in remarks(response)[0]


async def test_a_bad_request_does_not_reach_the_provider():
    """It is refused before anything is read."""
    desk = Desk(live("a"))
    with pytest.raises(ServiceError) as raised:
        await desk.directory.list_models(service.ListModelsRequest(page_size=-1), desk.call())
    assert raised.value.reason is Reason.INVALID_REQUEST
    assert desk.provider.calls == []


async def test_callers_at_the_same_time_share_one_reading():
    """Three ask, one request goes out."""
    desk = Desk(live("new"))
    desk.provider.gate.clear()
    asking = [desk.start_asking() for _ in range(3)]
    await until_all_wait()
    desk.provider.gate.set()
    for response in await asyncio.gather(*asking):
        assert "new" in states(response)
    assert len(desk.provider.calls) == 1


async def test_a_first_caller_who_leaves_takes_the_list_from_nobody():
    """The reading goes on for the second."""
    desk = Desk(live("new"))
    desk.provider.gate.clear()
    first, second = desk.start_asking(), desk.start_asking()
    await until_all_wait()
    first.cancel()
    await until_all_wait()
    desk.provider.gate.set()
    assert "new" in states(await second)
    assert first.cancelled()
    assert (len(desk.provider.calls), desk.provider.cancelled) == (1, 0)


async def test_when_the_last_caller_has_left_the_reading_is_given_up():
    """No request to the provider outlives the calls that want it; the next caller starts anew."""
    desk = Desk(live("new"))
    desk.provider.gate.clear()
    callers = [desk.start_asking(), desk.start_asking()]
    await until_all_wait()
    for caller in callers:
        caller.cancel()
    await until_all_wait()
    assert desk.provider.cancelled == 1
    desk.provider.gate.set()
    assert "new" in states(await desk.ask())
    assert len(desk.provider.calls) == 2


async def test_a_caller_who_comes_as_the_last_one_leaves_gets_a_reading_of_its_own():
    """The one that is being given up is not joined."""
    desk = Desk(live("new"))
    desk.provider.gate.clear()
    first = desk.start_asking()
    await until_all_wait()
    first.cancel()
    second = desk.start_asking()
    await until_all_wait()
    desk.provider.gate.set()
    assert "new" in states(await second)
    assert (len(desk.provider.calls), desk.provider.cancelled) == (2, 1)


async def test_a_reading_has_a_time_of_its_own_not_the_first_callers():
    """The second caller may have more time than the first."""
    desk = Desk(live("new"))
    await desk.ask(seconds=3.0)
    [call] = desk.provider.calls
    assert call.deadline_s == 1000.0 + 10.0
    assert call.deadline_reason is Reason.CALL_TIMEOUT


async def test_a_reading_that_takes_too_long_is_a_failure():
    """Bounded by `fetch_s`, and remembered like any other failure."""
    desk = Desk(live("new"), fetch_s=0.0)
    desk.provider.gate.clear()
    assert "CALL_TIMEOUT" in remarks(await desk.ask())[0]
    assert "CALL_TIMEOUT" in remarks(await desk.ask())[0]
    assert (len(desk.provider.calls), desk.provider.cancelled) == (1, 1)


async def test_a_caller_with_little_time_is_answered_within_it():
    """From what is known, rather than with an error."""
    desk = Desk(live("new"))
    desk.provider.gate.clear()
    response = await desk.ask(seconds=0.0)
    assert "shipped" in states(response)
    assert "it did not come in time" in remarks(response)[0]
    await until_all_wait()
    assert desk.provider.cancelled == len(desk.provider.calls)


async def test_a_list_that_is_never_fresh_is_read_each_time_without_a_remark():
    """It was read for this very call."""
    desk = Desk(live("new"), fresh_s=0.0)
    assert remarks(await desk.ask()) == []
    desk.pass_time(0.1)
    assert remarks(await desk.ask()) == []
    assert len(desk.provider.calls) == 2


async def test_a_defect_of_the_provider_is_not_hidden():
    """What is no ServiceError goes to the caller's boundary, and the next call tries again."""
    desk = Desk(ZeroDivisionError("a defect"), live("new"))
    with pytest.raises(ZeroDivisionError):
        await desk.ask()
    assert "new" in states(await desk.ask())


async def test_closing_gives_up_readings_and_answers_their_callers():
    """Nothing is left running."""
    desk = Desk(live("new"))
    desk.provider.gate.clear()
    asking = desk.start_asking()
    await until_all_wait()
    await desk.directory.aclose()
    assert desk.provider.cancelled == 1
    assert "shipped" in states(await asking)
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_a_list_that_grows_old_is_renewed_while_it_still_answers():
    """From four fifths of its time on: the caller is answered at once, the next one from the new list."""
    desk = Desk(live("one"), live("two"))
    await desk.ask()
    desk.pass_time(240.0)
    desk.provider.gate.clear()
    response = await desk.ask()
    assert ("one" in states(response), remarks(response)) == (True, [])
    await until_all_wait()
    desk.provider.gate.set()
    await until_all_wait()
    assert "two" in states(await desk.ask())
    assert len(desk.provider.calls) == 2


async def test_a_renewal_is_begun_once_and_writes_into_no_call():
    """Callers meanwhile start no other; theirs ended before it does."""
    desk = Desk(live("one"), live("two"))
    await desk.ask()
    desk.pass_time(299.0)
    desk.provider.gate.clear()
    asked = desk.call()
    await desk.directory.list_models(service.ListModelsRequest(), asked)
    await desk.ask()
    await until_all_wait()
    assert len(desk.provider.calls) == 2
    assert desk.provider.calls[1].progress is not asked.progress
    await desk.directory.aclose()
    assert desk.provider.cancelled == 1


async def test_a_renewal_that_fails_leaves_the_list_as_it_was():
    """And is told only once the list is old."""
    desk = Desk(live("one"), FAILURE)
    await desk.ask()
    desk.pass_time(299.0)
    assert remarks(await desk.ask()) == []
    await until_all_wait()
    assert remarks(await desk.ask()) == []
    desk.pass_time(1.0)
    assert "UPSTREAM_CONNECT_FAILED" in remarks(await desk.ask())[0]


async def test_so_many_renewals_are_under_way_at_most():
    """Then a list is read when it is old, by who asks for it."""
    desk = Desk(live("a"), background_max=1)
    for key in ("first", "second"):
        await desk.ask(key=key, brought=True)
    desk.pass_time(299.0)
    desk.provider.gate.clear()
    for key in ("first", "second"):
        await desk.ask(key=key, brought=True)
    await until_all_wait()
    assert [call.upstream_key for call in desk.provider.calls[2:]] == [Secret("first")]
    await desk.directory.aclose()


async def test_with_an_older_list_at_hand_nobody_waits_long_for_the_new_one():
    """It answers with a remark, and the reading goes on for those who come later."""
    desk = Desk(live("one"), live("two"), stale_wait_s=0.0)
    await desk.ask()
    desk.pass_time(300.0)
    desk.provider.gate.clear()
    response = await desk.ask()
    assert "one" in states(response)
    assert remarks(response) == [
        "The provider's list is not to be had (it did not come in time): these models are from its last one."
    ]
    desk.provider.gate.set()
    await until_all_wait()
    assert ("two" in states(await desk.ask()), desk.provider.cancelled) == (True, 0)
    assert len(desk.provider.calls) == 2


async def test_a_list_is_kept_to_its_bound_and_says_so():
    """A provider that lists without end fills no memory."""
    desk = Desk(live("a", "b", "c"), models_max=2)
    response = await desk.ask()
    assert ({"a", "b"} <= set(states(response)), "c" in states(response)) == (True, False)
    assert remarks(response) == ["The provider lists more than 2 models: the rest is left out."]


async def test_all_lists_together_are_kept_to_their_bound():
    """The list that was used longest ago is forgotten, whatever the number of keys."""
    desk = Desk(live("a" * 60), bytes_max=150)
    for key in ("first", "second", "third"):
        await desk.ask(key=key, brought=True)
    await desk.ask(key="second", brought=True)
    assert len(desk.provider.calls) == 3
    await desk.ask(key="first", brought=True)
    assert len(desk.provider.calls) == 4


async def test_a_listed_model_that_was_refused_is_unconfirmed_and_named():
    """Listed is not callable: what the provider said last counts, for the key it said it to."""
    desk = Desk(live("shipped", "new"))
    refused_to = desk.call().key_fingerprint()
    desk.unavailable.add(refused_to, "new")
    response = await desk.ask()
    assert states(response) == {"shipped": "ACTIVE", "new": "UNCONFIRMED", "old": "RETIRED"}
    assert remarks(response) == ["The provider lately refused calls of new, as not available with this key."]
    other = await desk.ask(key="other", brought=True)
    assert (states(other)["new"], remarks(other)) == ("ACTIVE", [])


async def test_a_refused_model_is_active_again_when_it_is_forgotten():
    """After a quarter of an hour, or at once when it has answered."""
    desk = Desk(live("new"))
    key = desk.call().key_fingerprint()
    desk.unavailable.add(key, "new")
    desk.unavailable.discard(key, "new")
    assert states(await desk.ask())["new"] == "ACTIVE"
    desk.unavailable.add(key, "new")
    desk.pass_time(900.0)
    assert states(await desk.ask())["new"] == "ACTIVE"


async def test_a_remark_names_ten_refused_models_of_the_page():
    """And counts the rest; those of other pages are not told."""
    desk = Desk(live(*(f"m{number:02}" for number in range(20))))
    for number in range(20):
        desk.unavailable.add(desk.call().key_fingerprint(), f"m{number:02}")
    asked = service.ListModelsRequest(page_size=12)
    response = await desk.directory.list_models(asked, desk.call())
    named = ", ".join(f"m{number:02}" for number in range(10))
    assert remarks(response) == [
        f"The provider lately refused calls of {named} and 2 more, as not available with this key."
    ]


def priced(model_id: str, price: float) -> models.Model:
    return models.Model(
        id=model_id,
        pricing=models.Pricing(input_usd_per_million_tokens=price, output_usd_per_million_tokens=2.0),
    )


def input_price(desk: Desk, model_id: str) -> float | None:
    pricing = desk.directory.price(model_id)
    return None if pricing is None else pricing.input_usd_per_million_tokens


async def test_before_any_list_the_price_is_the_catalogues():
    """And unknown for a model that it does not name."""
    desk = Desk(live("new"))
    assert input_price(desk, "shipped") == 1.0
    assert input_price(desk, "new") is None
    assert desk.provider.calls == []


async def test_a_live_price_goes_before_the_catalogues():
    """From then on, also while the provider is down."""
    desk = Desk([priced("shipped", 3.0), priced("new", 4.0)], FAILURE)
    await desk.ask()
    desk.pass_time(DAY_S)
    await desk.ask()
    assert input_price(desk, "shipped") == 3.0
    assert input_price(desk, "new") == 4.0


async def test_a_cached_rate_of_the_catalogue_stays_while_the_other_prices_agree():
    """The same rule as in the list."""
    desk = Desk([priced("shipped", 1.0)])
    await desk.ask()
    pricing = desk.directory.price("shipped")
    assert pricing is not None
    assert pricing.cached_input_usd_per_million_tokens == 0.5


async def test_prices_of_a_key_that_a_caller_brought_count_for_nobody():
    """They may be of private models, or agreed with that caller."""
    desk = Desk([priced("shipped", 3.0), priced("private", 4.0)])
    await desk.ask(brought=True)
    assert input_price(desk, "shipped") == 1.0
    assert input_price(desk, "private") is None
