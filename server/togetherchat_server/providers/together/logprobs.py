"""Translates log probabilities: three shapes of the provider to one message per token.

Together returns parallel arrays, streams a bare number per chunk, and engines that copy OpenAI send a
list of objects. Source: the API reference and the logprobs guide of docs.together.ai.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import TypeVar

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.providers.together import schema
from togetherchat_server.providers.together.split_characters import CharacterJoiner, whole

T = TypeVar("T")

_Alternatives = Mapping[str, float | None] | None
_Join = Callable[[str], str]
"""Joins the characters that were cut between two tokens: the second of them gets the whole character."""


def from_response(logprobs: schema.ResponseLogprobs | float | None) -> list[chat.TokenLogprob]:
    """Return the tokens of a unary choice or an echoed prompt. Empty for a bare number: it names no token."""
    if not isinstance(logprobs, schema.ResponseLogprobs):
        return []
    return _from_lists(logprobs, CharacterJoiner().feed)


def from_chunk(choice: schema.ChunkChoice, *, text: str, join: _Join) -> list[chat.TokenLogprob]:
    """Return the tokens of one chunk. A bare number belongs to the chunk's own token, which is `text`."""
    if isinstance(choice.logprobs, schema.ResponseLogprobs):
        return _from_lists(choice.logprobs, join)
    delta = choice.delta or schema.ResponseMessage()
    token = chat.TokenLogprob(
        token=text,
        token_id=delta.token_id,
        logprob=choice.logprobs,
        top_logprobs=_top(choice.top_logprobs),
    )
    return [token]


def _from_lists(logprobs: schema.ResponseLogprobs, join: _Join) -> list[chat.TokenLogprob]:
    if logprobs.content is not None:
        return [_from_entry(entry, join) for entry in logprobs.content]
    return _from_arrays(logprobs, join)


def _from_arrays(logprobs: schema.ResponseLogprobs, join: _Join) -> list[chat.TokenLogprob]:
    """One entry per element of `tokens`; the other arrays may be shorter, or absent."""
    tokens = logprobs.tokens or []
    rows = zip(
        tokens,
        _padded(logprobs.token_logprobs),
        _padded(logprobs.token_ids),
        _padded(_by_position(logprobs.top_logprobs, tokens)),
        strict=False,
    )
    return [
        chat.TokenLogprob(token=join(token), token_id=token_id, logprob=logprob, top_logprobs=_top(top))
        for token, logprob, token_id, top in rows
    ]


def _padded(values: Iterable[T | None] | None) -> Iterable[T | None]:
    return chain(values or (), repeat(None))


def _by_position(
    top: Sequence[_Alternatives] | Mapping[str, float | None] | None, tokens: Sequence[str]
) -> Sequence[_Alternatives]:
    """Return the alternatives of each token.

    The guide shows an array with a map for each position. The API reference has one map for all
    tokens: with one token that is unambiguous, with several each gets only its own entry.
    """
    if not isinstance(top, Mapping):
        return top or ()
    if len(tokens) == 1:
        return (top,)
    return [{token: top[token]} if token in top else None for token in tokens]


def _top(alternatives: _Alternatives) -> list[chat.TopLogprob]:
    ranked = sorted((alternatives or {}).items(), key=_likelihood, reverse=True)
    return [chat.TopLogprob(token=token, logprob=logprob) for token, logprob in ranked]


def _likelihood(alternative: tuple[str, float | None]) -> float:
    return float("-inf") if alternative[1] is None else alternative[1]


def _from_entry(entry: schema.TokenLogprobEntry, join: _Join) -> chat.TokenLogprob:
    return chat.TokenLogprob(
        token=join(entry.token),
        logprob=entry.logprob,
        bytes=_bytes(entry),
        top_logprobs=[
            chat.TopLogprob(token=whole(top.token), logprob=top.logprob, bytes=_bytes(top))
            for top in entry.top_logprobs or ()
        ],
    )


def _bytes(entry: schema.TopLogprobEntry) -> bytes | None:
    return None if entry.bytes is None else bytes(entry.bytes)
