"""The stream guarantees, one by one. Unusual shapes of single chunks are golden cases."""

import pytest

from support import golden
from support.reference_accumulator import accumulate
from togetherchat.v1 import chat_pb2 as messages
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.response import from_schema, to_events
from togetherchat_server.providers.together.response_parts import tool_call_id
from togetherchat_server.providers.together.stream import ChatStreamTranslator


def chunk(*choices: schema.ChunkChoice, **fields: object) -> schema.Chunk:
    return schema.Chunk(id="r", model="m", choices=list(choices), **fields)


def text(content: str, index: int = 0, finish_reason: str = "") -> schema.ChunkChoice:
    return schema.ChunkChoice(
        index=index, delta=schema.ResponseMessage(content=content), finish_reason=finish_reason
    )


def call(index: int, arguments: str = "", call_id: str = "", name: str = "") -> schema.ChunkChoice:
    function = schema.ResponseFunction(name=name, arguments=arguments)
    fragment = schema.ResponseToolCall(index=index, id=call_id, function=function)
    return schema.ChunkChoice(index=0, delta=schema.ResponseMessage(tool_calls=[fragment]))


def deltas(translator: ChatStreamTranslator) -> list[service.Delta]:
    return [event.delta for event in translator.pop_events() if event.HasField("delta")]


def test_events_can_be_popped_after_each_chunk():
    """Nothing is held back: a token that arrives alone is sent alone."""
    translator = ChatStreamTranslator()
    popped: list[list[str | None]] = []
    for content in ("a", "b"):
        translator.feed(chunk(text(content)))
        popped.append([event.WhichOneof("event") for event in translator.pop_events()])

    assert [["started", "delta"], ["delta"]] == popped
    assert [] == translator.pop_events()


def test_the_role_is_in_the_first_delta_of_each_choice():
    """Together repeats the role in each chunk; a choice reports it once."""
    translator = ChatStreamTranslator()
    roles: list[tuple[int, int]] = []
    for index in (0, 1, 0, 1):
        translator.feed(chunk(text("a", index)))
        roles.extend((delta.choice_index, delta.role) for delta in deltas(translator))

    assistant, none = messages.ROLE_ASSISTANT, messages.ROLE_UNSPECIFIED
    assert [(0, assistant), (1, assistant), (0, none), (1, none)] == roles


def test_a_chunk_without_news_makes_no_event():
    """An empty delta, a finish reason, usage and a repeated id make no event."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(call(0, call_id="c", name="f")))
    translator.pop_events()

    translator.feed(chunk())
    translator.feed(chunk(text("")))
    translator.feed(chunk(call(0, call_id="c", name="f")))
    translator.feed(chunk(text("", finish_reason="stop"), usage=schema.ResponseUsage(prompt_tokens=1)))

    assert [] == translator.pop_events()


def test_adjacent_fragments_of_one_choice_are_merged():
    """Reasoning, text and tool calls that arrived together are one delta, each in its order."""
    translator = ChatStreamTranslator()
    for reasoning in ("h", "m"):
        delta = schema.ResponseMessage(reasoning=reasoning)
        translator.feed(chunk(schema.ChunkChoice(index=0, delta=delta)))
    for content in ("a", "b"):
        translator.feed(chunk(text(content)))
    translator.feed(chunk(call(0, call_id="c", name="f")))
    translator.feed(chunk(call(0, "{")))
    translator.feed(chunk(call(0, "}")))

    expected = service.Delta(
        role=messages.ROLE_ASSISTANT,
        reasoning="hm",
        reasoning_field=messages.REASONING_FIELD_REASONING,
        text="ab",
        tool_calls=[service.ToolCallDelta(id="c", name="f", arguments="{}")],
    )
    assert [expected] == deltas(translator)


def test_a_refusal_is_streamed_beside_the_text():
    """It comes after text and before tool calls, and counts as a token."""
    translator = ChatStreamTranslator()
    for part in ("I can", "not."):
        delta = schema.ResponseMessage(refusal=part)
        translator.feed(chunk(schema.ChunkChoice(index=0, delta=delta)))
    translator.feed(chunk(call(0, "{}", "c", "f")))
    translator.feed(chunk(text("Hm.")))

    refused = service.Delta(
        role=messages.ROLE_ASSISTANT,
        refusal="I cannot.",
        tool_calls=[service.ToolCallDelta(id="c", name="f", arguments="{}")],
    )
    assert [refused, service.Delta(text="Hm.")] == deltas(translator)
    assert 4 == translator.deltas


def test_text_before_reasoning_is_not_merged():
    """In one delta reasoning comes before text, so the other order needs two deltas."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a")))
    translator.feed(chunk(schema.ChunkChoice(index=0, delta=schema.ResponseMessage(reasoning="h"))))
    translator.feed(chunk(text("b")))

    assert [("", "a"), ("h", "b")] == [(delta.reasoning, delta.text) for delta in deltas(translator)]


