from contextlib import aclosing, asynccontextmanager

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.calls.model_routing import RoutingChat
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import FALLS_BACK, Reason, ServiceError
from togetherchat_server.models.aliases import ModelAliases
from togetherchat_server.models.unavailable import UnavailableModels

RECEIVED_S = 1000.0
FIRST_S, END_S = 1000.25, 1002.5
PRICED = "priced/model"


class FakeChat:
    """Answers by a plan: for each model its failure, or for a stream the batch before which it fails."""

    def __init__(self, failures=None, *, after_batches=0):
        self.failures = failures or {}
        self.after_batches = after_batches
        self.asked = []
        self.progress_models = []
        self.left = []

    async def complete(self, request, call):
        self._note(request, call)
        if error := self.failures.get(request.model):
            raise error
        call.progress.first_event_s = FIRST_S
        return service.CompleteResponse(model=request.model, usage=usage())

    @asynccontextmanager
    async def stream(self, request, call):
        self._note(request, call)
        async with aclosing(self._batches(request, call)) as batches:
            try:
                yield batches
            finally:
                self.left.append(request.model)

    async def _batches(self, request, call):
        error = self.failures.get(request.model)
        if error and not self.after_batches:
            raise error
        call.progress.first_event_s = FIRST_S
        yield [event(started=service.Started(model=request.model))]
        if error:
            raise error
        yield [event(delta=service.Delta(text="Hi")), event(completed=service.Completed(usage=usage()))]

    def _note(self, request, call):
        self.asked.append(request)
        self.progress_models.append(call.progress.model)


class Unopened(FakeChat):
    """A provider whose stream fails as it is opened, before there are batches at all."""

    @asynccontextmanager
    async def stream(self, request, call):
        self._note(request, call)
        if error := self.failures.get(request.model):
            raise error
        async with aclosing(self._batches(request, call)) as batches:
            yield batches


def event(**what):
    return service.StreamCompleteResponse(**what)


def usage():
    return chat.Usage(prompt_tokens=1000, completion_tokens=10, total_tokens=1010)


def price_of(model):
    if model != PRICED:
        return None
    return models.Pricing(input_usd_per_million_tokens=0.5, output_usd_per_million_tokens=2.0)


def router(fake):
    return RoutingChat(fake, price=price_of, clock=lambda: END_S)


def call():
    return Call(
        id="request-1",
        method="/s/M",
        received_s=RECEIVED_S,
        deadline_s=2000.0,
        deadline_reason=Reason.CALL_TIMEOUT,
        upstream_key=None,
    )


def request(model="first", *fallbacks):
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text="Hello")])
    return service.CompleteRequest(
        model=model, messages=[message], fallback_models=fallbacks, temperature=0.5
    )


def failing(reason, *names):
    return {name: ServiceError(reason, f"no {name}") for name in names}


async def streamed(fake, asked, of):
    """What a stream brought, and the error that it ended with."""
    events = []
    try:
        async with router(fake).stream(asked, of) as batches:
            async for batch in batches:
                events.extend(batch)
    except ServiceError as error:
        return events, error
    return events, None


def names(fake):
    return [request.model for request in fake.asked]


async def test_the_model_asked_for_is_asked():
    """Without trouble nothing is tried but the first."""
    fake, of = FakeChat(), call()

    answer = await router(fake).complete(request("first", "second"), of)

    assert (["first"], "first", "first") == (names(fake), answer.model, of.progress.model)


def test_what_falls_back_is_about_the_model_or_its_load():
    """Not callable, retired, rate limited, overloaded: nothing else may be asked twice."""
    expected = {
        Reason.MODEL_NOT_FOUND,
        Reason.RATE_LIMITED,
        Reason.RATE_LIMITED_REQUESTS,
        Reason.RATE_LIMITED_TOKENS,
        Reason.UPSTREAM_OVERLOADED,
    }
    assert expected == FALLS_BACK


