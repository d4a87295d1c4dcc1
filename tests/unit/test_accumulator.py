"""Tests of the accumulator of stream events."""

from hypothesis import given
from hypothesis import strategies as some

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import Accumulator


def event(**fields) -> service.StreamCompleteResponse:
    return service.StreamCompleteResponse(**fields)


def delta(**fields) -> service.StreamCompleteResponse:
    return event(delta=service.Delta(**fields))


def accumulate(events) -> service.CompleteResponse:
    accumulator = Accumulator()
    for each in events:
        accumulator.add(each)
    return accumulator.response()


def tokens(*texts: str) -> chat.Logprobs:
    return chat.Logprobs(tokens=[chat.TokenLogprob(token=text, logprob=-0.5) for text in texts])


def test_a_whole_stream_gives_the_response_of_complete():
    """Every field of the response is in some event."""
    started = service.Started(id="chat-1", model="m", system_fingerprint="fp")
    started.create_time.FromSeconds(1700000000)
    usage = chat.Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    timings = chat.Timings()
    timings.total_duration.FromMilliseconds(2500)
    response = accumulate(
        [
            event(started=started),
            delta(
                role=chat.ROLE_ASSISTANT,
                reasoning="Hm",
                reasoning_field=chat.REASONING_FIELD_REASONING_CONTENT,
            ),
            delta(text="Hel", logprobs=tokens("Hel"), refusal="N"),
            delta(text="lo", logprobs=tokens("lo"), refusal="o"),
            event(
                choice_finished=service.ChoiceFinished(
                    finish_reason=chat.FINISH_REASON_STOP, finish_reason_raw="eos", seed=2**63 + 1
                )
            ),
            event(
                completed=service.Completed(
                    usage=usage, warnings=[chat.Warning(message="w")], attempts=2, timings=timings
                )
            ),
        ]
    )
    message = chat.Message(
        role=chat.ROLE_ASSISTANT,
        content=[chat.ContentPart(text="Hello")],
        reasoning="Hm",
        reasoning_field=chat.REASONING_FIELD_REASONING_CONTENT,
        refusal="No",
    )
    expected = service.CompleteResponse(
        id="chat-1",
        model="m",
        create_time=started.create_time,
        system_fingerprint="fp",
        choices=[
            chat.Choice(
                message=message,
                finish_reason=chat.FINISH_REASON_STOP,
                finish_reason_raw="eos",
                logprobs=tokens("Hel", "lo"),
                seed=2**63 + 1,
            )
        ],
        usage=usage,
        warnings=[chat.Warning(message="w")],
        attempts=2,
        timings=timings,
    )
    assert expected == response


def test_an_empty_stream_gives_an_empty_response():
    """Without events no field of the response is set."""
    assert service.CompleteResponse() == accumulate([])


def test_unknown_events_are_ignored():
    """A later version of the contract may add events: field 99 is not in this version."""
    unknown = service.StreamCompleteResponse.FromString(b"\x9a\x06\x03abc")
    accumulator = Accumulator()
    accumulator.add(unknown)
    assert (None, True, service.CompleteResponse()) == (
        unknown.WhichOneof("event"),
        accumulator.empty,
        accumulator.response(),
    )


def test_a_response_is_whole_after_completed():
    """A stream whose choices have all finished is not whole before `completed`."""
    accumulator = Accumulator()
    accumulator.add(event(choice_finished=service.ChoiceFinished()))
    before = accumulator.whole
    accumulator.add(event(completed=service.Completed()))
    assert (before, accumulator.whole) == (False, True)


def test_without_text_the_content_is_empty():
    """A message with tool calls alone has no content part, as in the response of Complete."""
    response = accumulate([delta(role=chat.ROLE_ASSISTANT), event(choice_finished=service.ChoiceFinished())])
    assert list(response.choices[0].message.content) == []


def test_tool_calls_are_merged_and_ordered_by_index():
    """Deltas of two calls may arrive interleaved, and those of the second call first."""
    deltas = [
        service.ToolCallDelta(index=1, id="b", name="second", arguments='{"y"'),
        service.ToolCallDelta(index=0, id="a", name="first", arguments="{}"),
        service.ToolCallDelta(index=1, arguments=":2}"),
    ]
    response = accumulate(delta(tool_calls=[each]) for each in deltas)
    expected = [
        chat.ToolCall(id="a", function=chat.FunctionCall(name="first", arguments="{}")),
        chat.ToolCall(id="b", function=chat.FunctionCall(name="second", arguments='{"y":2}')),
    ]
    assert expected == list(response.choices[0].message.tool_calls)


