"""Turns a request into its reply: errors, plan, dialect, pacing, then the fault.

Pure; `ReplyContext` holds everything that is not in the request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import formatdate

from togetherchat_sandbox.api_errors import RequestRejectedError, error_reply
from togetherchat_sandbox.behaviour import Behaviour
from togetherchat_sandbox.chunks import stream_chunks
from togetherchat_sandbox.dialects import Dialect, dialect_of, reasons_first
from togetherchat_sandbox.encoding import DONE, KEEPALIVE, encode, event
from togetherchat_sandbox.faults import behaviour_of
from togetherchat_sandbox.pacing import Pacing
from togetherchat_sandbox.plan import CompletionPlan, cached_tokens, plan_completion
from togetherchat_sandbox.prng import random_bits
from togetherchat_sandbox.reply import AnyReply, InputTokens, NoReply, Reply, TimedBytes, unary_reply
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.settings import SandboxSettings
from togetherchat_sandbox.unary_body import Envelope, unary_body

SSE = "text/event-stream;charset=utf-8"
JSON = "application/json"
RATE_LIMIT = 600  # not enforced; the headers only count down


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyContext:
    """What a reply depends on beside its request.

    `number` counts all requests, `repeat` those with the same model and last user message, and
    `cache_repeat` those with the same model and key of the prompt cache, all from 1. `now_s` is the wall
    clock. `debug`: the client requests the headers for debugging.
    """

    settings: SandboxSettings
    number: int
    repeat: int = 1
    cache_repeat: int = 1
    now_s: float = 0
    debug: bool = False

    @property
    def response_id(self) -> str:
        """An id in the form of recorded ones: the last part is also the `cf-ray`."""
        bits = random_bits(self.settings.seed, "id", self.number)
        return f"osbx{bits % 36**3:03x}-sandbox-{bits:016x}"


def reply_to_chat(request: ChatRequest, context: ReplyContext) -> AnyReply:
    """Return the reply to a valid chat request."""
    behaviour = behaviour_of(request.model)
    if behaviour.error and _fails(behaviour, context):
        error = behaviour.error
    else:
        try:
            return _completion(request, behaviour, context)
        except RequestRejectedError as exc:
            error = exc.error
    return error_reply(error, response_id=context.response_id, now_s=context.now_s, model=request.model)


def with_standard_headers(reply: AnyReply, context: ReplyContext) -> AnyReply:
    """Add the headers that every reply has."""
    if isinstance(reply, NoReply):
        return reply
    return replace(reply, headers={**_standard_headers(reply, context), **reply.headers})


def _fails(behaviour: Behaviour, context: ReplyContext) -> bool:
    return behaviour.errors_max is None or context.repeat <= behaviour.errors_max


def _completion(request: ChatRequest, behaviour: Behaviour, context: ReplyContext) -> AnyReply:
    dialect = behaviour.dialect or dialect_of(request.model)
    pacing = behaviour.pacing(context.settings)
    plan = plan_completion(
        request,
        seed=context.settings.seed,
        reasons=reasons_first(request.model),
        overrides=behaviour.overrides,
    )
    if behaviour.cached_by_key:
        plan = replace(plan, cached_tokens=cached_tokens(request) if context.cache_repeat > 1 else 0)
    envelope = Envelope(id=context.response_id, created=int(context.now_s), model=request.model)
    if request.stream:
        parts = _stream_parts(plan, request, dialect, envelope, pacing)
        return _charged(behaviour.stream(Reply(headers={"content-type": SSE}, parts=parts)), plan)
    body = encode(unary_body(plan, request, dialect, envelope))
    due_s = pacing.unary_due_s(max(choice.tokens for choice in plan.choices))
    return _charged(
        behaviour.unary(unary_reply(body, JSON, due_s=due_s, tokens=plan.completion_tokens)), plan
    )


def _charged(reply: AnyReply, plan: CompletionPlan) -> AnyReply:
    """Return the reply with the input that was read for it."""
    return replace(reply, input=InputTokens(all=plan.prompt_tokens, cached=plan.cached_tokens))


def _stream_parts(
    plan: CompletionPlan, request: ChatRequest, dialect: Dialect, envelope: Envelope, pacing: Pacing
) -> Iterator[TimedBytes]:
    for number in range(dialect.keepalives):
        yield TimedBytes(data=KEEPALIVE, due_s=pacing.due_s(0) * number / dialect.keepalives)
    due_s = 0.0
    for chunk in stream_chunks(plan, request, dialect, envelope):
        due_s = pacing.due_s(chunk.position)
        yield TimedBytes(
            data=event(chunk.body),
            due_s=due_s,
            tokens=chunk.tokens,
            after_last_token=chunk.after_last_token,
        )
    yield TimedBytes(data=DONE, due_s=due_s, after_last_token=True)


def _standard_headers(reply: Reply, context: ReplyContext) -> Mapping[str, str]:
    ray = context.response_id.rsplit("-", 1)[1]
    headers = {
        "date": formatdate(context.now_s, usegmt=True),
        "server": "togetherchat-sandbox",
        "x-upstream": "sandbox",
        "x-request-id": context.response_id,
        "cf-ray": f"{ray}-SBX",
    }
    if context.debug:
        headers |= _debug_headers(context)
    if reply.status < 400:
        headers["x-ratelimit-limit"] = str(RATE_LIMIT)
        headers["x-ratelimit-remaining"] = str(RATE_LIMIT - 1 - (context.number - 1) % RATE_LIMIT)
        headers["x-ratelimit-reset"] = "1"
    return headers


def _debug_headers(context: ReplyContext) -> Mapping[str, str]:
    """Return what Together adds for `x-together-debug: 1`, as its guides list it."""
    time = datetime.fromtimestamp(context.now_s, UTC).isoformat()
    return {
        "x-together-traceid": context.response_id,
        "x-cluster": "sandbox",
        "x-engine-pod": "sandbox-0",
        "x-api-received": time,
        "x-api-call-start": time,
        "x-api-call-end": time,
        "x-inference-version": "sandbox",
    }
