"""Log probabilities: three shapes of the wire, one message a token.

Together answers with parallel arrays, streams a bare number a chunk, and engines that copy
OpenAI send a list of objects. Source: the API reference and the logprobs guide of
docs.together.ai.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import TypeVar

from togetherchat.v1 import chat_pb2 as chat
from togetherchat_server.providers.together import schema

T = TypeVar("T")

_Alternatives = Mapping[str, float | None] | None


def of_answer(logprobs: schema.Logprobs | float | None) -> list[chat.TokenLogprob]:
    """The tokens of a whole answer or an echoed prompt. A bare number names no token: none."""
    if not isinstance(logprobs, schema.Logprobs):
        return []
    if logprobs.content is not None:
        return [_of_entry(entry) for entry in logprobs.content]
    return _of_arrays(logprobs)


def of_fragment(choice: schema.ChunkChoice) -> list[chat.TokenLogprob]:
    """The tokens of one chunk. A bare number belongs to the chunk's own token."""
    if choice.logprobs is None or isinstance(choice.logprobs, schema.Logprobs):
        return of_answer(choice.logprobs)
    delta = choice.delta or schema.Message()
    token = chat.TokenLogprob(
        token=delta.content or delta.reasoning or delta.reasoning_content or "",
        token_id=delta.token_id,
        logprob=choice.logprobs,
        top=_top(choice.top_logprobs),
    )
    return [token]


def _of_arrays(logprobs: schema.Logprobs) -> list[chat.TokenLogprob]:
    """As many as there are `tokens`; the other arrays may be shorter, or absent."""
    tokens = logprobs.tokens or []
    rows = zip(
        tokens,
        _endless(logprobs.token_logprobs),
        _endless(logprobs.token_ids),
        _endless(_by_place(logprobs.top_logprobs, tokens)),
        strict=False,
    )
    return [
        chat.TokenLogprob(token=token, token_id=token_id, logprob=logprob, top=_top(top))
        for token, logprob, token_id, top in rows
    ]


def _endless(values: Iterable[T | None] | None) -> Iterable[T | None]:
    return chain(values or (), repeat(None))


def _by_place(
    top: Sequence[_Alternatives] | Mapping[str, float | None] | None, tokens: Sequence[str]
) -> Sequence[_Alternatives]:
    """The alternatives of each token.

    The guide shows an array with a map for each place. The API reference has one map for
    all: that is unambiguous for one token, and of several each can only claim its own entry.
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


def _of_entry(entry: schema.TokenEntry) -> chat.TokenLogprob:
    return chat.TokenLogprob(
        token=entry.token,
        logprob=entry.logprob,
        bytes=_bytes(entry),
        top=[
            chat.TopLogprob(token=top.token, logprob=top.logprob, bytes=_bytes(top))
            for top in entry.top_logprobs or ()
        ],
    )


def _bytes(entry: schema.TopEntry) -> bytes | None:
    return None if entry.bytes is None else bytes(entry.bytes)
