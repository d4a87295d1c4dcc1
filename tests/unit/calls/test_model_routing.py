from contextlib import aclosing

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_server.calls.model_routing import RoutingChat
from togetherchat_server.domain.call import Call
from togetherchat_server.domain.reasons import FALLS_BACK, Reason, ServiceError
from togetherchat_server.models.aliases import ModelAliases
from togetherchat_server.models.unavailable import UnavailableModels
from togetherchat_server.providers.together.opened_stream import OpenedStream

RECEIVED_S = 1000.0
FIRST_S, END_S = 1000.25, 1002.5
PRICED = "priced/model"


class FakeChat:
    """Fails for the given models. A stream fails before its first batch, or after one with `after_batches`."""

    def __init__(self, failures=None, *, after_batches=0):
        self.failures = failures or {}
        self.after_batches = after_batches
        self.requests = []
        self.progress_models = []
        self.closed = []

    async def complete(self, request, call):
        self._record(request, call)
        if error := self.failures.get(request.model):
            raise error
        call.progress.first_event_s = FIRST_S
        return service.CompleteResponse(model=request.model, usage=usage())

    async def stream(self, request, call):
        self._record(request, call)
        return await OpenedStream.of(self._batches(request, call))

    async def _batches(self, request, call):
        try:
            error = self.failures.get(request.model)
            if error and not self.after_batches:
                raise error
            call.progress.first_event_s = FIRST_S
            yield [event(started=service.Started(model=request.model))]
            if error:
                raise error
            yield [event(delta=service.Delta(text="Hi")), event(completed=service.Completed(usage=usage()))]
        finally:
            self.closed.append(request.model)

    def _record(self, request, call):
        self.requests.append(request)
        self.progress_models.append(call.progress.model)


class FailsToOpen(FakeChat):
    """A provider whose stream fails while it is opened, before there are batches."""

    async def stream(self, request, call):
        self._record(request, call)
        if error := self.failures.get(request.model):
            raise error
        return await OpenedStream.of(self._batches(request, call))


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


async def streamed(fake, requested, of):
    """Return the events of a stream, and the error that ended it."""
    events = []
    try:
        async with aclosing(await router(fake).stream(requested, of)) as batches:
            async for batch in batches:
                events.extend(batch)
    except ServiceError as error:
        return events, error
    return events, None


def names(fake):
    return [request.model for request in fake.requests]


async def test_the_requested_model_is_used():
    """If it succeeds, no other model is tried."""
    fake, of = FakeChat(), call()

    response = await router(fake).complete(request("first", "second"), of)

    assert (["first"], "first", "first") == (names(fake), response.model, of.progress.model)


def test_only_failures_of_the_model_or_its_load_fall_back():
    """The model is not callable, retired, rate limited or overloaded."""
    expected = {
        Reason.MODEL_NOT_FOUND,
        Reason.RATE_LIMITED,
        Reason.RATE_LIMITED_REQUESTS,
        Reason.RATE_LIMITED_TOKENS,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_ENDPOINT_NOT_RUNNING,
    }
    assert expected == FALLS_BACK


@pytest.mark.parametrize("reason", sorted(FALLS_BACK))
async def test_the_next_model_is_tried_until_one_succeeds(reason):
    """Fallbacks are tried in the order given, for unary calls and streams alike."""
    for fake in (
        FakeChat(failing(reason, "first", "second")),
        FailsToOpen(failing(reason, "first", "second")),
    ):
        of = call()
        events, error = await streamed(fake, request("first", "second", "third", "fourth"), of)

        assert (["first", "second", "third"], None) == (names(fake), error)
        assert ("third", "third") == (events[0].started.model, of.progress.model)

    fake, of = FakeChat(failing(reason, "first", "second")), call()
    response = await router(fake).complete(request("first", "second", "third", "fourth"), of)
    assert (["first", "second", "third"], "third", "third") == (
        names(fake),
        response.model,
        of.progress.model,
    )


