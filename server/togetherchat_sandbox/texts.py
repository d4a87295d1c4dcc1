"""What the sandbox says: the words of an answer and of the thinking before it.

Plainly made up, always the same for the same request. Owns the sentences and the `echo:` rule
that demonstrations and tests rely on; knows no tokens and no wire.
"""

import re

from togetherchat_sandbox.patterns import literal
from togetherchat_sandbox.request import ChatRequest, Format
from togetherchat_sandbox.schema import instance
from togetherchat_sandbox.wire import JsonObject, encode

QUOTE_CHARACTERS_MAX = 60

_EXACTLY = re.compile(r"(?:echo|say): ?(.*)", re.DOTALL)

_SENTENCES = (
    "This is a simulated answer: no model was asked. You wrote “{quote}”; a real one would be of use now.",
    "The sandbox read “{quote}” and made this answer up. It costs nothing and knows nothing.",
    "Simulated answer. A question such as “{quote}” deserves a real model; this is only the sandbox.",
    "You asked “{quote}”. The sandbox answers everything, always politely, and never knows why.",
    "Here speaks the sandbox, not a model. It has noted “{quote}” and wishes you a pleasant day.",
    "A simulated reply to “{quote}”: every token is paced like a real one, and none of them was thought.",
)

_THOUGHTS = (
    "The user says “{quote}”. I am a simulation, so I should answer briefly and say so.",
    "We need to answer “{quote}”. There is no model here. A short, honest sentence will do.",
    "Let me think about “{quote}”. Nothing is known, so the answer must be simulated.",
)


def answer_text(request: ChatRequest, chance: int) -> str:
    """The content of one choice; `chance` picks among the ways to say it."""
    answering_tool = request.messages[-1].role == "tool"
    exact = _EXACTLY.fullmatch(request.last_user_text)
    if exact and not answering_tool:
        return exact.group(1)
    match request.format:
        case Format.TEXT:
            return _tool_answer(request) if answering_tool else _sentence(request, chance)
        case Format.JSON_OBJECT if not request.schema:
            plain: JsonObject = {"simulated": True, "answer": _sentence(request, chance)}
            return encode(plain).decode()
        case Format.JSON_OBJECT | Format.JSON_SCHEMA:
            return encode(instance(request.schema)).decode()
        case Format.REGEX:
            return literal(request.pattern)


def thought_text(request: ChatRequest, chance: int) -> str:
    """What a model that thinks first thinks."""
    return _THOUGHTS[chance % len(_THOUGHTS)].format(quote=_quote(request.last_user_text))


def is_exact(request: ChatRequest) -> bool:
    """Whether the last user message dictates the answer."""
    return _EXACTLY.fullmatch(request.last_user_text) is not None


def _sentence(request: ChatRequest, chance: int) -> str:
    said = _SENTENCES[chance % len(_SENTENCES)].format(quote=_quote(request.last_user_text))
    attachments = sum(message.attachments for message in request.messages)
    return f"{said} Attachments seen: {attachments}." if attachments else said


def _tool_answer(request: ChatRequest) -> str:
    return f"The tool answered “{_quote(request.messages[-1].text)}”, says the sandbox."


def _quote(text: str) -> str:
    """The beginning of `text` on one line."""
    line = " ".join(text[: 4 * QUOTE_CHARACTERS_MAX].split())
    if len(line) <= QUOTE_CHARACTERS_MAX:
        return line
    return line[:QUOTE_CHARACTERS_MAX].rsplit(" ", 1)[0] + "…"
