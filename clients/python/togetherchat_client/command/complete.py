"""`togetherchat complete`: one question, one answer."""

import sys
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import Client, image, system, text_of, user
from togetherchat_client.command.answers import request_of, show_stream, warn_of
from togetherchat_client.command.arguments import Arguments, UsageError
from togetherchat_client.command.failures import Exit
from togetherchat_client.command.terminal import Terminal

STDIN = "-"


def run(client: Client, arguments: Arguments, terminal: Terminal) -> Exit:
    """Ask once and print the answer."""
    request = request_of(arguments, _messages(arguments, terminal))
    if arguments.stream:
        _stream(client, request, arguments, terminal)
    else:
        _whole(client, request, arguments, terminal)
    return Exit.DONE


def json_of(message: Message, *, pretty: bool) -> str:
    """`message` as JSON with the names of the protos; 64-bit numbers are strings, as ProtoJSON has them."""
    return MessageToJson(message, preserving_proto_field_name=True, indent=2 if pretty else None)


def _whole(
    client: Client, request: service.CompleteRequest, arguments: Arguments, terminal: Terminal
) -> None:
    with terminal.waiting("waiting"):
        response = client.complete(request)
    if arguments.json:
        terminal.line(json_of(response, pretty=terminal.interactive))
        return
    if arguments.thinking:
        terminal.aside("".join(choice.message.reasoning for choice in response.choices))
    text = text_of(response)
    terminal.write(text if text.endswith("\n") else f"{text}\n")
    warn_of(response, terminal)


def _stream(
    client: Client, request: service.CompleteRequest, arguments: Arguments, terminal: Terminal
) -> None:
    with client.stream(request) as stream:
        if arguments.json:
            for event in stream.events():
                terminal.line(json_of(event, pretty=False))
            return
        show_stream(stream, terminal, thinking=arguments.thinking)
    warn_of(stream.response, terminal)


def _messages(arguments: Arguments, terminal: Terminal) -> list[chat.Message]:
    prompt = _prompt(arguments.prompt, terminal)
    pictures = [_picture(path) for path in arguments.image]
    if not prompt.strip() and not pictures:
        raise UsageError("the prompt is empty")
    turns = [user(*([prompt] if prompt.strip() else []), *pictures)]
    return [system(arguments.system), *turns] if arguments.system else turns


def _prompt(words: list[str], terminal: Terminal) -> str:
    """The words in a row. Standard input stands where `-` is, in a paragraph of its own, or for them all."""
    words = words or [STDIN]
    if words == [STDIN]:
        return _read_stdin(terminal)
    if STDIN not in words:
        return " ".join(words)
    place = words.index(STDIN)
    before, after = " ".join(words[:place]), " ".join(words[place + 1 :])
    return "\n\n".join(part for part in (before, _read_stdin(terminal), after) if part)


def _read_stdin(terminal: Terminal) -> str:
    if sys.stdin.isatty():
        terminal.note("reading the prompt; end it with Ctrl-D")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("standard input is not text in UTF-8") from exc


def _picture(path: Path) -> chat.Image:
    try:
        return image(path)
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"{path}: only .png, .jpg, .gif and .webp are known") from exc
