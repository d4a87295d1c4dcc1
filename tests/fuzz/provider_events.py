"""Builds a provider's stream from a tape: chunks in every observed form, and in some others.

Records the text that was sent, so that a test can compare it with the text that arrives.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, final

from fuzz.tape import Tape

Json = dict[str, object]

EVENTS_MAX: Final = 48
HIGH: Final = "\ud83d"
LOW: Final = "\ude00"
"""The halves of an emoji, in turn; JSON has them as escapes."""
LINE_ENDS: Final = ("\n", "\r\n", "\r")

ABSENT: Final = object()
INDEXES: Final = (0, 0, 0, 1, ABSENT, None, 2, 65_535, 65_536, -1, "first")
ROLES: Final = ("assistant", ABSENT, "", None, "tool", 7)
FINISH_REASONS: Final = (None, "stop", ABSENT, "", "tool_calls", "length", "eos", "moonlight", 7)
SEEDS: Final = (ABSENT, None, 7, 2**64 - 1, 2**64, -1, 1.5924764223251450e19, 0.5, "7")
COUNTS: Final = (ABSENT, None, 0, 12, 2**31 - 1, 2**31, -1, 1.5, "12")
LOGPROBS: Final = (
    ABSENT,
    None,
    -0.25,
    {"tokens": ["a", "b"], "token_logprobs": [-0.5, None]},
    {"tokens": ["a"], "token_ids": [5], "top_logprobs": [{"a": -0.5, "b": -1.5}]},
    {"tokens": ["a"], "top_logprobs": {"a": -0.5}},
    {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]},
    {"content": [{"token": 1}]},
    "many",
)
HEADS: Final[tuple[Json, ...]] = (
    {"id": "r", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "m"},
    {},
    {"id": None, "created": 0, "model": ""},
    {"id": 7, "created": -1, "model": ["m"], "system_fingerprint": {}},
    {"id": "r", "created": 253_402_300_800, "warnings": ["slow", {"message": "old"}, 3]},
)
ERRORS: Final = (
    {"error": {"message": "no", "type": "server_error", "code": None}},
    {"error": "no"},
    {"object": "error", "message": "no", "code": 429},
    {"error": {"message": "model `m` does not exist", "code": "model_not_available"}},
    {"error": None},
    {"error": {}},
    {"error": ["no"]},
)
NAMES: Final = ("", "get_weather", None, "f", 7)
IDS: Final = (ABSENT, "call_1", "", "call_2", None, 7)
DONE: Final = ("[DONE]", "[DONE] ", "[DONE]x")


@final
class Sender:
    """Renders events until the tape ends or decides to stop."""

    def __init__(self, tape: Tape) -> None:
        self.sent: defaultdict[tuple[int, str], str] = defaultdict(str)
        """The text by choice and field, `content` or `reasoning`, with halves of characters."""
        self.plain = True
        """Whether `sent` is complete: no raw bytes were sent."""
        self._tape = tape
        self._line_end = tape.pick(LINE_ENDS)
        self._ascii_only = bool(tape.number(1))
        self._done = False
        self._half = HIGH
        self._reasoning_keys: dict[int, str] = {}

    def stream(self) -> bytes:
        events: list[bytes] = []
        kinds: tuple[Callable[[], bytes], ...] = (
            *(self._chunk,) * 8, self._comment, self._usage, self._named, self._raw, self._error, self._end,
        )  # fmt: skip
        while not self._tape.ended and len(events) < EVENTS_MAX:
            events.append(self._tape.pick(kinds)())
        if self._tape.number(3) == 0:  # also true once the tape has ended
            events.append(self._end())
        return b"".join(events)

    def _chunk(self) -> bytes:
        choices = [self._choice(position) for position in range((1, 1, 1, 0, 2, 3)[self._tape.number(5)])]
        return self._event({**self._head(), "choices": choices})

    def _choice(self, position: int) -> Json:
        tape = self._tape
        index = tape.pick(INDEXES)
        number = index if isinstance(index, int) and 0 <= index <= 65_535 else position
        return _present(
            {
                "index": index,
                "delta": self._delta(number),
                "finish_reason": tape.pick(FINISH_REASONS),
                "seed": tape.pick(SEEDS) if tape.number(7) == 7 else ABSENT,
                "logprobs": tape.pick(LOGPROBS) if tape.number(7) == 7 else ABSENT,
                "usage": self._counts() if tape.number(15) == 15 else ABSENT,
                "text": "copy",
            }
        )

    def _delta(self, number: int) -> object:
        tape = self._tape
        kind = tape.number(15)
        if kind == 15:
            return tape.pick((None, ABSENT, {}, [], "delta"))
        delta: Json = {"role": tape.pick(ROLES)}
        if kind in {0, 1, 2, 3, 4, 5, 13}:
            delta["content"] = self._text(number, "content")
        if kind in {6, 7, 8, 13}:
            delta[tape.pick(("reasoning", "reasoning_content"))] = self._text(number, "reasoning")
        if kind in {9, 10, 11, 13}:
            delta["tool_calls"] = [self._tool_call() for _ in range(1 + tape.number(2))]
        if kind == 14:
            delta[tape.pick(("content", "reasoning", "tool_calls"))] = tape.pick(
                (None, "", 7, ["x"], {}, [7])
            )
        return _present(delta)

    def _text(self, number: int, kind: str) -> str:
        text = self._tape.text()
        if self._ascii_only:
            text = text.replace("\ufffd", self._half)
            self._half = LOW if self._half == HIGH else HIGH
        if not self._done:
            self.sent[number, kind] += text
        return text

    def _tool_call(self) -> Json:
        tape = self._tape
        function = {"name": tape.pick(NAMES), "arguments": tape.pick(("{", "}", "", None, ABSENT))}
        index = tape.pick((0, ABSENT, 1, None, 2, -1, 65_536))
        return _present(
            {
                "index": index,
                "id": tape.pick(IDS),
                "function": tape.pick((_present(function), _present(function), None, ABSENT, "f")),
            }
        )

    def _head(self) -> Json:
        return self._tape.pick(HEADS)

    def _counts(self) -> object:
        tape = self._tape
        names = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
        return tape.pick((_present({name: tape.pick(COUNTS) for name in names}), None, "none", []))

    def _usage(self) -> bytes:
        return self._event({**self._head(), "choices": [], "usage": self._counts()})

    def _error(self) -> bytes:
        return self._event(self._tape.pick(ERRORS))

    def _named(self) -> bytes:
        name = self._tape.pick(("error", "message", "ping"))
        return f"event: {name}{self._line_end}".encode() + self._event(self._tape.pick(ERRORS))

    def _comment(self) -> bytes:
        return f": keepalive{self._line_end * (1 + self._tape.number(1))}".encode()

    def _raw(self) -> bytes:
        self.plain = False
        return self._tape.read(self._tape.number(63)) + self._line_end.encode() * 2

    def _end(self) -> bytes:
        self._done = True
        return f"data: {self._tape.pick(DONE)}{self._line_end * 2}".encode()

    def _event(self, body: Mapping[str, object]) -> bytes:
        text = json.dumps(body, ensure_ascii=self._ascii_only)
        return f"data: {text}{self._line_end * 2}".encode()


def _present(fields: Mapping[str, object]) -> Json:
    return {name: value for name, value in fields.items() if value is not ABSENT}
