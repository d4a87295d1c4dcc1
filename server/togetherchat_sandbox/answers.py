"""From a request to the whole answer, before anything is sent: what each choice thinks, says and
calls, why it ends, and what it costs. Pure and deterministic; knows no wire and no time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from togetherchat_sandbox.models import context_tokens
from togetherchat_sandbox.refusals import Refusal, Refused
from togetherchat_sandbox.request import ChatRequest, Message
from togetherchat_sandbox.texts import answer_text, thought_text
from togetherchat_sandbox.tokens import count, roll, split
from togetherchat_sandbox.tool_calls import ToolCall, called_tools, tool_call

MESSAGE_TOKENS = 4
ATTACHMENT_TOKENS = 256
SEED_DIGITS = 16  # real seeds look as if a JavaScript number had carried them

_FILLER = ("all ", "work ", "and ", "no ", "play ", "makes ", "a ", "dull ", "token.\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer of the `n` that were asked for."""

    index: int
    reasoning: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str
    seed: int

    @property
    def tokens(self) -> int:
        """All that was generated, thinking and arguments too."""
        return len(self.reasoning) + len(self.content) + sum(len(call.fragments) for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The choices, and what the usage report and the echo need."""

    choices: tuple[Choice, ...]
    prompt: str
    prompt_tokens: int
    cached_tokens: int

    @property
    def completion_tokens(self) -> int:
        return sum(choice.tokens for choice in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        return sum(len(choice.reasoning) for choice in self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a name asks for beyond the request: so many tokens of filler, so many tool calls."""

    tokens: int = 0
    calls: int = 0


NOTHING_MORE = Wishes()


def plan(request: ChatRequest, *, seed: int, thinks: bool, wishes: Wishes) -> Answer:
    """Answer `request`.

    Raises:
        Refused: it does not fit the context of its model.
    """
    prompt_tokens = sum(_message_tokens(message) for message in request.messages)
    request = replace(request, max_tokens=_tokens_allowed(request, prompt_tokens))
    # A follow-up turn finds all but its last message in the prompt cache.
    cached_tokens = sum(_message_tokens(message) for message in request.messages[:-1])
    chance = roll(seed, request.model, request.messages, request.seed)
    return Answer(
        choices=tuple(_choice(request, index, chance, thinks, wishes) for index in range(request.choices)),
        prompt="\n".join(message.text for message in request.messages) if request.echo else "",
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens if len(request.messages) > 2 else 0,
    )


def _message_tokens(message: Message) -> int:
    return MESSAGE_TOKENS + count(message.text) + ATTACHMENT_TOKENS * message.attachments


def _tokens_allowed(request: ChatRequest, prompt_tokens: int) -> int | None:
    limit = context_tokens(request.model)
    wanted = request.max_tokens
    if prompt_tokens >= limit:
        message = (
            f"The input ({prompt_tokens} tokens) is longer than the model's context length ({limit} tokens)."
        )
        raise Refused(Refusal(status=400, message=message))
    if wanted is None or prompt_tokens + wanted <= limit:
        return wanted
    if request.truncate:
        return limit - prompt_tokens
    message = (
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}."
        f" Given: {prompt_tokens} `inputs` tokens and {wanted} `max_new_tokens`"
    )
    raise Refused(Refusal(status=422, message=message))


def _choice(request: ChatRequest, index: int, chance: int, thinks: bool, wishes: Wishes) -> Choice:  # noqa: FBT001  a step of `plan`, with its arguments
    chance = roll(chance, index) if index else chance
    tools = called_tools(request, calls_min=wishes.calls)
    content = () if tools else _content(request, chance, wishes)
    full = Choice(
        index=index,
        reasoning=split(thought_text(request, chance)) if thinks and request.may_think else (),
        content=content,
        calls=tuple(tool_call(tool, roll(chance, place)) for place, tool in enumerate(tools)),
        finish_reason="tool_calls" if tools else "stop",
        seed=request.seed if request.seed is not None else _seed(chance),
    )
    return full if request.max_tokens is None else _cut(full, request.max_tokens)


def _content(request: ChatRequest, chance: int, wishes: Wishes) -> tuple[str, ...]:
    if wishes.tokens:
        # One more than max_tokens is enough for the cut to be noticed.
        enough = min(wishes.tokens, (request.max_tokens or wishes.tokens) + 1)
        return tuple(_FILLER[place % len(_FILLER)] for place in range(enough))
    text = answer_text(request, chance)
    ends = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    return split(text[: min(ends)] if ends else text)


def _seed(chance: int) -> int:
    digits = str(chance)
    return int(digits[:SEED_DIGITS].ljust(len(digits), "0"))


def _cut(choice: Choice, tokens_max: int) -> Choice:
    if choice.tokens <= tokens_max:
        return choice
    reasoning = choice.reasoning[:tokens_max]
    content = choice.content[: tokens_max - len(reasoning)]
    calls = tuple(_cut_calls(choice.calls, tokens_max - len(reasoning) - len(content)))
    return replace(choice, reasoning=reasoning, content=content, calls=calls, finish_reason="length")


def _cut_calls(calls: tuple[ToolCall, ...], tokens_left: int) -> Iterator[ToolCall]:
    for call in calls:
        if tokens_left <= 0:
            return
        yield replace(call, fragments=call.fragments[:tokens_left])
        tokens_left -= len(call.fragments)
