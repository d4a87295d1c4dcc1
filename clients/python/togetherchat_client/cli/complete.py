"""`togetherchat complete`: one prompt, one completion."""

import sys
from pathlib import Path

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import Client, image, system, text_of, user
from togetherchat_client.cli.arguments import Arguments, UsageError
from togetherchat_client.cli.completion_output import print_stream, print_warnings
from togetherchat_client.cli.completion_request import build_request
from togetherchat_client.cli.exit_codes import ExitCode
from togetherchat_client.cli.proto_json import to_json
from togetherchat_client.cli.terminal import Terminal

STDIN = "-"


def run(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Make one call and print the completion."""
    request = build_request(arguments, _messages(arguments, terminal))
    if arguments.stream:
        _stream(client, request, arguments, terminal)
    else:
        _complete(client, request, arguments, terminal)
    return ExitCode.DONE


def _complete(
    client: Client, request: service.CompleteRequest, arguments: Arguments, terminal: Terminal
) -> None:
    with terminal.progress("waiting"):
        response = client.complete(request)
    if arguments.json:
        terminal.line(to_json(response, pretty=terminal.interactive))
        return
    if arguments.show_reasoning:
        terminal.write_reasoning("".join(choice.message.reasoning for choice in response.choices))
    text = text_of(response)
    terminal.write(text if text.endswith("\n") else f"{text}\n")
    print_warnings(response, terminal)


def _stream(
    client: Client, request: service.CompleteRequest, arguments: Arguments, terminal: Terminal
) -> None:
    with client.stream(request) as stream:
        if arguments.json:
            for event in stream.events():
                terminal.line(to_json(event, pretty=False))
            return
        print_stream(stream, terminal, show_reasoning=arguments.show_reasoning)
    print_warnings(stream.response, terminal)


def _messages(arguments: Arguments, terminal: Terminal) -> list[chat.Message]:
    prompt = _prompt(arguments.prompt, terminal)
    images = [_image(path) for path in arguments.image]
    if not prompt.strip() and not images:
        raise UsageError("the prompt is empty: give a PROMPT, standard input or --image")
    turns = [user(*([prompt] if prompt.strip() else []), *images)]
    return [system(arguments.system), *turns] if arguments.system else turns


def _prompt(words: list[str], terminal: Terminal) -> str:
    """Return the words, joined. `-` is replaced by standard input, as a paragraph of its own.

    Without words standard input is the prompt.
    """
    words = words or [STDIN]
    if words == [STDIN]:
        return _read_stdin(terminal)
    if STDIN not in words:
        return " ".join(words)
    position = words.index(STDIN)
    before, after = " ".join(words[:position]), " ".join(words[position + 1 :])
    return "\n\n".join(part for part in (before, _read_stdin(terminal), after) if part)


def _read_stdin(terminal: Terminal) -> str:
    if sys.stdin.isatty():
        terminal.note("reading the prompt from standard input; end it with Ctrl-D")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("standard input is not UTF-8 text") from exc


def _image(path: Path) -> chat.Image:
    try:
        return image(path)
    except OSError as exc:
        raise UsageError(f"--image: cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"--image: {path}: the supported types are .png, .jpg, .gif and .webp") from exc
