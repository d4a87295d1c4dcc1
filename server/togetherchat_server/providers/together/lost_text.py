"""The warning about completions whose tokens were used up by reasoning before any text came.

Such a completion looks like an empty one: its finish reason is `length`, and only the reasoning shows what
happened. Reports of it are frequent with small values of `max_tokens`, which count reasoning too.
"""

from collections.abc import Sequence
from typing import Final

from togetherchat.v1 import chat_pb2 as chat

ADVICE: Final = "Raise max_tokens, lower reasoning_effort, or switch reasoning off."


def lost_choices(choices: Sequence[chat.Choice], usage: chat.Usage) -> list[int]:
    """Return the indexes of the choices of a whole completion that have no text because of reasoning."""
    return [
        choice.index
        for choice in choices
        if is_lost(
            finish_reason=choice.finish_reason,
            has_output=_has_output(choice.message),
            has_reasoning=bool(choice.message.reasoning),
            usage=usage,
        )
    ]


def _has_output(message: chat.Message) -> bool:
    return bool(message.content or message.refusal or message.tool_calls)


def is_lost(
    *,
    finish_reason: "chat.FinishReason.ValueType",
    has_output: bool,
    has_reasoning: bool,
    usage: chat.Usage,
) -> bool:
    """Return whether reasoning used up the tokens of a choice.

    Some models count the tokens of their reasoning and do not send it.
    """
    return (
        finish_reason == chat.FINISH_REASON_LENGTH
        and not has_output
        and (has_reasoning or usage.reasoning_tokens > 0)
    )


def warnings_of(indexes: Sequence[int]) -> list[str]:
    """Return the warning about these choices, if there are any."""
    if not indexes:
        return []
    subject = "The completion" if list(indexes) == [0] else f"Choice {', '.join(map(str, indexes))}"
    return [f"{subject} has no text: reasoning used up max_tokens. {ADVICE}"]
