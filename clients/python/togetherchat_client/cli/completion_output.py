"""Prints completions: the text of a stream, warnings, and the summary line of a chat."""

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import CompletionStream
from togetherchat_client.cli.terminal import Terminal

NANO = 1e-9

TRUNCATION_WARNINGS = {
    chat.FINISH_REASON_LENGTH: "the completion is cut off: it reached --max-tokens or the context length",
    chat.FINISH_REASON_CONTENT_FILTER: "the completion is cut off by a content filter",
}


def print_stream(stream: CompletionStream, terminal: Terminal, *, show_reasoning: bool) -> None:
    """Print the text as it arrives. End the last line, also when the stream fails."""
    with terminal.progress("waiting") as progress:
        last = ""
        try:
            for event in stream.events():
                if event.delta.reasoning:
                    progress.label("thinking")
                    if show_reasoning:
                        progress.stop()
                        terminal.write_reasoning(event.delta.reasoning)
                if event.delta.text and event.delta.choice_index == 0:
                    progress.stop()
                    last = event.delta.text
                    terminal.write(last)
        finally:
            progress.stop()
            if last and not last.endswith("\n"):
                terminal.line()


def print_warnings(response: service.CompleteResponse, terminal: Terminal) -> None:
    """Print the response's warnings, and a warning for each choice that is cut off."""
    for warning in response.warnings:
        terminal.warn(f"warning: {warning.message}")
    for choice in response.choices:
        if choice.finish_reason in TRUNCATION_WARNINGS:
            terminal.warn(TRUNCATION_WARNINGS[choice.finish_reason])


def summary(response: service.CompleteResponse, *, elapsed_s: float) -> str:
    """One line with the model, tokens, cost and times of a completion."""
    usage = response.usage
    about = "~" if usage.estimated else ""
    parts = [response.model]
    if response.HasField("usage"):
        parts.append(f"{about}{usage.prompt_tokens} + {usage.completion_tokens} tokens")
        if usage.HasField("cost_nano_usd"):
            parts.append(f"{about}${usage.cost_nano_usd * NANO:.6f}")
    if response.timings.HasField("first_token_duration"):
        first_token_s = response.timings.first_token_duration.ToTimedelta().total_seconds()
        parts.append(f"first token {first_token_s:.1f} s")
    parts.append(f"{elapsed_s:.1f} s")
    return " · ".join(part for part in parts if part)