@pytest.mark.parametrize("reason", sorted(FALLS_BACK))
async def test_a_model_that_cannot_be_called_gives_way_to_the_next(reason):
    """In the order given, whole answers and streams alike, until one answers."""
    for fake in (
        FakeChat(failing(reason, "first", "second")),
        Unopened(failing(reason, "first", "second")),
    ):
        of = call()
        events, error = await streamed(fake, request("first", "second", "third", "fourth"), of)

        assert (["first", "second", "third"], None) == (names(fake), error)
        assert ("third", "third") == (events[0].started.model, of.progress.model)

    fake, of = FakeChat(failing(reason, "first", "second")), call()
    answer = await router(fake).complete(request("first", "second", "third", "fourth"), of)
    assert (["first", "second", "third"], "third", "third") == (names(fake), answer.model, of.progress.model)


@pytest.mark.parametrize("reason", sorted(set(Reason) - FALLS_BACK))
async def test_any_other_failure_is_final(reason):
    """A bad request is bad for the next model too, and a time-out may have been billed."""
    whole, stream = FakeChat(failing(reason, "first")), FakeChat(failing(reason, "first"))
    with pytest.raises(ServiceError) as caught:
        await router(whole).complete(request("first", "second"), call())
    events, error = await streamed(stream, request("first", "second"), call())

    assert (reason, reason) == (caught.value.reason, error.reason)
    assert (["first"], ["first"], []) == (names(whole), names(stream), events)


async def test_when_all_fail_the_last_failure_is_told():
    """It belongs to the model that the call's progress names."""
    reason = Reason.UPSTREAM_OVERLOADED
    whole, of = FakeChat(failing(reason, "first", "second")), call()
    with pytest.raises(ServiceError, match="no second"):
        await router(whole).complete(request("first", "second"), of)
    events, error = await streamed(
        FakeChat(failing(reason, "first", "second")), request("first", "second"), call()
    )

    assert ("second", [], "no second") == (of.progress.model, events, error.message)


async def test_a_failure_without_fallbacks_is_told_as_it_is():
    """No fallback asked for, none tried."""
    fake = FakeChat(failing(Reason.RATE_LIMITED, "first"))

    _, error = await streamed(fake, request("first"), call())

    assert (["first"], Reason.RATE_LIMITED) == (names(fake), error.reason)


async def test_after_the_first_batch_nothing_falls_back():
    """What the caller has seen cannot be taken back: two answers would be glued together."""
    fake = FakeChat(failing(Reason.UPSTREAM_OVERLOADED, "first"), after_batches=1)

    events, error = await streamed(fake, request("first", "second"), call())

    assert (["first"], Reason.UPSTREAM_OVERLOADED) == (names(fake), error.reason)
    assert ["first"] == [event.started.model for event in events]


async def test_progress_names_the_model_while_it_is_asked():
    """A failure in the middle is told of the model that failed."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first", "second"))

    await router(fake).complete(request("first", "second", "third"), call())

    assert ["first", "second", "third"] == fake.progress_models


async def test_a_fallback_asks_the_same_question():
    """Only the model and the fallbacks still left differ; the caller's own message is as it was."""
    fake, asked = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first")), request("first", "second")

    await router(fake).complete(asked, call())

    expected = request("second")
    assert [asked, expected] == fake.asked
    assert "first" == asked.model


async def test_a_stream_that_gave_way_is_left():
    """The upstream of every model tried is released, the last at the end."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first"))

    async with router(fake).stream(request("first", "second"), call()) as batches:
        assert ["first"] == fake.left
        await anext(batches)

    assert ["first", "second"] == fake.left


async def test_a_stream_that_is_left_early_releases_its_upstream():
    """A caller that goes after one batch ends the provider's stream."""
    fake = FakeChat()

    async with router(fake).stream(request(), call()) as batches:
        await anext(batches)

    assert ["first"] == fake.left


async def test_a_whole_answer_tells_its_cost_and_its_times():
    """1,000 x 500 and 10 x 2,000 nano-USD; milliseconds since the call came in. A whole answer has no
    first token, even where it was read as a stream.
    """
    answer = await router(FakeChat()).complete(request(PRICED), call())

    assert 520_000 == answer.usage.cost_nano_usd
    assert (False, 2500) == (
        answer.usage.timings.HasField("first_token_ms"),
        answer.usage.timings.total_ms,
    )


async def test_a_stream_tells_them_at_its_end():
    """The same cost in `completed`, and the time to the first token."""
    events, _ = await streamed(FakeChat(), request(PRICED), call())

    told = events[-1].completed.usage
    assert (520_000, 250, 2500) == (
        told.cost_nano_usd,
        told.timings.first_token_ms,
        told.timings.total_ms,
    )


