"""Tests of the calls of both clients, against a scripted service on loopback."""

import asyncio

import grpc
import pytest

from support.scripted_service import (
    MODEL,
    Failure,
    ScriptedService,
    delta,
    ending,
    response_of,
    serving,
    started,
    stream_of,
)
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models
from togetherchat_client import (
    CallCancelledError,
    CallInfo,
    DeadlineExceededError,
    IncompleteStreamError,
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


async def test_complete_returns_the_response_of_the_service():
    """The client does not change the response."""
    async with (
        serving(ScriptedService(Complete=[[response_of("Hello.")]])) as target,
        connect_async(target) as client,
    ):
        assert response_of("Hello.") == await client.complete(MODEL, "Hi")


async def test_a_string_is_a_user_message_and_fields_are_sent_unchanged():
    """The arguments become the fields of the request, an explicit zero included."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi", temperature=0.0, max_tokens=7, stop=["END"])
    expected = service.CompleteRequest(
        model=MODEL, messages=[user("Hi")], temperature=0.0, max_tokens=7, stop=["END"]
    )
    assert expected == scripted.seen[0].request


async def test_a_complete_request_is_sent_unchanged():
    """A CompleteRequest can be given in place of model, messages and fields."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    request = service.CompleteRequest(model=MODEL, messages=[user("Hi")], seed=7)
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(request)
    assert request == scripted.seen[0].request


async def test_keys_and_the_request_id_travel_as_metadata():
    """The names of the pairs are those of the contract."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
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


async def test_a_call_may_send_further_metadata():
    """Every method takes `metadata`, for example for a trace context."""
    scripted = ScriptedService(
        Complete=[[response_of("Hello.")]],
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


async def test_a_call_without_an_id_gets_a_generated_one():
    """Two calls have different ids in the service's logs."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi")
        await client.complete(MODEL, "Hi")
    assert 2 == len({seen.metadata["x-request-id"] for seen in scripted.seen})


async def test_on_info_gets_the_trailers_of_a_successful_call():
    """A CallInfo has the ids, the upstream and the rate limits."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
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


async def test_an_error_is_built_from_its_details():
    """Class, reason, delay, metadata and id come from the details, not from the message."""
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


async def test_an_error_without_binary_details_is_built_from_the_plain_trailers():
    """The reason is known behind a proxy that drops binary trailers."""
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", rich=False)
    async with serving(ScriptedService(Complete=[[failure]])) as target, connect_async(target) as client:
        with pytest.raises(ModelNotFoundError) as caught:
            await client.complete("nobody/nothing", "Hi")
    assert ("MODEL_NOT_FOUND", False) == (caught.value.reason, caught.value.retryable)


async def test_violations_name_the_fields():
    """An error has all violations of the request."""
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
    """The service sees the timeout of the client, or that of the call."""
    scripted = ScriptedService(Complete=[[response_of("Hello.")]])
    async with serving(scripted) as target, connect_async(target, timeout_s=90) as client:
        await client.complete(MODEL, "Hi")
        await client.complete(MODEL, "Hi", timeout_s=30)
    assert [True, True] == [
        80 < scripted.seen[0].seconds_left <= 91,
        20 < scripted.seen[1].seconds_left <= 31,
    ]


async def test_without_a_deadline_the_service_config_sets_one():
    """The defaults are 600 s for a completion and 30 s for a page of models."""
    scripted = ScriptedService(
        Complete=[[response_of("Hello.")]], ListModels=[[service.ListModelsResponse()]]
    )
    async with serving(scripted) as target, connect_async(target) as client:
        await client.complete(MODEL, "Hi")
        _ = [model async for model in client.models()]
    assert [True, True] == [
        590 < scripted.seen[0].seconds_left <= 601,
        25 < scripted.seen[1].seconds_left <= 31,
    ]


async def test_an_exceeded_deadline_has_its_own_error():
    """The error has the id that was sent, although the service sent no trailers."""
    scripted = ScriptedService(Complete=[[asyncio.Event(), response_of("too late")]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.complete(MODEL, "Hi", timeout_s=0.2, request_id="mine-1")
    assert "mine-1" == caught.value.request_id


async def test_a_stream_yields_text_and_has_the_response_of_complete():
    """The accumulated response equals the response of Complete."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hel", "lo.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        texts = [text async for text in stream.text()]
    assert (["Hel", "lo."], response_of("Hello."), True) == (texts, stream.response, stream.whole)


async def test_events_are_yielded_as_they_were_sent():
    """`events()` yields every event unchanged."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hello.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        events = [event async for event in stream.events()]
    assert list(stream_of("Hello.")) == events


async def test_finish_reads_the_rest_of_the_stream():
    """`finish()` returns the whole response."""
    scripted = ScriptedService(StreamComplete=[stream_of("Hel", "lo.")])
    async with (
        serving(scripted) as target,
        connect_async(target) as client,
        client.stream(MODEL, "Hi") as stream,
    ):
        assert response_of("Hello.") == await stream.finish()


async def test_a_failed_stream_has_the_partial_response():
    """The exception has the response so far in `partial`."""
    failure = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="UPSTREAM_TRUNCATED", pushback_ms=NO_RETRY)
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), failure]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(UnavailableError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert ("UPSTREAM_TRUNCATED", "Hel") == (caught.value.reason, text_of(caught.value.partial))


async def test_a_stream_that_fails_before_its_first_event_has_no_partial():
    """`partial` is None when no event arrived."""
    failure = Failure(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_REQUEST")
    async with (
        serving(ScriptedService(StreamComplete=[[failure]])) as target,
        connect_async(target) as client,
    ):
        with pytest.raises(InvalidRequestError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert caught.value.partial is None


async def test_an_ok_without_completed_is_an_error():
    """A cut-off stream raises IncompleteStreamError."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel")]])
    async with serving(scripted) as target, connect_async(target) as client:
        with pytest.raises(IncompleteStreamError) as caught:
            async with client.stream(MODEL, "Hi") as stream:
                await stream.finish()
    assert ("STREAM_INCOMPLETE", "Hel") == (caught.value.reason, text_of(caught.value.partial))


