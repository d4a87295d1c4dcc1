"""The conversation of a chat: what was said, and how the next answer is had.

What came of an answer that was stopped stays part of the conversation. A question that got
no answer at all does not: it can be asked again.
"""

import json
import time

from google.protobuf.json_format import MessageToDict

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat_client import Client, assistant, system, text_of, user
from togetherchat_client.command.answers import request_of, show_stream, summary_of, warn_of
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.interrupts import Interrupts
from togetherchat_client.command.terminal import Terminal


class Session:
    """A conversation with one model at a time."""

    def __init__(
        self, client: Client, arguments: Arguments, terminal: Terminal, interrupts: Interrupts
    ) -> None:
        self._client = client
        self._arguments = arguments
        self._terminal = terminal
        self._turns: list[chat.Message] = []
        self.interrupts = interrupts
        self.model = arguments.model
        self.system = arguments.system

    def ask(self, text: str) -> None:
        """Print the answer to `text` and remember both."""
        question = user(text)
        begun_s = time.monotonic()
        request = request_of(self._arguments, [*self._messages(), question], model=self.model)
        with self._client.stream(request) as stream, self.interrupts.answering(stream.cancel):
            try:
                show_stream(stream, self._terminal, thinking=self._arguments.thinking)
            finally:
                self._remember(question, stream.response)
        warn_of(stream.response, self._terminal)
        self._terminal.note(summary_of(stream.response, elapsed_s=time.monotonic() - begun_s))

    def clear(self) -> None:
        """Forget what was said."""
        self._turns.clear()

    def as_json(self) -> str:
        """The conversation as a JSON list of messages, with the names of the protos."""
        turns = [MessageToDict(turn, preserving_proto_field_name=True) for turn in self._messages()]
        return json.dumps(turns, ensure_ascii=False, indent=2) + "\n"

    def _messages(self) -> list[chat.Message]:
        return [system(self.system), *self._turns] if self.system else self._turns

    def _remember(self, question: chat.Message, response: service.CompleteResponse) -> None:
        text = text_of(response)
        if text:
            self._turns += [question, assistant(text)]