async def test_the_cost_is_that_of_the_model_that_served():
    """A fallback costs what the fallback costs."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first"))

    answer = await router(fake).complete(request("first", PRICED), call())

    assert 520_000 == answer.usage.cost_nano_usd


async def test_a_model_without_a_price_has_no_cost():
    """Unknown is not nothing."""
    answer = await router(FakeChat()).complete(request("unpriced"), call())
    events, _ = await streamed(FakeChat(), request("unpriced"), call())

    assert not answer.usage.HasField("cost_nano_usd")
    assert not events[-1].completed.usage.HasField("cost_nano_usd")


NAMES = ModelAliases(
    aliases={"fast": PRICED, "spare": "second", "old/id": "new/id"}, replacements={"retired/id": PRICED}
)
LED_ON = ModelAliases(aliases={"fast": "retired/id"}, replacements={"retired/id": PRICED})


def naming(fake, unavailable=None):
    return RoutingChat(fake, price=price_of, clock=lambda: END_S, names=NAMES, unavailable=unavailable)


async def both(fake, asked, of):
    """The models asked by a whole answer and by a stream, what served, what it cost, what was remarked."""
    whole = await naming(fake).complete(asked, of)
    events = []
    async with naming(fake).stream(asked, of) as batches:
        async for batch in batches:
            events.extend(batch)
    completed = events[-1].completed
    assert list(whole.warnings) == list(completed.warnings)
    assert whole.usage.cost_nano_usd == completed.usage.cost_nano_usd
    assert whole.model == events[0].started.model
    return whole, [warning.message for warning in whole.warnings]


async def test_an_alias_asks_for_the_model_that_it_stands_for():
    """The answer names the model and says so; the call knows both names; the cost is the model's."""
    fake, of, asked = FakeChat(), call(), request("fast")

    whole, remarks = await both(fake, asked, of)

    assert ([PRICED, PRICED], PRICED) == (names(fake), whole.model)
    assert ["fast is an alias of this service: priced/model was asked."] == remarks
    assert ("fast", PRICED) == (of.progress.model_asked, of.progress.model)
    assert 520_000 == whole.usage.cost_nano_usd
    assert "fast" == asked.model


async def test_a_fallback_may_be_an_alias():
    """It is remarked where it served, and only there."""
    fake = FakeChat(failing(Reason.UPSTREAM_OVERLOADED, "first"))

    whole, remarks = await both(fake, request("first", "spare", "fast"), call())

    assert (["first", "second"] * 2, "second") == (names(fake), whole.model)
    assert ["spare is an alias of this service: second was asked."] == remarks
    assert [["second", PRICED], [PRICED]] == [list(asked.fallback_models) for asked in fake.asked[:2]]


async def test_an_answer_of_the_model_that_was_asked_for_has_no_remark():
    """Nothing was put in its place; a model asked for by its own name has but one."""
    fake, of = FakeChat(), call()

    _, remarks = await both(fake, request("first", "fast"), of)

    assert ([], "first") == (remarks, of.progress.model_asked)


async def test_a_refused_model_gives_way_to_the_successor_that_the_provider_names():
    """The provider is asked first, for it may serve the model after all."""
    fake, of = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id")), call()

    whole, remarks = await both(fake, request("retired/id"), of)

    assert ((["retired/id", PRICED] * 2), PRICED) == (names(fake), whole.model)
    assert ["The provider refused retired/id: priced/model, its successor there, was asked."] == remarks
    assert ("retired/id", PRICED) == (of.progress.model_asked, of.progress.model)
    served = FakeChat()
    assert (await both(served, request("retired/id"), call()))[1] == []


@pytest.mark.parametrize("reason", sorted(FALLS_BACK - {Reason.MODEL_NOT_FOUND}))
async def test_a_busy_model_does_not_give_way_to_its_successor(reason):
    """Only who refuses the model itself says that it is gone."""
    fake = FakeChat(failing(reason, "retired/id"))

    with pytest.raises(ServiceError, match="no retired/id"):
        await naming(fake).complete(request("retired/id"), call())

    assert ["retired/id"] == names(fake)


