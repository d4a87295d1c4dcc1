"""Calls of both clients against a scripted service on loopback."""

import asyncio

import grpc
import pytest

from support.scripted_service import (
    MODEL,
    Failure,
    ScriptedService,
    answer,
    delta,
    ending,
    serving,
    started,
    stream_of,
)
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import (
    CallCancelledError,
    CallInfo,
    DeadlineExceededError,
    IncompleteAnswerError,
    InvalidRequestError,
    ModelNotFoundError,
    RateLimitedError,
    UnavailableError,
    connect,
    connect_async,
    text_of,
    user,
)

NO_RETRY = -1


async def test_complete_returns_the_contracts_own_answer():
    """What the service sent is what the caller holds."""
    async with (
        serving(ScriptedService(Complete=[[answer("Hello.")]])) as target,
        connect_async(target) as client,
    ):
        assert answer("Hello.") == await client.complete(MODEL, "Hi")


async def test_a_string_is_a_turn_of_the_user_and_fields_go_out_as_they_are():
    """The request on the wire is the one that the arguments say."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]])
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi", temperature=0.0, max_tokens=7, stop=["END"])
    expected = service.CompleteRequest(
        model=MODEL, messages=[user("Hi")], temperature=0.0, max_tokens=7, stop=["END"]
    )
    assert expected == scripted.seen[0].request


async def test_a_ready_request_is_taken_as_it_is():
    """Whoever has a CompleteRequest need not take it apart."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]])
    request = service.CompleteRequest(model=MODEL, messages=[user("Hi")], seed=7)
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(request)
    assert request == scripted.seen[0].request


async def test_keys_and_the_request_id_travel_as_metadata():
    """The names are those of the contract."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]])
    async with (
        serving(scripted) as target,
        connect_async(target, key="tc-key\n", upstream_key="upstream") as client,
    ):
        await client.complete(MODEL, "Hi", request_id="mine-1")
    metadata = scripted.seen[0].metadata
    assert ("Bearer tc-key", "upstream", "mine-1") == (
        metadata["authorization"],
        metadata["x-together-api-key"],
        metadata["x-request-id"],
    )


async def test_a_call_may_send_more_metadata():
    """A trace goes on through every kind of call."""
    scripted = ScriptedService(
        Complete=[[answer("Hello.")]],
        StreamComplete=[stream_of("Hello.")],
        ListModels=[[service.ListModelsResponse()]],
    )
    more = (("traceparent", "00-1-2-01"),)
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi", metadata=more)
        async with client.stream(MODEL, "Hi", metadata=more) as stream:
            await stream.finish()
        assert [] == [model async for model in client.models(metadata=more)]
    assert ["00-1-2-01"] * 3 == [seen.metadata["traceparent"] for seen in scripted.seen]


async def test_a_call_without_an_id_gets_one_of_its_own():
    """Two calls can be told apart in the service's records."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]])
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi")
        await client.complete(MODEL, "Hi")
    assert 2 == len({seen.metadata["x-request-id"] for seen in scripted.seen})


async def test_trailers_are_readable_after_a_success():
    """Ids, who answered and rate limits come beside the answer."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]])
    scripted.trailers = (
        ("x-upstream", "together"),
        ("x-upstream-request-id", "up-1"),
        ("x-ratelimit-remaining", "9"),
    )
    infos: list[CallInfo] = []
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi", request_id="mine-1", on_info=infos.append)
    (info,) = infos
    assert ("mine-1", "up-1", "together", {"x-ratelimit-remaining": "9"}) == (
        info.request_id,
        info.upstream_request_id,
        info.upstream,
        info.rate_limits,
    )


async def test_a_failure_is_built_from_its_details():
    """Class, reason, wait, facts and id come from the details, not from the text."""
    failure = Failure(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason="RATE_LIMITED_TOKENS",
        message="slow down",
        pushback_ms=NO_RETRY,
        retry_after_s=3,
        retryable=True,
        metadata={"upstreamHttpStatus": "429"},
    )
    async with serving(ScriptedService(Complete=[[failure]])) as target, connect_async(target) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.complete(MODEL, "Hi", request_id="mine-1")
    error = caught.value
    assert ("RATE_LIMITED_TOKENS", "slow down", 3.0, True, {"upstreamHttpStatus": "429"}, "mine-1") == (
        error.reason,
        error.message,
        error.retry_after_s,
        error.retryable,
        error.metadata,
        error.request_id,
    )


async def test_a_failure_without_rich_details_is_built_from_the_plain_trailers():
    """A proxy that drops binary trailers leaves the reason readable."""
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", rich=False)
    async with serving(ScriptedService(Complete=[[failure]])) as target, connect_async(target) as client:
        with pytest.raises(ModelNotFoundError) as caught:
            await client.complete("nobody/nothing", "Hi")
    assert ("MODEL_NOT_FOUND", False) == (caught.value.reason, caught.value.retryable)


async def test_violations_name_the_fields():
    """All that is wrong with a request comes at once."""
    failure = Failure(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_REQUEST",
        violations=(("messages", "at least one"), ("top_p", "0 to 1")),
    )
    async with serving(ScriptedService(Complete=[[failure]])) as target, connect_async(target) as client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.complete(MODEL, [])
    assert [
        ("messages", "at least one"),
        ("top_p", "0 to 1"),
    ] == [(violation.field, violation.description) for violation in caught.value.violations]


async def test_the_deadline_of_a_call_reaches_the_service():
    """The service sees how long it has."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]])
    async with serving(scripted) as target, connect_async(target, timeout_s=90) as client:
        await client.complete(MODEL, "Hi")
        await client.complete(MODEL, "Hi", timeout_s=30)
    assert [True, True] == [
        80 < scripted.seen[0].seconds_left <= 91,
        20 < scripted.seen[1].seconds_left <= 31,
    ]


