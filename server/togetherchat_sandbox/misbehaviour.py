"""The names that misbehave on purpose: one table, name -> what it does and the sentence that says so.

`GET /sandbox`, the model list and the page in the documentation are made from it. A name with a
capital word in it (`error-429-xN`) is a family; its `example` is what the model list shows.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from togetherchat_sandbox import pacing, refusals, spoiling, styles
from togetherchat_sandbox.answers import Wishes
from togetherchat_sandbox.behaviour import ORDINARY, PREFIX, Behaviour, Name
from togetherchat_sandbox.refusals import REFUSALS
from togetherchat_sandbox.reply import Ending
from togetherchat_sandbox.spoiling import Spoil

TOKENS_BEFORE_FAULT = 3
LONG_TOKENS = 10_000
LONG_TOKENS_MAX = 1_000_000
RETRY_AFTER_MS = 50


def behaviour_of(model: str) -> Behaviour:
    """What a model's name asks for; ordinary behaviour for every name that is not in the table."""
    if not model.startswith(PREFIX):
        return ORDINARY
    called = model.removeprefix(PREFIX)
    for row in NAMES:
        if isinstance(row.does, Behaviour):
            if row.name == called:
                return row.does
        elif row.pattern and (match := row.pattern.fullmatch(called)):
            return row.does(match)
    return ORDINARY


def table_markdown() -> str:
    """The table as the documentation shows it."""
    rows = (f"| `{PREFIX}{row.name}` | {row.says} |" for row in NAMES)
    return "\n".join(("| model | what happens |", "|---|---|", *rows)) + "\n"


def _both(spoil: Spoil) -> Behaviour:
    return Behaviour(stream=spoil, unary=spoil)


def _after(tokens: int, ending: Ending) -> Behaviour:
    return Behaviour(stream=spoiling.after_tokens(tokens, ending), unary=spoiling.after_half(ending))


def _stream_error(tokens: int) -> Behaviour:
    return Behaviour(stream=spoiling.stream_error(tokens), unary=spoiling.server_error)


def _long(tokens: int) -> Behaviour:
    wishes = Wishes(tokens=min(tokens, LONG_TOKENS_MAX))
    return Behaviour(wishes=wishes, pacing=pacing.only_as_set)


def _first_refused(match: re.Match[str]) -> Behaviour:
    key, times = match.groups()
    refusal = REFUSALS.get(key) or refusals.of_status(int(key[:3]))
    if refusal.status == 429:
        refusal = replace(refusal, headers={"retry-after-ms": str(RETRY_AFTER_MS)})
    return Behaviour(refusal=refusal, refusals_max=int(times))


_ERROR_SENTENCES: Mapping[str, str] = {
    "400": "400, the request is not valid.",
    "401": "401 `invalid_api_key`.",
    "402": "402 `credit_limit`: the account has no money left.",
    "403": "403 in JSON: not allowed.",
    "403-html": "403 as a web page, as the edge blocks clients it does not like.",
    "404": "404 `model_not_available`: there is no such model.",
    "408": "408, the request took too long to arrive.",
    "409": "409, a conflict.",
    "413": "413, the request is too large.",
    "422": "422, the request cannot be processed.",
    "429": "429 `dynamic_request_limited`, with `retry-after: 1` and `x-ratelimit-reset: 1`.",
    "429-tokens": "429 `dynamic_token_limited`, with the same hints.",
    "429-2024": "429 as in 2024: a rate limit that calls itself `credit_limit`.",
    "429-quota": "429 `insufficient_quota`: waiting does not help.",
    "500": "500 `server_error`.",
    "501": "501, not implemented.",
    "502": "502 as a web page of the edge.",
    "503": "503, overloaded.",
    "504": "504, the request timed out at the provider.",
    "520": "520 as a web page: an unknown error behind the edge.",
    "521": "521 as a web page: the origin is down.",
    "522": "522 as a web page: no connection to the origin in time.",
    "523": "523 as a web page: the origin cannot be reached.",
    "524": "524 as a web page: no answer from the origin in time.",
    "525": "525 as a web page: no TLS to the origin.",
    "526": "526 as a web page: the origin's certificate is not valid.",
    "529": "529, overloaded.",
    "530": "530 as a web page: the origin's name cannot be resolved.",
}