@pytest.mark.parametrize("reason", sorted(set(Reason) - FALLS_BACK))
async def test_any_other_failure_is_final(reason):
    """An invalid request is invalid for the next model too, and a timeout may have been billed."""
    unary, stream = FakeChat(failing(reason, "first")), FakeChat(failing(reason, "first"))
    with pytest.raises(ServiceError) as caught:
        await router(unary).complete(request("first", "second"), call())
    events, error = await streamed(stream, request("first", "second"), call())

    assert (reason, reason) == (caught.value.reason, error.reason)
    assert (["first"], ["first"], []) == (names(unary), names(stream), events)


async def test_if_all_models_fail_the_last_failure_is_raised():
    """The call's progress names the model that failed last."""
    reason = Reason.UPSTREAM_OVERLOADED
    unary, of = FakeChat(failing(reason, "first", "second")), call()
    with pytest.raises(ServiceError, match="no second"):
        await router(unary).complete(request("first", "second"), of)
    events, error = await streamed(
        FakeChat(failing(reason, "first", "second")), request("first", "second"), call()
    )

    assert ("second", [], "no second") == (of.progress.model, events, error.message)


async def test_without_fallbacks_the_failure_is_raised():
    """No other model is tried."""
    fake = FakeChat(failing(Reason.RATE_LIMITED, "first"))

    _, error = await streamed(fake, request("first"), call())

    assert (["first"], Reason.RATE_LIMITED) == (names(fake), error.reason)


async def test_after_the_first_batch_nothing_falls_back():
    """The caller has received output: it would get parts of two completions."""
    fake = FakeChat(failing(Reason.UPSTREAM_OVERLOADED, "first"), after_batches=1)

    events, error = await streamed(fake, request("first", "second"), call())

    assert (["first"], Reason.UPSTREAM_OVERLOADED) == (names(fake), error.reason)
    assert ["first"] == [event.started.model for event in events]


async def test_progress_names_the_model_of_the_attempt():
    """So a failure is reported with the model that failed."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first", "second"))

    await router(fake).complete(request("first", "second", "third"), call())

    assert ["first", "second", "third"] == fake.progress_models


async def test_a_fallback_gets_the_same_request():
    """Only the model and the remaining fallbacks differ; the caller's own message is unchanged."""
    fake, requested = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first")), request("first", "second")

    await router(fake).complete(requested, call())

    expected = request("second")
    assert [requested, expected] == fake.requests
    assert "first" == requested.model


async def test_the_stream_of_every_tried_model_is_closed():
    """A failed one is closed at once, the last one at the end."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first"))

    async with aclosing(await router(fake).stream(request("first", "second"), call())) as batches:
        assert ["first"] == fake.closed
        await anext(batches)

    assert ["first", "second"] == fake.closed


async def test_a_stream_that_ends_early_closes_its_upstream():
    """A caller that leaves after one batch ends the provider's stream."""
    fake = FakeChat()

    async with aclosing(await router(fake).stream(request(), call())) as batches:
        await anext(batches)

    assert ["first"] == fake.closed


async def test_a_unary_response_has_cost_and_timings():
    """The cost is 1,000 x 500 and 10 x 2,000 nano-USD; times count from the arrival of the call.

    A unary response has no first-token time, even if it was read as a stream.
    """
    response = await router(FakeChat()).complete(request(PRICED), call())

    assert 520_000 == response.usage.cost_nano_usd
    assert (True, 0, False, 2500) == (
        response.timings.HasField("queue_duration"),
        response.timings.queue_duration.ToMilliseconds(),
        response.timings.HasField("first_token_duration"),
        response.timings.total_duration.ToMilliseconds(),
    )


async def test_a_stream_has_cost_and_timings_at_its_end():
    """`completed` has the same cost, and the time to the first token."""
    events, _ = await streamed(FakeChat(), request(PRICED), call())

    completed = events[-1].completed
    assert (520_000, 250, 2500) == (
        completed.usage.cost_nano_usd,
        completed.timings.first_token_duration.ToMilliseconds(),
        completed.timings.total_duration.ToMilliseconds(),
    )