async def test_without_a_deadline_the_service_config_sets_one():
    """Nobody waits for ever: 600 s for an answer, 30 s for a page of models."""
    scripted = ScriptedService(Complete=[[answer("Hello.")]], ListModels=[[service.ListModelsResponse()]])
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi")
        _ = [model async for model in client.models()]
    assert [True, True] == [
        590 < scripted.seen[0].seconds_left <= 601,
        25 < scripted.seen[1].seconds_left <= 31,
    ]


async def test_a_deadline_that_passes_is_its_own_error():
    """Even when the service cannot say it any more, the id that was sent is known."""
    scripted = ScriptedService(Complete=[[asyncio.Event(), answer("too late")]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.complete(MODEL, "Hi", timeout_s=0.2, request_id="mine-1")
    assert "mine-1" == caught.value.request_id


async def test_a_stream_gives_its_text_and_then_the_same_answer_as_complete():
    """Streaming changes when the words come, not what is said."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hel", "lo.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        texts = [text async for text in stream.text()]
    assert (["Hel", "lo."], answer("Hello."), True) == (texts, stream.response, stream.whole)


async def test_events_of_a_stream_come_as_they_were_sent():
    """Whoever wants more than the text gets every event."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hello.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        events = [event async for event in stream.events()]
    assert list(stream_of("Hello.")) == events


async def test_finish_reads_what_is_left():
    """The shortest way to a whole answer that was streamed."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hel", "lo.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        assert answer("Hello.") == await stream.finish()


async def test_a_stream_that_fails_keeps_what_had_come():
    """The partial answer stands in the exception."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="UPSTREAM_TRUNCATED", pushback_ms=NO_RETRY)
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), failure]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(UnavailableError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert ("UPSTREAM_TRUNCATED", "Hel") == (caught.value.reason, text_of(caught.value.partial))


async def test_a_stream_that_fails_before_its_first_event_has_no_partial():
    """None says that nothing came, which an empty answer would not."""
    failure = Failure(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_REQUEST")
    async with (
        serving(ScriptedService(StreamComplete=[[failure]])) as target,
        connect_async(target) as client,
    ):
        with pytest.raises(InvalidRequestError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert caught.value.partial is None


async def test_an_ok_without_the_end_of_the_answer_is_an_error():
    """A cut-off answer never looks whole."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel")]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(IncompleteAnswerError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert ("STREAM_INCOMPLETE", "Hel") == (caught.value.reason, text_of(caught.value.partial))


async def test_leaving_a_stream_early_cancels_the_call():
    """The service learns at once that nobody reads on."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    async with serving(scripted) as target, connect_async(target) as client:
        async with client.stream(MODEL, "Hi") as stream:
            async for _ in stream.text():
                break
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()
    assert "Hel" == text_of(stream.response)
    assert not stream.whole


async def test_a_stream_that_is_cancelled_tells_its_reader():
    """`cancel()` is no task's cancellation: the reader gets an error it can handle."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        await anext(stream.text())
        stream.cancel()
        with pytest.raises(CallCancelledError) as caught:
            await stream.finish()
    assert "Hel" == text_of(caught.value.partial)


async def test_a_cancelled_task_stays_cancelled():
    """asyncio's cancellation passes through the stream and takes the call with it."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    reading = asyncio.Event()

    async def read(client):
        async with client.stream(MODEL, "Hi") as stream:
            async for _ in stream.text():
                reading.set()

    async with serving(scripted) as target, connect_async(target) as client:
        task = asyncio.create_task(read(client))
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()
    assert task.cancelled()


async def test_a_cancelled_task_takes_its_unary_call_with_it():
    """The service stops working for a caller that is gone."""
    scripted = ScriptedService(Complete=[[asyncio.Event(), answer("too late")]])
    async with serving(scripted) as target, connect_async(target) as client:
        task = asyncio.create_task(client.complete(MODEL, "Hi"))
        await scripted.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()


async def test_models_come_from_all_pages():
    """The token of a page asks for the next one, with the same filters."""
    pages = [
        [
            service.ListModelsResponse(
                models=[models.Model(id="a"), models.Model(id="b")], next_page_token="t"
            )
        ],
        [service.ListModelsResponse(models=[models.Model(id="c")])],
    ]
    scripted = ScriptedService(ListModels=pages)
    async with serving(scripted) as target, connect_async(target) as client:
        ids = [model.id async for model in client.models(type="chat", page_size=2)]
    expected = [
        service.ListModelsRequest(type="chat", page_size=2),
        service.ListModelsRequest(type="chat", page_size=2, page_token="t"),
    ]
    assert (["a", "b", "c"], expected) == (ids, [seen.request for seen in scripted.seen])


async def test_a_page_of_models_is_asked_for_by_its_token():
    """For whoever hands pages on, one by one."""
    page = service.ListModelsResponse(models=[models.Model(id="a")], next_page_token="3")
    scripted = ScriptedService(ListModels=[[page]])
    async with serving(scripted) as target, connect_async(target) as client:
        assert page == await client.model_page("2", request_id="mine-1", page_size=1)
    (seen,) = scripted.seen
    assert service.ListModelsRequest(page_token="2", page_size=1) == seen.request
    assert "mine-1" == seen.metadata["x-request-id"]


async def test_the_blocking_client_does_all_of_it_too():
    """Derived, not written: one walk through every method shows that it lives."""
    scripted = ScriptedService(
        Complete=[[answer("Hello.")]],
        StreamComplete=[stream_of("Hel", "lo.")],
        ListModels=[[service.ListModelsResponse(models=[models.Model(id="a")])]],
    )

    def walk(target):
        infos: list[CallInfo] = []
        with connect(target) as client:
            whole = client.complete(MODEL, "Hi", on_info=infos.append, request_id="mine-1")
            with client.stream(MODEL, "Hi", on_info=infos.append, request_id="mine-2") as stream:
                texts = list(stream.text())
            ids = [model.id for model in client.models()]
        return whole, texts, stream.response, ids, [info.request_id for info in infos]

    async with serving(scripted) as target:
        walked = await asyncio.to_thread(walk, target)
    assert (answer("Hello."), ["Hel", "lo."], answer("Hello."), ["a"], ["mine-1", "mine-2"]) == walked


async def test_the_blocking_client_raises_the_same_errors():
    """Unary, in the middle of a stream, and past its deadline."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="UPSTREAM_TRUNCATED", pushback_ms=NO_RETRY)
    scripted = ScriptedService(
        Complete=[[failure], [asyncio.Event()]], StreamComplete=[[started(), delta("Hel"), failure]]
    )

    def fail(target):
        with connect(target) as client:
            with pytest.raises(UnavailableError) as unary:
                client.complete(MODEL, "Hi")
            with pytest.raises(DeadlineExceededError):
                client.complete(MODEL, "Hi", timeout_s=0.2)
            with pytest.raises(UnavailableError) as streamed, client.stream(MODEL, "Hi") as stream:
                stream.finish()
        return unary.value.reason, text_of(streamed.value.partial)

    async with serving(scripted) as target:
        assert ("UPSTREAM_TRUNCATED", "Hel") == await asyncio.to_thread(fail, target)


async def test_leaving_a_blocking_stream_early_cancels_the_call():
    """A `break` is enough, as on asyncio."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event(), *ending()]])

    def leave(target):
        with connect(target) as client, client.stream(MODEL, "Hi") as stream:
            for _ in stream.text():
                break
            return text_of(stream.response)

    async with serving(scripted) as target:
        assert "Hel" == await asyncio.to_thread(leave, target)
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()


async def test_another_thread_can_cancel_a_blocking_stream():
    """The reader gets an error with what had come."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    loop = asyncio.get_running_loop()
    async with serving(scripted) as target:
        begun: asyncio.Future = loop.create_future()

        def read():
            with connect(target) as client, client.stream(MODEL, "Hi") as stream:
                next(stream.text())
                loop.call_soon_threadsafe(begun.set_result, stream)
                with pytest.raises(CallCancelledError) as caught:
                    stream.finish()
                return text_of(caught.value.partial)

        reader = asyncio.create_task(asyncio.to_thread(read))
        (await begun).cancel()
        assert "Hel" == await reader


async def test_closing_a_client_ends_what_is_under_way():
    """No call outlives its client."""
    scripted = ScriptedService(Complete=[[asyncio.Event()]])
    async with serving(scripted) as target:
        async with connect_async(target) as client:
            task = asyncio.create_task(client.complete(MODEL, "Hi"))
            await scripted.waiting.wait()
        with pytest.raises((CallCancelledError, asyncio.CancelledError)):
            await task
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()
