"""The sandbox's words: the text of a completion and of the reasoning before it.

Plainly simulated, and always the same for the same request. Owns the sentences and the `echo:`
rule that demonstrations and tests rely on; knows neither tokens nor the encoding.
"""

import re

from togetherchat_sandbox.encoding import JsonObject, encode
from togetherchat_sandbox.json_prompts import find_json_prompt, without_json
from togetherchat_sandbox.json_schema_sample import json_sample
from togetherchat_sandbox.literals import Literals, scalar_names
from togetherchat_sandbox.regex_sample import regex_sample
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.schema import OutputFormat

QUOTE_CHARACTERS_MAX = 60

_ECHO = re.compile(r"(?:echo|say): ?(.*)", re.DOTALL)

_SENTENCES = (
    "This is a simulated answer: no model was asked. You wrote “{quote}”; a real answer needs a real model.",
    "The sandbox received “{quote}” and invented this answer. It costs nothing and knows nothing.",
    "Simulated answer. A question such as “{quote}” deserves a real model; this is only the sandbox.",
    "You asked “{quote}”. The sandbox answers every question, always politely, and knows no answer.",
    "This answer is from the sandbox, not from a model. You wrote “{quote}”. Have a pleasant day.",
    "A simulated reply to “{quote}”: each token is sent at the pace of a real model.",
)

_REASONING = (
    "The user says “{quote}”. I am a simulation, so I should answer briefly and say so.",
    "We need to answer “{quote}”. There is no model here. A short, honest sentence will do.",
    "Let me think about “{quote}”. Nothing is known, so the answer must be simulated.",
)


def completion_text(request: ChatRequest, bits: int) -> str:
    """Return the content of one choice; `bits` selects the sentence."""
    follows_tool = request.messages[-1].role == "tool"
    echo = _ECHO.fullmatch(request.last_user_text)
    if echo and not follows_tool:
        return echo.group(1)
    match request.format:
        case OutputFormat.TEXT:
            plain = _quote_tool(request) if follows_tool else _sentence(request, bits)
            return _prompted_json(request, fences=True) or plain
        case OutputFormat.JSON_OBJECT if not request.schema:
            simulated: JsonObject = {"simulated": True, "answer": _sentence(request, bits)}
            return _prompted_json(request, fences=False) or encode(simulated).decode()
        case OutputFormat.JSON_OBJECT | OutputFormat.JSON_SCHEMA:
            return _json(request, request.schema)
        case OutputFormat.REGEX:
            return regex_sample(request.pattern)


def reasoning_text(request: ChatRequest, bits: int) -> str:
    """Return the reasoning of one choice; `bits` selects the sentence."""
    return _REASONING[bits % len(_REASONING)].format(quote=_quote(request.last_user_text))


def dictates_completion(request: ChatRequest) -> bool:
    """Return whether the last user message dictates the completion."""
    return _ECHO.fullmatch(request.last_user_text) is not None


def _prompted_json(request: ChatRequest, *, fences: bool) -> str:
    """Return the JSON that the current turn or the instructions describe, or an empty text."""
    roles = {"system", "developer"}
    instructions = [message.text for message in request.messages if message.role in roles]
    prompt = find_json_prompt([request.user_words, *reversed(instructions)])
    if prompt is None:
        return ""
    text = _json(request, prompt.schema)
    return f"```json\n{text}\n```" if prompt.fenced and fences else text


def _json(request: ChatRequest, schema: JsonObject) -> str:
    words = without_json(request.user_words)
    return encode(json_sample(schema, Literals(words, names=scalar_names(schema)))).decode()


def _sentence(request: ChatRequest, bits: int) -> str:
    sentence = _SENTENCES[bits % len(_SENTENCES)].format(quote=_quote(request.last_user_text))
    attachments = sum(message.attachments for message in request.messages)
    return f"{sentence} Attachments received: {attachments}." if attachments else sentence


def _quote_tool(request: ChatRequest) -> str:
    return f"The tool returned “{_quote(request.messages[-1].text)}”, says the sandbox."


def _quote(text: str) -> str:
    """Return the beginning of `text` on one line."""
    line = " ".join(text[: 4 * QUOTE_CHARACTERS_MAX].split())
    if len(line) <= QUOTE_CHARACTERS_MAX:
        return line
    return line[:QUOTE_CHARACTERS_MAX].rsplit(" ", 1)[0] + "…"