async def test_the_cost_is_that_of_the_model_that_served():
    """A fallback is charged at its own price."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first"))

    response = await router(fake).complete(request("first", PRICED), call())

    assert 520_000 == response.usage.cost_nano_usd


async def test_a_model_without_a_price_has_no_cost():
    """An unknown cost is not zero."""
    response = await router(FakeChat()).complete(request("unpriced"), call())
    events, _ = await streamed(FakeChat(), request("unpriced"), call())

    assert not response.usage.HasField("cost_nano_usd")
    assert not events[-1].completed.usage.HasField("cost_nano_usd")


NAMES = ModelAliases(
    aliases={"fast": PRICED, "spare": "second", "old/id": "new/id"}, replacements={"retired/id": PRICED}
)
CHAIN = ModelAliases(aliases={"fast": "retired/id"}, replacements={"retired/id": PRICED})


def with_names(fake, unavailable=None):
    return RoutingChat(fake, price=price_of, clock=lambda: END_S, names=NAMES, unavailable=unavailable)


async def both(fake, requested, of):
    """Run a unary call and a stream. Return the unary response and the warnings, which are the same."""
    unary = await with_names(fake).complete(requested, of)
    events = []
    async with aclosing(await with_names(fake).stream(requested, of)) as batches:
        async for batch in batches:
            events.extend(batch)
    completed = events[-1].completed
    assert list(unary.warnings) == list(completed.warnings)
    assert unary.usage.cost_nano_usd == completed.usage.cost_nano_usd
    assert unary.model == events[0].started.model
    return unary, [warning.message for warning in unary.warnings]


async def test_an_alias_is_replaced_by_its_model():
    """The response names the model and has a warning; progress has both names; the price is the model's."""
    fake, of, requested = FakeChat(), call(), request("fast")

    unary, warnings = await both(fake, requested, of)

    assert ([PRICED, PRICED], PRICED) == (names(fake), unary.model)
    assert ["fast is an alias of this service; priced/model was used."] == warnings
    assert ("fast", PRICED) == (of.progress.model_requested, of.progress.model)
    assert 520_000 == unary.usage.cost_nano_usd
    assert "fast" == requested.model


async def test_a_fallback_may_be_an_alias():
    """Its warning appears only if it served."""
    fake = FakeChat(failing(Reason.UPSTREAM_OVERLOADED, "first"))

    unary, warnings = await both(fake, request("first", "spare", "fast"), call())

    assert (["first", "second"] * 2, "second") == (names(fake), unary.model)
    assert ["spare is an alias of this service; second was used."] == warnings
    assert [["second", PRICED], [PRICED]] == [list(sent.fallback_models) for sent in fake.requests[:2]]


async def test_a_response_of_the_requested_model_has_no_warning():
    """No other model was used, and the request named the model by its id."""
    fake, of = FakeChat(), call()

    _, warnings = await both(fake, request("first", "fast"), of)

    assert ([], "first") == (warnings, of.progress.model_requested)


async def test_the_successor_of_a_rejected_model_is_tried():
    """The requested model is tried first, since the provider may still serve it."""
    fake, of = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id")), call()

    unary, warnings = await both(fake, request("retired/id"), of)

    assert ((["retired/id", PRICED] * 2), PRICED) == (names(fake), unary.model)
    assert ["The provider rejected retired/id; its successor priced/model was used instead."] == warnings
    assert ("retired/id", PRICED) == (of.progress.model_requested, of.progress.model)
    served = FakeChat()
    assert (await both(served, request("retired/id"), call()))[1] == []


@pytest.mark.parametrize("reason", sorted(FALLS_BACK - {Reason.MODEL_NOT_FOUND}))
async def test_the_successor_of_a_busy_model_is_not_tried(reason):
    """Only MODEL_NOT_FOUND means that the model is gone."""
    fake = FakeChat(failing(reason, "retired/id"))

    with pytest.raises(ServiceError, match="no retired/id"):
        await with_names(fake).complete(request("retired/id"), call())

    assert ["retired/id"] == names(fake)