def test_a_response_can_be_read_before_the_end():
    """Reading the response early does not change the later one."""
    accumulator = Accumulator()
    accumulator.add(delta(text="Hel", logprobs=tokens("Hel")))
    early = accumulator.response()
    accumulator.add(delta(text="lo", logprobs=tokens("lo")))
    late = accumulator.response()
    assert tuple(each.choices[0].message.content[0].text for each in (early, late)) == ("Hel", "Hello")


@some.composite
def choices(draw) -> list[chat.Choice]:
    """One to three choices that Complete may return."""
    indexes = draw(some.lists(some.integers(0, 5), min_size=1, max_size=3, unique=True))
    return [draw(_choice(index)) for index in sorted(indexes)]


@some.composite
def _choice(draw, index: int) -> chat.Choice:
    text = draw(some.text(max_size=20))
    calls = draw(some.lists(some.text(min_size=1, max_size=12), max_size=2))
    message = chat.Message(
        role=chat.ROLE_ASSISTANT,
        content=[chat.ContentPart(text=text)] if text else [],
        reasoning=draw(some.text(max_size=20)),
        refusal=draw(some.text(max_size=20)),
        tool_calls=[
            chat.ToolCall(id=f"c{place}", function=chat.FunctionCall(name="f", arguments=arguments))
            for place, arguments in enumerate(calls)
        ],
    )
    if message.reasoning:
        message.reasoning_field = chat.REASONING_FIELD_REASONING
    return chat.Choice(
        index=index, message=message, finish_reason=chat.FINISH_REASON_STOP, finish_reason_raw="stop"
    )


def cut(draw, text: str) -> list[str]:
    """`text` cut into pieces at random positions."""
    cuts = sorted(draw(some.lists(some.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def deltas_of(draw, choice: chat.Choice) -> list[service.StreamCompleteResponse]:
    message = choice.message
    text = "".join(part.text for part in message.content)
    here = {"choice_index": choice.index}
    deltas = [delta(role=message.role, **here)]
    deltas += [
        delta(reasoning=piece, reasoning_field=message.reasoning_field, **here)
        for piece in cut(draw, message.reasoning)
    ]
    deltas += [delta(text=piece, **here) for piece in cut(draw, text)]
    deltas += [delta(refusal=piece, **here) for piece in cut(draw, message.refusal)]
    for place, call in enumerate(message.tool_calls):
        first, *rest = cut(draw, call.function.arguments)
        head = service.ToolCallDelta(index=place, id=call.id, name=call.function.name, arguments=first)
        tail = [service.ToolCallDelta(index=place, arguments=piece) for piece in rest]
        deltas += [delta(tool_calls=[piece], **here) for piece in (head, *tail)]
    return deltas


def interleave(draw, sequences):
    """The events of all sequences, interleaved at random. The order within a sequence is kept."""
    left = [list(sequence) for sequence in sequences if sequence]
    mixed = []
    while left:
        chosen = draw(some.sampled_from(left))
        mixed.append(chosen.pop(0))
        left = [sequence for sequence in left if sequence]
    return mixed


@given(some.data())
def test_cuts_and_interleaving_do_not_change_the_response(data):
    """Stream guarantee 1: accumulating the deltas gives the response of Complete."""
    response = service.CompleteResponse(id="chat-1", model="m", choices=data.draw(choices()), attempts=1)
    response.usage.total_tokens = 7
    events = [
        event(started=service.Started(id="chat-1", model="m")),
        *interleave(data.draw, [deltas_of(data.draw, choice) for choice in response.choices]),
        *(
            event(
                choice_finished=service.ChoiceFinished(
                    choice_index=choice.index,
                    finish_reason=choice.finish_reason,
                    finish_reason_raw=choice.finish_reason_raw,
                )
            )
            for choice in response.choices
        ),
        event(completed=service.Completed(usage=response.usage, attempts=1)),
    ]
    assert response == accumulate(events)