async def test_who_names_fallbacks_gets_those_and_no_successor():
    """The caller has said what it wants instead."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id", "second"))

    with pytest.raises(ServiceError, match="no second"):
        await naming(fake).complete(request("retired/id", "second"), call())

    assert ["retired/id", "second"] == names(fake)


async def test_an_alias_of_a_model_that_gave_way_says_both():
    """Or the caller would read of a model that it never named."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id"))

    answer = await RoutingChat(fake, price=price_of, clock=lambda: END_S, names=LED_ON).complete(
        request("fast"), call()
    )

    assert [
        "fast is an alias of this service: retired/id was asked.",
        "The provider refused retired/id: priced/model, its successor there, was asked.",
    ] == [warning.message for warning in answer.warnings]


async def test_a_fallback_has_no_successor():
    """Also where it is the first model once more: what the caller named is all that is asked."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id"))

    with pytest.raises(ServiceError, match="no retired/id"):
        await naming(fake).complete(request("retired/id", "retired/id"), call())

    assert ["retired/id", "retired/id"] == names(fake)


async def test_a_successor_that_is_refused_too_is_the_failure_that_is_told():
    """One step, no chain."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id", PRICED))

    with pytest.raises(ServiceError, match=f"no {PRICED}"):
        await naming(fake).complete(request("retired/id"), call())


async def test_what_the_provider_refuses_is_noted_until_it_serves():
    """For the key that was used, whole answers and streams alike; nothing is refused for it."""
    unavailable = UnavailableModels(clock=lambda: END_S)
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first"))
    await naming(fake, unavailable).complete(request("first", "spare"), call())
    assert {"first"} == unavailable.of("")

    fake.failures.clear()
    async with naming(fake, unavailable).stream(request("first"), call()) as batches:
        await anext(batches)
    assert set() == unavailable.of("")

    fake.failures.update(failing(Reason.MODEL_NOT_FOUND, "first"))
    async with naming(fake, unavailable).stream(request("first", "second"), call()) as batches:
        await anext(batches)
    assert {"first"} == unavailable.of("")


@pytest.mark.parametrize("reason", sorted(FALLS_BACK - {Reason.MODEL_NOT_FOUND}))
async def test_a_model_that_is_busy_is_not_noted(reason):
    """It can be called, later."""
    unavailable = UnavailableModels(clock=lambda: END_S)

    with pytest.raises(ServiceError):
        await naming(FakeChat(failing(reason, "first")), unavailable).complete(request("first"), call())

    assert set() == unavailable.of("")


async def test_a_provider_that_redirects_is_paid_for_what_served():
    """It answers with another model's name: that one's price counts, where it is known."""

    class Redirecting(FakeChat):
        async def complete(self, request, call):
            answer = await super().complete(request, call)
            answer.model = PRICED
            return answer

        async def _batches(self, request, call):
            async for batch in super()._batches(request, call):
                if batch[0].HasField("started"):
                    batch[0].started.model = PRICED
                yield batch

    fake = Redirecting()
    whole, _ = await both(fake, request("old"), call())
    assert ("old", 520_000) == (fake.asked[0].model, whole.usage.cost_nano_usd)


async def test_tokens_from_the_providers_cache_cost_their_own_rate():
    """Where the provider counts them and the price is known: whole answers and streams."""

    class Cached(FakeChat):
        async def complete(self, request, call):
            answer = await super().complete(request, call)
            answer.usage.cached_tokens = 600
            return answer

        async def _batches(self, request, call):
            async for batch in super()._batches(request, call):
                if batch[-1].HasField("completed"):
                    batch[-1].completed.usage.cached_tokens = 600
                yield batch

    def price(_):
        return models.Pricing(
            input_usd_per_million_tokens=1.0,
            cached_input_usd_per_million_tokens=0.1,
            output_usd_per_million_tokens=2.0,
        )

    priced = RoutingChat(Cached(), price=price, clock=lambda: END_S)
    whole = await priced.complete(request(), call())
    async with priced.stream(request(), call()) as batches:
        *_, last = [batch async for batch in batches]

    expected = 400 * 1000 + 600 * 100 + 10 * 2000
    assert (expected, expected) == (
        whole.usage.cost_nano_usd,
        last[-1].completed.usage.cost_nano_usd,
    )
