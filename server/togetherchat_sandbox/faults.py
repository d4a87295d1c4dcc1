"""The model ids with faults and other special behaviour: one table from name to behaviour.

`GET /sandbox`, the model list and the table in the documentation are derived from it. A name with
a word in capitals (`error-429-xN`) is a family; the model list shows its `example`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from togetherchat_sandbox import api_errors, dialects, engine_quirks, fault_injection, model_quirks, pacing
from togetherchat_sandbox.api_errors import ERRORS
from togetherchat_sandbox.behaviour import ORDINARY, PREFIX, Behaviour, SandboxModel
from togetherchat_sandbox.dialects import Dialect
from togetherchat_sandbox.fault_injection import InjectFault
from togetherchat_sandbox.plan import PlanOverrides
from togetherchat_sandbox.reply import ReplyEnd

TOKENS_BEFORE_FAULT = 3
LONG_TOKENS = 10_000
LONG_TOKENS_MAX = 1_000_000
RETRY_AFTER_MS = 50


def behaviour_of(model: str) -> Behaviour:
    """Return the behaviour of a model id; ordinary behaviour for every id that is not in the table."""
    if not model.startswith(PREFIX):
        return ORDINARY
    name = model.removeprefix(PREFIX)
    for row in SANDBOX_MODELS:
        if isinstance(row.behaviour, Behaviour):
            if row.name == name:
                return row.behaviour
        elif row.pattern and (match := row.pattern.fullmatch(name)):
            return row.behaviour(match)
    return ORDINARY


def table_markdown() -> str:
    """Return the table as the documentation shows it."""
    rows = (f"| `{PREFIX}{row.name}` | {row.description} |" for row in SANDBOX_MODELS)
    return "\n".join(("| model | behaviour |", "|---|---|", *rows)) + "\n"


def _both(inject: InjectFault) -> Behaviour:
    return Behaviour(stream=inject, unary=inject)


def _end_after(tokens: int, end: ReplyEnd) -> Behaviour:
    return Behaviour(
        stream=fault_injection.end_after_tokens(tokens, end), unary=fault_injection.end_after_half(end)
    )


def _error_event_after(tokens: int) -> Behaviour:
    return Behaviour(stream=fault_injection.error_event_after(tokens), unary=fault_injection.server_error)


def _choice_error_after(tokens: int) -> Behaviour:
    return Behaviour(stream=fault_injection.choice_error_after(tokens), unary=fault_injection.choice_error)


def _two_calls(dialect: Dialect) -> Behaviour:
    return Behaviour(dialect=dialect, overrides=PlanOverrides(calls=2))


def _long(tokens: int) -> Behaviour:
    overrides = PlanOverrides(tokens=min(tokens, LONG_TOKENS_MAX))
    return Behaviour(overrides=overrides, pacing=pacing.configured_only)


def _first_fail(match: re.Match[str]) -> Behaviour:
    key, times = match.groups()
    error = ERRORS.get(key) or api_errors.of_status(int(key[:3]))
    if error.status == 429:
        error = replace(error, headers={"retry-after-ms": str(RETRY_AFTER_MS)})
    return Behaviour(error=error, errors_max=int(times))


_ERROR_DESCRIPTIONS: Mapping[str, str] = {
    "400": "400, the request is not valid.",
    "400-detail": "400 as FastAPI writes it: `detail`, a list of problems with their `loc`.",
    "400-errors": "400 whose problems are in `errors`.",
    "400-list": "400 whose error is in a list.",
    "400-param": "400 whose error has a `param`.",
    "400-stopped": "400 `dedicated_endpoint_not_running`: the model's dedicated endpoint is stopped.",
    "400-text": "400 as a plain text.",
    "401": "401 `invalid_api_key`.",
    "402": "402 `credit_limit`: the account has no money left.",
    "403": "403 in JSON: not allowed.",
    "403-html": "403 as an HTML page, as the edge sends it to blocked clients.",
    "404": "404 `model_not_available`: the model does not exist.",
    "408": "408, the request took too long to arrive.",
    "409": "409, a conflict.",
    "413": "413, the request is too large.",
    "422": "422, the request cannot be processed.",
    "429": "429 `dynamic_request_limited`, with `retry-after: 1` and `x-ratelimit-reset: 1`.",
    "429-tokens": "429 `dynamic_token_limited`, with the same hints.",
    "429-2024": "429 as in 2024: a rate limit with the type `credit_limit`.",
    "429-quota": "429 `insufficient_quota`: a retry does not help.",
    "500": "500 `server_error`.",
    "501": "501, not implemented.",
    "502": "502 as an HTML page of the edge.",
    "503": "503, overloaded.",
    "504": "504, the request timed out at the provider.",
    "520": "520 as an HTML page: an unknown error behind the edge.",
    "521": "521 as an HTML page: the origin is down.",
    "522": "522 as an HTML page: no connection to the origin in time.",
    "523": "523 as an HTML page: the origin cannot be reached.",
    "524": "524 as an HTML page: no response from the origin in time.",
    "525": "525 as an HTML page: no TLS to the origin.",
    "526": "526 as an HTML page: the origin's certificate is not valid.",
    "529": "529, overloaded.",
    "530": "530 as an HTML page: the origin's name cannot be resolved.",
}

_ERRORS = tuple(
    SandboxModel(name=f"error-{key}", description=text, behaviour=Behaviour(error=ERRORS[key]))
    for key, text in _ERROR_DESCRIPTIONS.items()
)

_MORE_ERRORS = (
    SandboxModel(
        name="error-STATUS",
        description="Any other status from 400 to 599.",
        behaviour=lambda match: Behaviour(error=api_errors.of_status(int(match[1]))),
        pattern=re.compile(r"error-([45]\d\d)"),
        example="error-418",
    ),
    SandboxModel(
        name="error-STATUS-xN",
        description="The first N requests with the same last user message get that error (429 with"
        " `retry-after-ms: 50`), later ones an ordinary completion.",
        behaviour=_first_fail,
        pattern=re.compile(r"error-([45]\d\d(?:-[a-z0-9]+)??)-x(\d{1,4})"),
        example="error-429-x2",
    ),
    SandboxModel(
        name="retry-after-date",
        description="429 whose `retry-after` is a date, two seconds ahead.",
        behaviour=Behaviour(error=api_errors.RETRY_AFTER_DATE),
    ),
    SandboxModel(
        name="context-length",
        description="400, the input is longer than the model's context.",
        behaviour=Behaviour(error=api_errors.CONTEXT_LENGTH),
    ),
    SandboxModel(
        name="context-length-403",
        description="The same error as documented: 403.",
        behaviour=Behaviour(error=api_errors.CONTEXT_LENGTH_403),
    ),
    SandboxModel(
        name="context-length-422",
        description="The same error as recorded: 422, `inputs` tokens + `max_new_tokens` too many.",
        behaviour=Behaviour(error=api_errors.CONTEXT_LENGTH_422),
    ),
)

_CONNECTIONS = (
    SandboxModel(
        name="reset",
        description="The connection is reset before any header.",
        behaviour=_both(fault_injection.without_reply(ReplyEnd.RESET)),
    ),
    SandboxModel(
        name="stall",
        description="No response, ever; the connection stays open.",
        behaviour=_both(fault_injection.without_reply(ReplyEnd.STALL)),
    ),
    SandboxModel(
        name="stall-after-N",
        description="N tokens, then nothing (0: headers only); unary: half of the body, then nothing.",
        behaviour=lambda match: _end_after(int(match[1]), ReplyEnd.STALL),
        pattern=re.compile(r"stall-after-(\d{1,6})"),
        example="stall-after-3",
    ),
    SandboxModel(
        name="cut-body",
        description="Three tokens, then the connection is closed; unary: half of the declared body first.",
        behaviour=_end_after(TOKENS_BEFORE_FAULT, ReplyEnd.CLOSE),
    ),
    SandboxModel(
        name="cut-stream",
        description="Three tokens, then the connection is reset; unary: half of the body first.",
        behaviour=_end_after(TOKENS_BEFORE_FAULT, ReplyEnd.RESET),
    ),
    SandboxModel(
        name="cut-stream-clean",
        description="Three tokens, then the stream ends normally, without finish reason and `[DONE]`;"
        " unary: an ordinary completion.",
        behaviour=Behaviour(stream=fault_injection.end_after_tokens(TOKENS_BEFORE_FAULT, ReplyEnd.COMPLETE)),
    ),
    SandboxModel(
        name="no-done",
        description="A whole stream with finish reasons and usage, without `[DONE]`;"
        " unary: an ordinary completion.",
        behaviour=Behaviour(stream=fault_injection.without_done),
    ),
    SandboxModel(
        name="stream-error",
        description="An error event before any token; unary: 500.",
        behaviour=_error_event_after(0),
    ),
    SandboxModel(
        name="stream-error-after-N",
        description="An error event after N tokens; unary: 500.",
        behaviour=lambda match: _error_event_after(int(match[1])),
        pattern=re.compile(r"stream-error-after-(\d{1,6})"),
        example="stream-error-after-3",
    ),
    SandboxModel(
        name="choice-error",
        description="A choice with `finish_reason: error` and an `error`, before any token; unary too.",
        behaviour=_choice_error_after(0),
    ),
    SandboxModel(
        name="choice-error-after-N",
        description="Such a choice after N tokens, then `[DONE]`; unary: such a choice.",
        behaviour=lambda match: _choice_error_after(int(match[1])),
        pattern=re.compile(r"choice-error-after-(\d{1,6})"),
        example="choice-error-after-3",
    ),
)

_BODIES = (
    SandboxModel(
        name="redirect", description="302 to another address.", behaviour=_both(fault_injection.redirect)
    ),
    SandboxModel(
        name="html-200", description="200 with an HTML page.", behaviour=_both(fault_injection.html_page)
    ),
    SandboxModel(
        name="wrong-content-type",
        description="The right body with the content type `text/plain`.",
        behaviour=_both(fault_injection.with_headers({"content-type": "text/plain"})),
    ),
    SandboxModel(
        name="malformed-json",
        description="200 with malformed JSON, even where a stream was requested.",
        behaviour=_both(fault_injection.malformed_json),
    ),
    SandboxModel(
        name="malformed-event",
        description="An event of malformed JSON after the first token; unary: malformed JSON.",
        behaviour=Behaviour(
            stream=fault_injection.with_malformed_event, unary=fault_injection.malformed_json
        ),
    ),
    SandboxModel(
        name="empty-body", description="200 without a body.", behaviour=_both(fault_injection.empty_body)
    ),
    SandboxModel(
        name="trailing-bytes",
        description="One more event and noise after `[DONE]`; unary: noise after the JSON.",
        behaviour=Behaviour(
            stream=fault_injection.with_trailing_bytes,
            unary=fault_injection.with_changed_body(lambda body: body + b"\nnoise"),
        ),
    ),
    SandboxModel(
        name="invalid-utf8",
        description="Bytes in the content that are not UTF-8 (in a stream after the first token).",
        behaviour=Behaviour(
            stream=fault_injection.with_extra_events(fault_injection.INVALID_UTF8),
            unary=fault_injection.with_content_prefix(fault_injection.INVALID_UTF8),
        ),
    ),
    SandboxModel(
        name="lone-surrogate",
        description="Half of a surrogate pair, escaped, in the content (in a stream after the first token).",
        behaviour=Behaviour(
            stream=fault_injection.with_extra_events(fault_injection.LONE_SURROGATE),
            unary=fault_injection.with_content_prefix(fault_injection.LONE_SURROGATE),
        ),
    ),
    SandboxModel(
        name="split-character",
        description="A content that begins with `Hi \U0001f600!`, whose emoji is cut between two events.",
        behaviour=Behaviour(
            stream=fault_injection.with_split_character,
            unary=fault_injection.with_content_prefix(fault_injection.SPLIT_TEXT),
        ),
    ),
    SandboxModel(
        name="huge-event",
        description="One event of 2 MiB after the first token; unary: a body of 2 MiB.",
        behaviour=Behaviour(
            stream=fault_injection.with_extra_events(b"x", repeated=fault_injection.HUGE_EVENT_BYTES),
            unary=fault_injection.with_content_prefix(b"x", repeated=fault_injection.HUGE_EVENT_BYTES),
        ),
    ),
    SandboxModel(
        name="huge-body",
        description="A body of 20 MiB; a stream of 40 MiB in events of 512 KiB.",
        behaviour=Behaviour(
            stream=fault_injection.with_extra_events(
                b"x", repeated=fault_injection.HUGE_BODY_EVENT_BYTES, times=fault_injection.HUGE_BODY_EVENTS
            ),
            unary=fault_injection.with_content_prefix(b"x", repeated=fault_injection.HUGE_BODY_BYTES),
        ),
    ),
)

_VARIANTS = (
    SandboxModel(
        name="slow",
        description="Two seconds to the first token, then five tokens a second.",
        behaviour=Behaviour(pacing=pacing.slow),
    ),
    SandboxModel(name="fast", description="No waiting at all.", behaviour=Behaviour(pacing=pacing.immediate)),
    SandboxModel(
        name="long",
        description="10,000 tokens, without waiting unless a pace is configured.",
        behaviour=_long(LONG_TOKENS),
    ),
    SandboxModel(
        name="long-N",
        description="N tokens (a million at most), without waiting unless a pace is configured.",
        behaviour=lambda match: _long(int(match[1])),
        pattern=re.compile(r"long-(\d{1,7})"),
        example="long-500",
    ),
    SandboxModel(
        name="reasoning", description="Reasons first: `reasoning` before the content.", behaviour=ORDINARY
    ),
    SandboxModel(
        name="kimi-k3",
        description="The dialect of Kimi-K3: `reasoning_content`, few fields, the role only once,"
        " usage inside the choice unless `include_usage` is set.",
        behaviour=Behaviour(dialect=dialects.KIMI_K3),
    ),
    SandboxModel(
        name="trailing-usage",
        description="Usage in a last chunk without choices.",
        behaviour=Behaviour(dialect=dialects.TRAILING_USAGE),
    ),
    SandboxModel(
        name="keepalive",
        description="`: keepalive` comments before the first event.",
        behaviour=Behaviour(dialect=dialects.KEEPALIVE),
    ),
    SandboxModel(
        name="comments",
        description="A comment `: PROCESSING` between any two tokens of a stream.",
        behaviour=Behaviour(stream=fault_injection.with_comments),
    ),
    SandboxModel(
        name="flicker",
        description="Two tool calls, and a finish reason that appears and disappears between them.",
        behaviour=_two_calls(dialects.FLICKER),
    ),
    SandboxModel(
        name="shared-index",
        description="Two tool calls that both have index 0.",
        behaviour=_two_calls(dialects.SHARED_INDEX),
    ),
    SandboxModel(
        name="shifted-index",
        description="Two tool calls. The first fragment of each has an index that is one too high.",
        behaviour=_two_calls(dialects.SHIFTED_INDEX),
    ),
    SandboxModel(
        name="calls-without-ids",
        description="Two whole tool calls without index and id, and the finish reason `stop`.",
        behaviour=_two_calls(dialects.CALLS_WITHOUT_IDS),
    ),
    SandboxModel(
        name="late-head",
        description="A first chunk without id, time and choices.",
        behaviour=Behaviour(dialect=dialects.LATE_HEAD),
    ),
    SandboxModel(
        name="no-usage",
        description="No usage, requested or not.",
        behaviour=Behaviour(dialect=dialects.NO_USAGE),
    ),
)

SANDBOX_MODELS: tuple[SandboxModel, ...] = (
    *_ERRORS,
    *_MORE_ERRORS,
    *_CONNECTIONS,
    *_BODIES,
    *_VARIANTS,
    *engine_quirks.MODELS,
    *model_quirks.MODELS,
)