_ERRORS = tuple(
    Name(name=f"error-{key}", says=says, does=Behaviour(refusal=REFUSALS[key]))
    for key, says in _ERROR_SENTENCES.items()
)

_REFUSALS = (
    Name(
        name="error-STATUS",
        says="Any other status from 400 to 599.",
        does=lambda match: Behaviour(refusal=refusals.of_status(int(match[1]))),
        pattern=re.compile(r"error-([45]\d\d)"),
        example="error-418",
    ),
    Name(
        name="error-STATUS-xN",
        says="The first N requests with the same last user message get that error (429 with"
        " `retry-after-ms: 50`), later ones an ordinary answer.",
        does=_first_refused,
        pattern=re.compile(r"error-([45]\d\d(?:-[a-z0-9]+)??)-x(\d{1,4})"),
        example="error-429-x2",
    ),
    Name(
        name="retry-after-date",
        says="429 whose `retry-after` is a date, two seconds ahead.",
        does=Behaviour(refusal=refusals.RETRY_AFTER_DATE),
    ),
    Name(
        name="context-length",
        says="400, the input is longer than the model's context.",
        does=Behaviour(refusal=refusals.CONTEXT_LENGTH),
    ),
    Name(
        name="context-length-403",
        says="The same as the documentation has it: 403.",
        does=Behaviour(refusal=refusals.CONTEXT_LENGTH_403),
    ),
    Name(
        name="context-length-422",
        says="The same as recorded: 422, `inputs` tokens + `max_new_tokens` too many.",
        does=Behaviour(refusal=refusals.CONTEXT_LENGTH_422),
    ),
)

_CONNECTIONS = (
    Name(
        name="reset",
        says="The connection is reset before any header.",
        does=_both(spoiling.unanswered(Ending.RESET)),
    ),
    Name(
        name="stall",
        says="No answer, ever; the connection stays open.",
        does=_both(spoiling.unanswered(Ending.SILENCE)),
    ),
    Name(
        name="stall-after-N",
        says="N tokens, then silence (0: headers only); unary: half of the body, then silence.",
        does=lambda match: _after(int(match[1]), Ending.SILENCE),
        pattern=re.compile(r"stall-after-(\d{1,6})"),
        example="stall-after-3",
    ),
    Name(
        name="cut-body",
        says="Half of the announced body, then the connection closes; a stream loses its connection after"
        " three tokens.",
        does=_after(TOKENS_BEFORE_FAULT, Ending.CUT),
    ),
    Name(
        name="cut-stream",
        says="Three tokens, then the connection is reset; unary: half of the body first.",
        does=_after(TOKENS_BEFORE_FAULT, Ending.RESET),
    ),
    Name(
        name="cut-stream-clean",
        says="Three tokens, then the stream ends as if all were well, without finish reason and `[DONE]`;"
        " unary: an ordinary answer.",
        does=Behaviour(stream=spoiling.after_tokens(TOKENS_BEFORE_FAULT, Ending.CLEAN)),
    ),
    Name(
        name="no-done",
        says="A whole stream with finish reasons and usage, without `[DONE]`; unary: an ordinary answer.",
        does=Behaviour(stream=spoiling.without_done),
    ),
    Name(name="stream-error", says="An error event before any token; unary: 500.", does=_stream_error(0)),
    Name(
        name="stream-error-after-N",
        says="An error event after N tokens; unary: 500.",
        does=lambda match: _stream_error(int(match[1])),
        pattern=re.compile(r"stream-error-after-(\d{1,6})"),
        example="stream-error-after-3",
    ),
)