def test_fragments_are_not_merged_across_another_choice():
    """Events keep the provider's order."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a", 0)))
    translator.feed(chunk(text("b", 1)))
    translator.feed(chunk(text("c", 0)))

    assert [(0, "a"), (1, "b"), (0, "c")] == [
        (delta.choice_index, delta.text) for delta in deltas(translator)
    ]


def test_fragments_are_not_merged_across_another_tool_call():
    """Alternating fragments of two calls keep their order."""
    translator = ChatStreamTranslator()
    for index, arguments in ((0, "a"), (1, "b"), (0, "c"), (0, "d")):
        translator.feed(chunk(call(index, arguments)))

    (delta,) = deltas(translator)
    assert [(0, "a"), (1, "b"), (0, "cd")] == [(tool.index, tool.arguments) for tool in delta.tool_calls]


def test_a_tool_call_reports_its_id_and_name_once():
    """A late name is reported when it arrives, and never again; another id without a name is not reported."""
    translator = ChatStreamTranslator()
    fragments: list[tuple[str, str, str]] = []
    for call_id, name, arguments in (("c", "", ""), ("", "f", ""), ("c", "f", "{"), ("x", "", "}")):
        translator.feed(chunk(call(3, arguments, call_id, name)))
        fragments.extend(
            (t.id, t.name, t.arguments) for delta in deltas(translator) for t in delta.tool_calls
        )

    assert [("c", "", ""), ("", "f", ""), ("", "", "{"), ("", "", "}")] == fragments


def test_fragments_without_index_are_assigned_by_position():
    """If neither an index nor an id names the call, the position in the chunk does."""
    translator = ChatStreamTranslator()
    named = [schema.ResponseToolCall(id=name, function=schema.ResponseFunction(name=name)) for name in "fg"]
    more = [schema.ResponseToolCall(function=schema.ResponseFunction(arguments=text)) for text in "12"]
    for fragments in (named, more):
        translator.feed(
            chunk(schema.ChunkChoice(index=0, delta=schema.ResponseMessage(tool_calls=fragments)))
        )
    translator.finish(done=True, attempts=1)

    (choice,) = accumulate(translator.pop_events()).choices
    assert [("f", "1"), ("g", "2")] == [(c.id, c.function.arguments) for c in choice.message.tool_calls]


def test_an_id_without_an_index_identifies_its_call():
    """A fragment that repeats an id continues that call; a new id opens the next."""
    translator = ChatStreamTranslator()
    for call_id, arguments in (("f", "1"), ("g", "2"), ("f", "3"), ("", "4"), ("g", "5")):
        fragment = schema.ResponseToolCall(id=call_id, function=schema.ResponseFunction(arguments=arguments))
        translator.feed(
            chunk(schema.ChunkChoice(index=0, delta=schema.ResponseMessage(tool_calls=[fragment])))
        )
    translator.finish(done=True, attempts=1)

    (choice,) = accumulate(translator.pop_events()).choices
    assert [("f", "134"), ("g", "25")] == [(c.id, c.function.arguments) for c in choice.message.tool_calls]


def test_an_empty_tool_call_is_reported():
    """A unary response reports an empty tool call, so a stream does too. It has an id to refer to."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a")))
    translator.pop_events()
    translator.feed(chunk(call(0)))
    translator.feed(chunk(call(0)))

    made = tool_call_id("r", 0, 0)
    assert [service.Delta(tool_calls=[service.ToolCallDelta(id=made)])] == deltas(translator)


