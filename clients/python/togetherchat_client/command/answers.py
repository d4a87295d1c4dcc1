"""Asks for an answer as the command line says, and shows one while it is made."""

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import CompletionStream
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.terminal import Terminal

NANO = 1e-9

CUT_SHORT = {
    chat.FINISH_REASON_LENGTH: "the answer is cut off: it reached --max-tokens or the end of the context",
    chat.FINISH_REASON_CONTENT_FILTER: "the answer was ended by a content filter",
}


def request_of(
    arguments: Arguments, messages: list[chat.Message], *, model: str = ""
) -> service.CompleteRequest:
    """The request for the next answer to `messages`."""
    return service.CompleteRequest(
        model=model or arguments.model,
        messages=messages,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        seed=arguments.seed,
        stop=arguments.stop,
        reasoning_effort=arguments.reasoning_effort,
        fallback_models=arguments.fallback,
    )


def show_stream(stream: CompletionStream, terminal: Terminal, *, thinking: bool) -> None:
    """Print the text as it comes, and end it with a new line however it ends."""
    with terminal.waiting("waiting") as waiting:
        last = ""
        try:
            for event in stream.events():
                if event.delta.reasoning:
                    waiting.label("thinking")
                    if thinking:
                        waiting.stop()
                        terminal.aside(event.delta.reasoning)
                if event.delta.text and event.delta.choice_index == 0:
                    waiting.stop()
                    last = event.delta.text
                    terminal.write(last)
        finally:
            waiting.stop()
            if last and not last.endswith("\n"):
                terminal.line()


def warn_of(response: service.CompleteResponse, terminal: Terminal) -> None:
    """Say what a reader of the text alone would not know: remarks, and that it is cut short."""
    for warning in response.warnings:
        terminal.warn(f"warning: {warning.message}")
    for choice in response.choices:
        if choice.finish_reason in CUT_SHORT:
            terminal.warn(CUT_SHORT[choice.finish_reason])


def summary_of(response: service.CompleteResponse, *, elapsed_s: float) -> str:
    """Who answered, what it took."""
    usage = response.usage
    about = "~" if usage.estimated else ""
    parts = [response.model]
    if response.HasField("usage"):
        parts.append(f"{about}{usage.prompt_tokens} + {usage.completion_tokens} tokens")
        if usage.HasField("cost_nano_usd"):
            parts.append(f"{about}${usage.cost_nano_usd * NANO:.6f}")
    parts.append(f"{elapsed_s:.1f} s")
    return " · ".join(part for part in parts if part)
