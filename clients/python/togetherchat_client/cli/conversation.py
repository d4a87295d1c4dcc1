"""The messages of a chat, and the call for the next completion.

A stopped completion stays part of the conversation. A user message without any completion text is
dropped, so that it can be sent again.
"""

import json
import time

from google.protobuf.json_format import MessageToDict

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import Client, assistant, system, text_of, user
from togetherchat_client.cli.arguments import Arguments
from togetherchat_client.cli.completion_output import print_stream, print_warnings, summary
from togetherchat_client.cli.completion_request import build_request
from togetherchat_client.cli.interrupts import InterruptHandler
from togetherchat_client.cli.terminal import Terminal


class Conversation:
    """A conversation with one model at a time."""

    def __init__(
        self, client: Client, arguments: Arguments, terminal: Terminal, interrupts: InterruptHandler
    ) -> None:
        self._client = client
        self._arguments = arguments
        self._terminal = terminal
        self._turns: list[chat.Message] = []
        self.interrupts = interrupts
        self.model = arguments.model
        self.system = arguments.system

    def send(self, text: str) -> None:
        """Send `text` as a user message, print the completion, and keep both."""
        message = user(text)
        started_s = time.monotonic()
        request = build_request(self._arguments, [*self._messages(), message], model=self.model)
        with self._client.stream(request) as stream, self.interrupts.cancelling(stream.cancel):
            try:
                print_stream(stream, self._terminal, show_reasoning=self._arguments.show_reasoning)
            finally:
                self._keep(message, stream.response)
        print_warnings(stream.response, self._terminal)
        self._terminal.note(summary(stream.response, elapsed_s=time.monotonic() - started_s))

    def clear(self) -> None:
        """Forget all messages. The system message stays."""
        self._turns.clear()

    def as_json(self) -> str:
        """Return the conversation as a JSON list of messages, with the field names of the protos."""
        turns = [MessageToDict(turn, preserving_proto_field_name=True) for turn in self._messages()]
        return json.dumps(turns, ensure_ascii=False, indent=2) + "\n"

    def _messages(self) -> list[chat.Message]:
        return [system(self.system), *self._turns] if self.system else self._turns

    def _keep(self, message: chat.Message, response: service.CompleteResponse) -> None:
        text = text_of(response)
        if text:
            self._turns += [message, assistant(text)]
