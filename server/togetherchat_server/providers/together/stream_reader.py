"""Turns the bytes of Together's event stream into events of our stream.

Owns Together's use of SSE: the `[DONE]` mark and the event named `error`.
"""

from typing import Final, final

from togetherchat_server.domain.call import EventBatch
from togetherchat_server.domain.reasons import ServiceError
from togetherchat_server.domain.secret import Secret
from togetherchat_server.providers.together import errors, schema
from togetherchat_server.providers.together.error_body import ErrorBody
from togetherchat_server.providers.together.stream import ChatStreamTranslator
from togetherchat_server.upstream.sse import SseDecoder

DONE: Final = b"[DONE]"
ERROR_EVENT: Final = "error"


@final
class StreamReader:
    """Feed bytes, pop events; `done` is true once `[DONE]` was received."""

    def __init__(
        self,
        *,
        max_event_bytes: int,
        caller_brought_key: bool,
        model: str,
        secrets: tuple[Secret, ...],
        call_id: str = "",
    ) -> None:
        """`call_id` is the completion's id if the provider sends none. `caller_brought_key`, `model` and
        `secrets` are for errors inside the stream, see `errors`.
        """
        self._caller_brought_key = caller_brought_key
        self._model = model
        self._secrets = secrets
        self._decoder = SseDecoder(max_event_bytes=max_event_bytes)
        self._comments = 0
        self.translator = ChatStreamTranslator(
            caller_brought_key=caller_brought_key, call_id=call_id, secrets=secrets
        )
        self.done = False

    def feed(self, data: bytes) -> None:
        """Read bytes.

        Raises:
            ServiceError: the stream carries an error or cannot be read. Earlier events can still be popped.
        """
        for event in self._decoder.feed(data):
            if event.data.startswith(DONE):
                self.done = True
                return
            if event.name == ERROR_EVENT:
                raise self._error_event(event.data)
            self.translator.feed(schema.parse_chunk(event.data))

    def pop_events(self, model: str) -> EventBatch:
        """Return the events since the last call. Some engines do not name the model that serves the
        request: `model` is then reported.
        """
        events = self.translator.pop_events()
        if events and events[0].HasField("started") and not events[0].started.model:
            events[0].started.model = model
        return events

    def pop_comments(self) -> bool:
        """Return whether comments were read since the last call: the provider's sign of life."""
        before, self._comments = self._comments, self._decoder.comments
        return self._comments > before

    def _error_event(self, data: bytes) -> ServiceError:
        """Return the error of an event named `error`, whatever its shape."""
        return errors.from_stream_error(
            schema.parse_error(data) or ErrorBody(),
            caller_brought_key=self._caller_brought_key,
            model=self._model,
            secrets=self._secrets,
        )
