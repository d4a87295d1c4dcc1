r"""Joins the characters that a provider cut in two between the texts of one field.

A model may generate one character in two tokens, and each token is a JSON text of its own. Engines then
send half of a surrogate pair as an escape (`\ud83d`), or the first bytes of a character without the
others. Neither is a text that can be passed on, so a half at the end of a text waits for the next text.

In a text of this module, half of a pair is a surrogate, and a byte that is not UTF-8 is the surrogate
that Python's error handler `surrogateescape` makes of it (U+DC80 to U+DCFF).
"""

import codecs
import re
from typing import Final, final

REPLACEMENT: Final = "\ufffd"
"""Stands for what is not part of a character."""

_HALF: Final = re.compile("[\ud800-\udfff]")
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES: Final = re.compile("[\udc80-\udcff]+")
_LAST_HIGH: Final = re.compile(r"[\ud800-\udbff]\Z")


@final
class CharacterJoiner:
    """Feed the texts of one field in order; each result can be encoded."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return the text without a half character at its end, after the half that came before it."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = ""
        try:
            text.encode()  # in half the time of a search
        except UnicodeEncodeError:
            return self._joined(text)
        return text

    def flush(self) -> str:
        """Return what stands for a half that no text completed; empty if there is none."""
        held, self._held = self._held, ""
        return REPLACEMENT if held else ""

    def _joined(self, text: str) -> str:
        text = _BYTES.sub(self._decoded, _PAIR.sub(_character, text))
        if _LAST_HIGH.search(text):
            text, self._held = text[:-1], text[-1]
        return _HALF.sub(REPLACEMENT, text)

    def _decoded(self, run: re.Match[str]) -> str:
        """Return the characters of bytes. At the end of the text, those of an incomplete one are held."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        at_end = run.end() == len(run.string)
        decoded = decoder.decode(run[0].encode("utf-8", "surrogateescape"), final=not at_end)
        incomplete, _ = decoder.getstate()
        self._held = incomplete.decode("utf-8", "surrogateescape")
        return decoded


def whole(text: str) -> str:
    """Return a text that nothing continues: what is half a character in it is replaced."""
    joiner = CharacterJoiner()
    return joiner.feed(text) + joiner.flush()


def _character(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")