def test_choices_finish_by_index_after_the_last_delta():
    """Choices finish in the order of their indexes, then the stream completes."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("b", 1, "length"), text("a", 0, "stop")))
    translator.feed(chunk(text("!", 1)))
    translator.finish(done=True, attempts=3)

    events = translator.pop_events()
    reasons = [event.WhichOneof("event") for event in events]
    assert ["started", *["delta"] * 3, *["choice_finished"] * 2, "completed"] == reasons
    assert [(0, "stop"), (1, "length")] == [
        (event.choice_finished.choice_index, event.choice_finished.finish_reason_raw)
        for event in events[-3:-1]
    ]
    assert events[-1].completed.attempts == 3


def test_deltas_count_fragments_with_content():
    """Text, reasoning and arguments count, about one per token; an empty delta does not."""
    translator = ChatStreamTranslator()
    counts: list[int] = []
    for choice in (
        text(""),
        text("a"),
        call(0, call_id="c", name="f"),
        call(0, "{"),
        text("", finish_reason="stop"),
    ):
        translator.feed(chunk(choice))
        counts.append(translator.deltas)

    assert [0, 1, 2, 3, 3] == counts


def test_usage_so_far():
    """Usage is estimated from the deltas until the provider reports its count."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a")))
    assert messages.Usage(completion_tokens=1, total_tokens=1, estimated=True) == translator.usage

    translator.feed(chunk(usage=schema.ResponseUsage(prompt_tokens=5, completion_tokens=1)))
    assert messages.Usage(prompt_tokens=5, completion_tokens=1, total_tokens=6) == translator.usage


def test_started_is_set_by_the_first_chunk():
    """An error before the first chunk does not start the stream."""
    translator = ChatStreamTranslator()
    with pytest.raises(ServiceError):
        translator.feed(schema.parse_chunk(b'{"id":"r","error":"no","choices":[]}'))
    assert not translator.started
    assert [] == translator.pop_events()

    translator.feed(chunk())
    assert translator.started


def test_started_waits_for_an_id_or_for_content():
    """Azure's first chunk, for example, has neither; nothing of the completion is held back for it."""
    translator = ChatStreamTranslator()
    empty = schema.ChunkChoice(index=0, delta=schema.ResponseMessage(role="assistant", content=""))
    translator.feed(schema.Chunk())
    translator.feed(schema.Chunk(choices=[empty], model="m"))
    assert ([], False) == (translator.pop_events(), translator.started)

    translator.feed(schema.Chunk(id="r", created=7, model="other", choices=[text("a")]))
    started, delta = translator.pop_events()

    assert ("r", "m", 7) == (started.started.id, started.started.model, started.started.create_time.seconds)
    assert (messages.ROLE_ASSISTANT, "a") == (delta.delta.role, delta.delta.text)


def test_content_starts_a_stream_without_an_id():
    """The id of the call stands for the provider's, also if that comes later."""
    translator = ChatStreamTranslator(call_id="our-call")
    translator.feed(schema.Chunk(choices=[text("a")]))
    translator.feed(chunk(text("b")))
    started, delta = translator.pop_events()

    assert ("our-call", "ab") == (started.started.id, delta.delta.text)


def test_a_stream_without_id_and_content_starts_at_its_end():
    """An empty completion is one, too."""
    translator = ChatStreamTranslator(call_id="our-call")
    translator.feed(schema.Chunk(choices=[text("", finish_reason="stop")]))
    assert [] == translator.pop_events()
    translator.finish(done=True, attempts=1)

    kinds = [event.WhichOneof("event") for event in translator.pop_events()]
    assert ["started", "delta", "choice_finished", "completed"] == kinds