async def test_leaving_a_stream_early_cancels_the_call():
    """The service sees the cancellation when the context is left."""
    scripted = ScriptedService(StreamComplete=[[started(), delta("Hel"), asyncio.Event()]])
    async with serving(scripted) as target, connect_async(target) as client:
        async with client.stream(MODEL, "Hi") as stream:
            async for _ in stream.text():
                break
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()
    assert "Hel" == text_of(stream.response)
    assert not stream.whole


async def test_cancel_raises_call_cancelled_error_in_the_reader():
    """`cancel()` does not cancel the task, so the reader can handle the error."""
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
    """CancelledError passes through the stream, and the call is cancelled."""
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


async def test_a_cancelled_task_cancels_its_unary_call():
    """The service sees the cancellation."""
    scripted = ScriptedService(Complete=[[asyncio.Event(), response_of("too late")]])
    async with serving(scripted) as target, connect_async(target) as client:
        task = asyncio.create_task(client.complete(MODEL, "Hi"))
        await scripted.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(20):
            await scripted.cancelled.wait()


async def test_models_yields_the_models_of_all_pages():
    """Each page is requested with the token of the previous one and the same filters."""
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


async def test_model_page_requests_one_page_by_its_token():
    """A caller can forward pages one by one."""
    page = service.ListModelsResponse(models=[models.Model(id="a")], next_page_token="3")
    scripted = ScriptedService(ListModels=[[page]])
    async with serving(scripted) as target, connect_async(target) as client:
        assert page == await client.model_page("2", request_id="mine-1", page_size=1)
    (seen,) = scripted.seen
    assert service.ListModelsRequest(page_token="2", page_size=1) == seen.request
    assert "mine-1" == seen.metadata["x-request-id"]


async def test_get_model_requests_one_model_by_its_name():
    """The response has the warnings of the list."""
    found = service.GetModelResponse(model=models.Model(id="a"), warnings=[chat.Warning(message="old list")])
    scripted = ScriptedService(GetModel=[[found]])
    async with serving(scripted) as target, connect_async(target) as client:
        assert found == await client.get_model("fast", request_id="mine-1")
    (seen,) = scripted.seen
    assert service.GetModelRequest(id="fast") == seen.request
    assert "mine-1" == seen.metadata["x-request-id"]
    assert 20 < seen.seconds_left <= 31


async def test_an_unknown_model_is_not_found_by_its_name():
    """The error has the name of the model, so that a caller with several models knows which."""
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", resource_name="no/such")
    async with (
        serving(ScriptedService(GetModel=[[failure]])) as target,
        connect_async(target) as client,
    ):
        with pytest.raises(ModelNotFoundError) as caught:
            await client.get_model("no/such")
    assert "no/such" == caught.value.resource_name


async def test_every_method_of_the_sync_client_works():
    """The sync client is generated, so one call of each method is enough."""
    scripted = ScriptedService(
        Complete=[[response_of("Hello.")]],
        StreamComplete=[stream_of("Hel", "lo.")],
        ListModels=[[service.ListModelsResponse(models=[models.Model(id="a")])]],
        GetModel=[[service.GetModelResponse(model=models.Model(id="b"))]],
    )

    def walk(target):
        infos: list[CallInfo] = []
        with connect(target) as client:
            whole = client.complete(MODEL, "Hi", on_info=infos.append, request_id="mine-1")
            with client.stream(MODEL, "Hi", on_info=infos.append, request_id="mine-2") as stream:
                texts = list(stream.text())
            ids = [model.id for model in client.models()] + [client.get_model("b").model.id]
        return whole, texts, stream.response, ids, [info.request_id for info in infos]

    async with serving(scripted) as target:
        walked = await asyncio.to_thread(walk, target)
    assert (
        response_of("Hello."),
        ["Hel", "lo."],
        response_of("Hello."),
        ["a", "b"],
        ["mine-1", "mine-2"],
    ) == walked


async def test_the_sync_client_raises_the_same_errors():
    """For a unary call, in the middle of a stream, and after a deadline."""
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


async def test_leaving_a_sync_stream_early_cancels_the_call():
    """A `break` is enough, as with the async client."""
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


async def test_another_thread_can_cancel_a_sync_stream():
    """The reader gets an error with the partial response."""
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


async def test_closing_a_client_cancels_calls_in_flight():
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
