r"""Builds one string that a regular expression matches, for the `regex` response format.

Best effort: literals, classes, escapes, groups, alternatives (the first is taken) and counts.
Look-arounds and back references yield nothing. The expression is never run, so that none can hang
the sandbox.
"""

TEXT_CHARACTERS_MAX = 4_096
DEPTH_MAX = 32

_ESCAPES = {"d": "7", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t", "r": "\r"}
_ZERO_WIDTH = frozenset("AbBZzG")
_NEGATED_CANDIDATES = "a7-_ .A~"


def regex_sample(pattern: str) -> str:
    """Return a bounded string that `pattern` most likely matches."""
    return _PatternReader(pattern).alternatives(depth=0)


class _PatternReader:
    """Reads a pattern from left to right; each method consumes the construct that it is named after."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self, depth: int) -> str:
        first = self._sequence(depth)
        while self._consume("|"):
            self._sequence(depth)
        return first

    def _sequence(self, depth: int) -> str:
        text = ""
        while self._peek() not in {"", "|", ")"}:
            text += self._counted(self._atom(depth))
        return text[:TEXT_CHARACTERS_MAX]

    def _atom(self, depth: int) -> str:
        character = self._next()
        match character:
            case "(" if depth < DEPTH_MAX:
                return self._group(depth + 1)
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case "^" | "$" | "(":
                return ""
            case ".":
                return "a"
            case _:
                return character

    def _group(self, depth: int) -> str:
        zero_width = self._pattern.startswith(("?=", "?!", "?<=", "?<!", "?#"), self._at)
        if self._consume("?") and not self._consume(":"):
            end = self._pattern.find(">", self._at)
            named = self._pattern.startswith(("P<", "<"), self._at) and not zero_width and end >= 0
            self._at = end + 1 if named else self._at + 1
        text = self.alternatives(depth)
        self._consume(")")
        return "" if zero_width else text

    def _class(self) -> str:
        negated = self._consume("^")
        members = self._next()
        if members == "\\":
            members = self._escape()
        while self._peek() not in {"", "]"}:
            character = self._next()
            members += self._escape() if character == "\\" else character
        self._consume("]")
        if not negated:
            return members[:1]
        return next((candidate for candidate in _NEGATED_CANDIDATES if candidate not in members), "a")

    def _escape(self) -> str:
        character = self._next()
        if character in _ZERO_WIDTH or character.isdigit():
            return ""
        return _ESCAPES.get(character, character)

    def _counted(self, text: str) -> str:
        times = 1
        if self._peek() in {"*", "+", "?"}:
            self._next()
        elif self._peek() == "{" and (end := self._pattern.find("}", self._at)) > 0:
            least = self._pattern[self._at + 1 : end].split(",")[0].strip()
            if least.isdecimal():
                self._at, times = end + 1, min(int(least[:6]), TEXT_CHARACTERS_MAX)
        if self._peek() in {"?", "+"}:
            self._next()
        return (text * times)[:TEXT_CHARACTERS_MAX]

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _consume(self, character: str) -> bool:
        matches = self._peek() == character
        self._at += matches
        return matches
