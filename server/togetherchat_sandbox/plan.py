"""Plans a whole completion before anything is sent: reasoning, content, tool calls, usage.

Pure and deterministic; knows neither the encoding nor the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from togetherchat_sandbox.api_errors import ApiError, RequestRejectedError
from togetherchat_sandbox.model_list import context_tokens
from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.request import ChatMessage, ChatRequest
from togetherchat_sandbox.texts import completion_text, reasoning_text
from togetherchat_sandbox.tokens import count_tokens, tokenize
from togetherchat_sandbox.tool_calls import PlannedToolCall, calls_to_make, plan_tool_call

MESSAGE_TOKENS = 4
ATTACHMENT_TOKENS = 256
SEED_DIGITS = 16  # recorded seeds look rounded, as by a JavaScript number

_FILLER = ("all ", "work ", "and ", "no ", "play ", "makes ", "a ", "dull ", "token.\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChoice:
    """One of the `n` requested choices."""

    index: int
    reasoning: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    calls: tuple[PlannedToolCall, ...] = ()
    finish_reason: str
    seed: int

    @property
    def tokens(self) -> int:
        """The number of generated tokens, reasoning and arguments included."""
        return len(self.reasoning) + len(self.content) + sum(len(call.fragments) for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionPlan:
    """The choices, and what usage and echo need."""

    choices: tuple[PlannedChoice, ...]
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
class PlanOverrides:
    """What a sandbox model generates independently of the request: tokens of filler, tool calls."""

    tokens: int = 0
    calls: int = 0


NO_OVERRIDES = PlanOverrides()


def plan_completion(
    request: ChatRequest, *, seed: int, reasons: bool, overrides: PlanOverrides
) -> CompletionPlan:
    """Plan the completion of `request`.

    Raises:
        RequestRejectedError: the request does not fit the model's context.
    """
    prompt_tokens = sum(_message_tokens(message) for message in request.messages)
    request = replace(request, max_tokens=_allowed_tokens(request, prompt_tokens))
    contents = [(message.role, message.text, message.attachments) for message in request.messages]
    bits = random_bits(seed, request.model, contents, request.seed)
    return CompletionPlan(
        choices=tuple(_choice(request, index, bits, reasons, overrides) for index in range(request.choices)),
        prompt="\n".join(message.text for message in request.messages) if request.echo else "",
        prompt_tokens=prompt_tokens,
        # For a follow-up turn, the prompt cache holds all but the last message.
        cached_tokens=cached_tokens(request) if len(request.messages) > 2 else 0,
    )


def cached_tokens(request: ChatRequest) -> int:
    """Return the tokens that a prompt cache can hold: those of all messages but the last."""
    return sum(_message_tokens(message) for message in request.messages[:-1])


def _message_tokens(message: ChatMessage) -> int:
    return MESSAGE_TOKENS + count_tokens(message.text) + ATTACHMENT_TOKENS * message.attachments


def _allowed_tokens(request: ChatRequest, prompt_tokens: int) -> int | None:
    limit = context_tokens(request.model)
    requested = request.max_tokens
    if prompt_tokens >= limit:
        message = (
            f"The input ({prompt_tokens} tokens) is longer than the model's context length ({limit} tokens)."
        )
        raise RequestRejectedError(ApiError(status=400, message=message))
    if requested is None or prompt_tokens + requested <= limit:
        return requested
    if request.truncate:
        return limit - prompt_tokens
    message = (
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}."
        f" Given: {prompt_tokens} `inputs` tokens and {requested} `max_new_tokens`"
    )
    raise RequestRejectedError(ApiError(status=422, message=message))


def _choice(
    request: ChatRequest,
    index: int,
    bits: int,
    reasons: bool,  # noqa: FBT001  a step of `plan_completion`, with its arguments
    overrides: PlanOverrides,
) -> PlannedChoice:
    bits = random_bits(bits, index) if index else bits
    calls = calls_to_make(request, calls_min=overrides.calls)
    choice = PlannedChoice(
        index=index,
        reasoning=tokenize(reasoning_text(request, bits)) if reasons and request.reasoning_enabled else (),
        content=() if calls else _content(request, bits, overrides),
        calls=tuple(plan_tool_call(call, random_bits(bits, number)) for number, call in enumerate(calls)),
        finish_reason="tool_calls" if calls else "stop",
        seed=request.seed if request.seed is not None else _seed(bits),
    )
    return choice if request.max_tokens is None else _truncate(choice, request.max_tokens)


def _content(request: ChatRequest, bits: int, overrides: PlanOverrides) -> tuple[str, ...]:
    if overrides.tokens:
        # One more than max_tokens suffices to make the finish reason `length`.
        enough = min(overrides.tokens, (request.max_tokens or overrides.tokens) + 1)
        return tuple(_FILLER[position % len(_FILLER)] for position in range(enough))
    text = completion_text(request, bits)
    ends = [end for stop in request.stop if (end := text.find(stop)) >= 0]
    return tokenize(text[: min(ends)] if ends else text)


def _seed(bits: int) -> int:
    digits = str(bits)
    return int(digits[:SEED_DIGITS].ljust(len(digits), "0"))


def _truncate(choice: PlannedChoice, tokens_max: int) -> PlannedChoice:
    if choice.tokens <= tokens_max:
        return choice
    reasoning = choice.reasoning[:tokens_max]
    content = choice.content[: tokens_max - len(reasoning)]
    calls = tuple(_truncate_calls(choice.calls, tokens_max - len(reasoning) - len(content)))
    return replace(choice, reasoning=reasoning, content=content, calls=calls, finish_reason="length")


def _truncate_calls(calls: tuple[PlannedToolCall, ...], tokens_left: int) -> Iterator[PlannedToolCall]:
    for call in calls:
        if tokens_left <= 0:
            return
        yield replace(call, fragments=call.fragments[:tokens_left])
        tokens_left -= len(call.fragments)
