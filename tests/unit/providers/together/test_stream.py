"""The law of the stream, rule by rule. The odd shapes of single chunks are golden cases."""

import pytest

from support import golden
from support.reference_accumulator import accumulate
from togetherchat.v1 import chat_pb2 as messages
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_server.domain.reasons import Reason, ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.response import from_schema, to_events
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


def test_an_event_can_be_taken_after_each_chunk():
    """Nothing is held back: a token that came alone goes alone."""
    translator = ChatStreamTranslator()
    taken: list[list[str | None]] = []
    for content in ("a", "b"):
        translator.feed(chunk(text(content)))
        taken.append([event.WhichOneof("event") for event in translator.pop_events()])

    assert [["started", "delta"], ["delta"]] == taken
    assert [] == translator.pop_events()


def test_the_role_is_in_the_first_delta_of_each_choice():
    """Together repeats it in each chunk; a choice says it once."""
    translator = ChatStreamTranslator()
    roles: list[tuple[int, int]] = []
    for index in (0, 1, 0, 1):
        translator.feed(chunk(text("a", index)))
        roles.extend((delta.choice_index, delta.role) for delta in deltas(translator))

    assistant, none = messages.ROLE_ASSISTANT, messages.ROLE_UNSPECIFIED
    assert [(0, assistant), (1, assistant), (0, none), (1, none)] == roles


def test_a_chunk_that_says_nothing_new_makes_no_event():
    """An empty delta, a finish reason, usage and a repeated id are kept, or known already."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(call(0, call_id="c", name="f")))
    translator.pop_events()

    translator.feed(chunk())
    translator.feed(chunk(text("")))
    translator.feed(chunk(call(0, call_id="c", name="f")))
    translator.feed(chunk(text("", finish_reason="stop"), usage=schema.ResponseUsage(prompt_tokens=1)))

    assert [] == translator.pop_events()


def test_neighbours_of_one_choice_are_merged():
    """Thinking, text and tool calls that arrived together are one delta, each in its order."""
    translator = ChatStreamTranslator()
    for thought in ("h", "m"):
        delta = schema.ResponseMessage(reasoning=thought)
        translator.feed(chunk(schema.ChunkChoice(index=0, delta=delta)))
    for content in ("a", "b"):
        translator.feed(chunk(text(content)))
    translator.feed(chunk(call(0, call_id="c", name="f")))
    translator.feed(chunk(call(0, "{")))
    translator.feed(chunk(call(0, "}")))

    expected = service.Delta(
        role=messages.ROLE_ASSISTANT,
        reasoning="hm",
        reasoning_key="reasoning",
        text="ab",
        tool_calls=[service.ToolCallDelta(id="c", name="f", arguments="{}")],
    )
    assert [expected] == deltas(translator)


def test_text_before_thinking_is_not_merged():
    """One delta reads as thinking before text, so the other order needs two."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a")))
    translator.feed(chunk(schema.ChunkChoice(index=0, delta=schema.ResponseMessage(reasoning="h"))))
    translator.feed(chunk(text("b")))

    assert [("", "a"), ("h", "b")] == [(delta.reasoning, delta.text) for delta in deltas(translator)]


def test_another_choice_in_between_is_not_merged_across():
    """Events come in the provider's order."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a", 0)))
    translator.feed(chunk(text("b", 1)))
    translator.feed(chunk(text("c", 0)))

    assert [(0, "a"), (1, "b"), (0, "c")] == [
        (delta.choice_index, delta.text) for delta in deltas(translator)
    ]


def test_another_tool_call_in_between_is_not_merged_across():
    """Fragments of two calls that alternate stay in order."""
    translator = ChatStreamTranslator()
    for index, arguments in ((0, "a"), (1, "b"), (0, "c"), (0, "d")):
        translator.feed(chunk(call(index, arguments)))

    (delta,) = deltas(translator)
    assert [(0, "a"), (1, "b"), (0, "cd")] == [(tool.index, tool.arguments) for tool in delta.tool_calls]


def test_a_tool_call_names_itself_once():
    """An id or a name that comes late is told when it comes, and never again."""
    translator = ChatStreamTranslator()
    fragments: list[tuple[str, str, str]] = []
    for call_id, name, arguments in (("c", "", ""), ("", "f", ""), ("c", "f", "{"), ("x", "g", "}")):
        translator.feed(chunk(call(3, arguments, call_id, name)))
        fragments.extend(
            (t.id, t.name, t.arguments) for delta in deltas(translator) for t in delta.tool_calls
        )

    assert [("c", "", ""), ("", "f", ""), ("", "", "{"), ("", "", "}")] == fragments


def test_several_fragments_without_index_in_one_chunk_stand_for_their_places():
    """Where nothing names a call, its place does."""
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


def test_an_id_without_an_index_names_its_call():
    """A fragment that repeats an id goes on with that call; a new id opens the next."""
    translator = ChatStreamTranslator()
    for call_id, arguments in (("f", "1"), ("g", "2"), ("f", "3"), ("", "4"), ("g", "5")):
        fragment = schema.ResponseToolCall(id=call_id, function=schema.ResponseFunction(arguments=arguments))
        translator.feed(
            chunk(schema.ChunkChoice(index=0, delta=schema.ResponseMessage(tool_calls=[fragment])))
        )
    translator.finish(done=True, attempts=1)

    (choice,) = accumulate(translator.pop_events()).choices
    assert [("f", "134"), ("g", "25")] == [(c.id, c.function.arguments) for c in choice.message.tool_calls]


def test_a_tool_call_without_anything_is_one():
    """It is one in a unary answer, so it is one here."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a")))
    translator.pop_events()
    translator.feed(chunk(call(0)))
    translator.feed(chunk(call(0)))

    assert [service.Delta(tool_calls=[service.ToolCallDelta()])] == deltas(translator)


