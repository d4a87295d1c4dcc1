"""The warning about completions whose tokens were used up by reasoning."""

import pytest

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.providers.together.lost_text import lost_choices, warnings_of

STOP, LENGTH = chat.FINISH_REASON_STOP, chat.FINISH_REASON_LENGTH
TEXT = [chat.ContentPart(text="Hi")]
CALL = [chat.ToolCall(id="1", function=chat.FunctionCall(name="f"))]


def choice(index=0, *, finish_reason=LENGTH, reasoning="Hm.", **message):
    return chat.Choice(
        index=index, finish_reason=finish_reason, message=chat.Message(reasoning=reasoning, **message)
    )


@pytest.mark.parametrize(
    ("given", "usage", "lost"),
    [
        (choice(), chat.Usage(), True),
        (choice(reasoning=""), chat.Usage(reasoning_tokens=64), True),
        (choice(reasoning=""), chat.Usage(), False),
        (choice(content=TEXT), chat.Usage(), False),
        (choice(tool_calls=CALL), chat.Usage(), False),
        (choice(finish_reason=STOP), chat.Usage(), False),
        (choice(finish_reason=chat.FINISH_REASON_CONTENT_FILTER), chat.Usage(), False),
    ],
)
def test_a_choice_is_lost_if_reasoning_used_up_its_tokens(given, usage, lost):
    """Without text and tool calls, at the finish reason `length`, after reasoning."""
    assert lost == bool(lost_choices([given], usage))


def test_the_warning_names_the_choices_if_there_are_several():
    """A single choice needs no number."""
    several = [choice(0), choice(1, content=TEXT), choice(2)]

    assert [] == warnings_of([])
    assert ["The completion has no text"] == [text.partition(":")[0] for text in warnings_of([0])]
    [text] = warnings_of(lost_choices(several, chat.Usage()))
    assert text.startswith("Choice 0, 2 has no text: reasoning used up max_tokens.")