@pytest.mark.parametrize(
    ("chunks", "done", "expected"),
    [
        pytest.param([], False, Reason.UPSTREAM_TRUNCATED, id="nothing"),
        pytest.param([], True, Reason.UPSTREAM_MALFORMED_RESPONSE, id="the end mark alone"),
        pytest.param([chunk()], False, Reason.UPSTREAM_TRUNCATED, id="no choice, no end mark"),
        pytest.param([chunk()], True, Reason.UPSTREAM_MALFORMED_RESPONSE, id="no choice"),
        pytest.param([chunk(text("a"))], False, Reason.UPSTREAM_TRUNCATED, id="unfinished"),
        pytest.param(
            [chunk(text("a")), chunk(text("b", 1, "stop"))],
            False,
            Reason.UPSTREAM_TRUNCATED,
            id="one unfinished",
        ),
        pytest.param([chunk(text("a"))], True, None, id="unfinished, with the end mark"),
        pytest.param([chunk(text("a", 0, "stop"))], False, None, id="finished, no end mark"),
        pytest.param(
            [chunk(text("a", 0, "stop")), chunk(text(""))], False, None, id="finished, then null again"
        ),
    ],
)
def test_which_streams_are_complete(chunks: list[schema.Chunk], done: bool, expected: Reason | None):
    """A stream is complete at the end mark, or if every choice has its finish reason."""
    translator = ChatStreamTranslator()
    for one in chunks:
        translator.feed(one)
    reason = None
    try:
        translator.finish(done=done, attempts=1)
    except ServiceError as failure:
        reason = failure.reason

    assert expected == reason
    completed = [event for event in translator.pop_events() if event.HasField("completed")]
    assert (expected is None) is bool(completed)


def test_events_before_an_error_are_kept():
    """Events before an error can be popped, and the error contains no key."""
    key = Secret("canary-key")
    translator = ChatStreamTranslator(caller_brought_key=True, secrets=(key,))
    translator.feed(chunk(text("a")))

    with pytest.raises(ServiceError) as failure:
        translator.feed(schema.parse_chunk(b'{"error":{"message":"canary-key is bad","code":400}}'))
    with pytest.raises(ServiceError) as rejected:
        translator.feed(schema.parse_chunk(b'{"error":{"message":"canary-key is bad","code":"401"}}'))

    assert failure.value.message == "the provider does not accept the request: [key] is bad"
    assert Reason.CALLER_KEY_REJECTED == rejected.value.reason
    assert ["a"] == [delta.text for delta in deltas(translator)]


@pytest.mark.parametrize("case", golden.cases("response"), ids=golden.name)
def test_a_unary_response_as_a_stream(case):
    """The events of a unary response accumulate to that response, except for the echoed prompt."""
    response = from_schema(schema.parse_completion(golden.upstream(case)))
    response.attempts = 2

    accumulated = accumulate(to_events(response))

    response.ClearField("echoed_prompts")
    assert response == accumulated


def test_a_response_without_choices_is_malformed():
    """A response without choices has no content to return."""
    with pytest.raises(ServiceError) as failure:
        from_schema(schema.parse_completion(b'{"id":"r","choices":[]}'))

    assert Reason.UPSTREAM_MALFORMED_RESPONSE == failure.value.reason


def test_an_error_with_status_200_is_that_error():
    """Some engines report failures in a response with status 200."""
    overloaded = schema.parse_completion(b'{"error":{"message":"no","code":503}}')
    rejected = schema.parse_completion(b'{"error":{"message":"no","code":"invalid_api_key"}}')

    with pytest.raises(ServiceError) as failure:
        from_schema(overloaded)
    with pytest.raises(ServiceError) as rejection:
        from_schema(rejected, caller_brought_key=True)

    assert Reason.UPSTREAM_OVERLOADED == failure.value.reason
    assert Reason.CALLER_KEY_REJECTED == rejection.value.reason