async def test_a_request_with_fallbacks_gets_no_successor():
    """The caller has chosen the models to use instead."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id", "second"))

    with pytest.raises(ServiceError, match="no second"):
        await with_names(fake).complete(request("retired/id", "second"), call())

    assert ["retired/id", "second"] == names(fake)


async def test_an_alias_of_a_replaced_model_has_both_warnings():
    """Otherwise the warning would name a model that the caller does not know."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id"))

    response = await RoutingChat(fake, price=price_of, clock=lambda: END_S, names=CHAIN).complete(
        request("fast"), call()
    )

    assert [
        "fast is an alias of this service; retired/id was used.",
        "The provider rejected retired/id; its successor priced/model was used instead.",
    ] == [warning.message for warning in response.warnings]


async def test_a_fallback_has_no_successor():
    """This holds for a fallback that repeats the first model: only the named models are tried."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id"))

    with pytest.raises(ServiceError, match="no retired/id"):
        await with_names(fake).complete(request("retired/id", "retired/id"), call())

    assert ["retired/id", "retired/id"] == names(fake)


async def test_the_failure_of_a_successor_is_raised():
    """A successor has no successor of its own."""
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "retired/id", PRICED))

    with pytest.raises(ServiceError, match=f"no {PRICED}"):
        await with_names(fake).complete(request("retired/id"), call())


async def test_a_rejected_model_is_recorded_until_it_is_served():
    """Unary calls and streams record the model for the key that was used, and still try it."""
    unavailable = UnavailableModels(clock=lambda: END_S)
    fake = FakeChat(failing(Reason.MODEL_NOT_FOUND, "first"))
    await with_names(fake, unavailable).complete(request("first", "spare"), call())
    assert {"first"} == unavailable.of("")

    fake.failures.clear()
    async with aclosing(await with_names(fake, unavailable).stream(request("first"), call())) as batches:
        await anext(batches)
    assert set() == unavailable.of("")

    fake.failures.update(failing(Reason.MODEL_NOT_FOUND, "first"))
    async with aclosing(
        await with_names(fake, unavailable).stream(request("first", "second"), call())
    ) as batches:
        await anext(batches)
    assert {"first"} == unavailable.of("")


@pytest.mark.parametrize("reason", sorted(FALLS_BACK - {Reason.MODEL_NOT_FOUND}))
async def test_a_busy_model_is_not_recorded_as_unavailable(reason):
    """A busy model can be called later."""
    unavailable = UnavailableModels(clock=lambda: END_S)

    with pytest.raises(ServiceError):
        await with_names(FakeChat(failing(reason, "first")), unavailable).complete(request("first"), call())

    assert set() == unavailable.of("")


async def test_the_price_is_that_of_the_model_redirected_to():
    """If the response names another model, its price applies, if it is known."""

    class Redirecting(FakeChat):
        async def complete(self, request, call):
            response = await super().complete(request, call)
            response.model = PRICED
            return response

        async def _batches(self, request, call):
            async for batch in super()._batches(request, call):
                if batch[0].HasField("started"):
                    batch[0].started.model = PRICED
                yield batch

    fake = Redirecting()
    unary, _ = await both(fake, request("old"), call())
    assert ("old", 520_000) == (fake.requests[0].model, unary.usage.cost_nano_usd)


async def test_tokens_from_the_providers_cache_cost_their_own_rate():
    """This applies if the provider counts them and the price is known."""

    class Cached(FakeChat):
        async def complete(self, request, call):
            response = await super().complete(request, call)
            response.usage.cached_tokens = 600
            return response

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
    unary = await priced.complete(request(), call())
    async with aclosing(await priced.stream(request(), call())) as batches:
        *_, last = [batch async for batch in batches]

    expected = 400 * 1000 + 600 * 100 + 10 * 2000
    assert (expected, expected) == (
        unary.usage.cost_nano_usd,
        last[-1].completed.usage.cost_nano_usd,
    )