def test_the_end_is_told_after_the_last_delta_by_index():
    """Choices finish in the order of their indexes, then all is complete."""
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


def test_pieces_count_fragments_with_content():
    """About one a token: text, thinking and arguments count, an empty delta does not."""
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
        counts.append(translator.pieces)

    assert [0, 1, 2, 3, 3] == counts


def test_usage_so_far():
    """Before the provider has counted, the pieces are the estimate; afterwards its count is."""
    translator = ChatStreamTranslator()
    translator.feed(chunk(text("a")))
    assert messages.Usage(completion_tokens=1, total_tokens=1, estimated=True) == translator.usage

    translator.feed(chunk(usage=schema.ResponseUsage(prompt_tokens=5, completion_tokens=1)))
    assert messages.Usage(prompt_tokens=5, completion_tokens=1, total_tokens=6) == translator.usage


def test_started_says_that_the_answer_has_begun():
    """An error before the first chunk leaves everything open."""
    translator = ChatStreamTranslator()
    with pytest.raises(ServiceError):
        translator.feed(schema.parse_chunk(b'{"id":"r","error":"no","choices":[]}'))
    assert not translator.started
    assert [] == translator.pop_events()

    translator.feed(chunk())
    assert translator.started


@pytest.mark.parametrize(
    ("chunks", "done", "expected"),
    [
        pytest.param([], False, Reason.UPSTREAM_TRUNCATED, id="nothing"),
        pytest.param([], True, Reason.UPSTREAM_MALFORMED_RESPONSE, id="the marker alone"),
        pytest.param([chunk()], False, Reason.UPSTREAM_TRUNCATED, id="no choice, no marker"),
        pytest.param([chunk()], True, Reason.UPSTREAM_MALFORMED_RESPONSE, id="no choice"),
        pytest.param([chunk(text("a"))], False, Reason.UPSTREAM_TRUNCATED, id="unfinished"),
        pytest.param(
            [chunk(text("a")), chunk(text("b", 1, "stop"))],
            False,
            Reason.UPSTREAM_TRUNCATED,
            id="one unfinished",
        ),
        pytest.param([chunk(text("a"))], True, None, id="unfinished, but the marker"),
        pytest.param([chunk(text("a", 0, "stop"))], False, None, id="finished, no marker"),
        pytest.param(
            [chunk(text("a", 0, "stop")), chunk(text(""))], False, None, id="finished, then null again"
        ),
    ],
)
def test_what_is_whole(chunks: list[schema.Chunk], done: bool, expected: Reason | None):
    """An answer is whole at the marker, or where every choice has its reason."""
    translator = ChatStreamTranslator()
    for piece in chunks:
        translator.feed(piece)
    reason = None
    try:
        translator.finish(done=done, attempts=1)
    except ServiceError as failure:
        reason = failure.reason

    assert expected == reason
    completed = [event for event in translator.pop_events() if event.HasField("completed")]
    assert (expected is None) is bool(completed)


def test_an_error_leaves_what_came_before_it():
    """The part that arrived is not lost, and the failure says no key."""
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


@pytest.mark.parametrize("case", golden.cases("answer"), ids=golden.name)
def test_a_whole_answer_as_a_stream(case):
    """The events made of a whole answer fold to that answer; a stream has no place for an echo."""
    response = from_schema(schema.parse_completion(golden.upstream(case)))
    response.attempts = 2

    folded = accumulate(to_events(response))

    response.ClearField("prompt")
    assert response == folded


def test_an_answer_without_choice_is_malformed():
    """There is nothing to hand out."""
    with pytest.raises(ServiceError) as failure:
        from_schema(schema.parse_completion(b'{"id":"r","choices":[]}'))

    assert Reason.UPSTREAM_MALFORMED_RESPONSE == failure.value.reason


def test_an_error_with_status_200_is_that_error():
    """Some engines report failures in a successful answer."""
    overloaded = schema.parse_completion(b'{"error":{"message":"no","code":503}}')
    rejected = schema.parse_completion(b'{"error":{"message":"no","code":"invalid_api_key"}}')

    with pytest.raises(ServiceError) as failure:
        from_schema(overloaded)
    with pytest.raises(ServiceError) as rejection:
        from_schema(rejected, caller_brought_key=True)

    assert Reason.UPSTREAM_OVERLOADED == failure.value.reason
    assert Reason.CALLER_KEY_REJECTED == rejection.value.reason