_BODIES = (
    Name(name="redirect", says="302 to another address.", does=_both(spoiling.redirect)),
    Name(name="html-200", says="200 with a web page.", does=_both(spoiling.html)),
    Name(
        name="wrong-content-type",
        says="The right body, called `text/plain`.",
        does=_both(spoiling.with_headers({"content-type": "text/plain"})),
    ),
    Name(
        name="malformed-json",
        says="200 with broken JSON, even where a stream was asked for.",
        does=_both(spoiling.no_json),
    ),
    Name(
        name="malformed-event",
        says="An event of broken JSON after the first token; unary: broken JSON.",
        does=Behaviour(stream=spoiling.with_torn_event, unary=spoiling.no_json),
    ),
    Name(name="empty-body", says="200 without a body.", does=_both(spoiling.empty)),
    Name(
        name="trailing-bytes",
        says="One more event and noise after `[DONE]`; unary: noise after the JSON.",
        does=Behaviour(
            stream=spoiling.with_late_bytes, unary=spoiling.with_body(lambda body: body + b"\nnoise")
        ),
    ),
    Name(
        name="invalid-utf8",
        says="Bytes in the content that are no UTF-8 (in a stream after the first token).",
        does=Behaviour(
            stream=spoiling.with_event(spoiling.INVALID_UTF8),
            unary=spoiling.with_content(spoiling.INVALID_UTF8),
        ),
    ),
    Name(
        name="lone-surrogate",
        says="Half of a surrogate pair, escaped, in the content (in a stream after the first token).",
        does=Behaviour(
            stream=spoiling.with_event(spoiling.LONE_SURROGATE),
            unary=spoiling.with_content(spoiling.LONE_SURROGATE),
        ),
    ),
    Name(
        name="huge-event",
        says="One event of 2 MiB after the first token; unary: a body of 2 MiB.",
        does=Behaviour(
            stream=spoiling.with_event(b"x", repeated=spoiling.HUGE_EVENT_BYTES),
            unary=spoiling.with_content(b"x", repeated=spoiling.HUGE_EVENT_BYTES),
        ),
    ),
    Name(
        name="huge-body",
        says="A body of 20 MiB; a stream of 40 MiB in events of 512 KiB.",
        does=Behaviour(
            stream=spoiling.with_event(
                b"x", repeated=spoiling.HUGE_BODY_EVENT_BYTES, times=spoiling.HUGE_BODY_EVENTS
            ),
            unary=spoiling.with_content(b"x", repeated=spoiling.HUGE_BODY_BYTES),
        ),
    ),
)

_QUIRKS = (
    Name(
        name="slow",
        says="Two seconds to the first token, then five tokens a second.",
        does=Behaviour(pacing=pacing.slow),
    ),
    Name(name="fast", says="No waiting at all.", does=Behaviour(pacing=pacing.at_once)),
    Name(name="long", says="10,000 tokens, without waiting unless a pace is set.", does=_long(LONG_TOKENS)),
    Name(
        name="long-N",
        says="N tokens (a million at most), without waiting unless a pace is set.",
        does=lambda match: _long(int(match[1])),
        pattern=re.compile(r"long-(\d{1,7})"),
        example="long-500",
    ),
    Name(name="reasoning", says="Thinks first: `reasoning` before the content.", does=ORDINARY),
    Name(
        name="kimi-k3",
        says="As Kimi-K3 tells it: `reasoning_content`, few fields, the role only once, usage inside the"
        " choice unless `include_usage` is set.",
        does=Behaviour(style=styles.KIMI_K3),
    ),
    Name(
        name="trailing-usage",
        says="Usage in a last chunk without choices.",
        does=Behaviour(style=styles.TRAILING_USAGE),
    ),
    Name(
        name="keepalive",
        says="`: keepalive` comments before the first event.",
        does=Behaviour(style=styles.KEEPALIVE),
    ),
    Name(
        name="flicker",
        says="Two tool calls, and a finish reason that comes and goes between them.",
        does=Behaviour(style=styles.FLICKER, wishes=Wishes(calls=2)),
    ),
    Name(name="no-usage", says="No usage, asked for or not.", does=Behaviour(style=styles.NO_USAGE)),
)

NAMES: tuple[Name, ...] = (*_ERRORS, *_REFUSALS, *_CONNECTIONS, *_BODIES, *_QUIRKS)
