"""From a request to the reply that is due: who is refused, how the rest is told and paced, and what
is then spoiled. Pure; `Scene` brings in all that is not in the request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from togetherchat_sandbox.answers import Answer, plan
from togetherchat_sandbox.behaviour import Behaviour
from togetherchat_sandbox.chunks import chunks
from togetherchat_sandbox.misbehaviour import behaviour_of
from togetherchat_sandbox.pacing import Pacing
from togetherchat_sandbox.refusals import Refused, refused
from togetherchat_sandbox.reply import NoReply, Outcome, Piece, Reply, whole
from togetherchat_sandbox.request import ChatRequest
from togetherchat_sandbox.settings import SandboxSettings
from togetherchat_sandbox.styles import Style, style_of, thinks_first
from togetherchat_sandbox.tokens import roll
from togetherchat_sandbox.unary import Label, body
from togetherchat_sandbox.wire import DONE, KEEPALIVE, encode, event

SSE = "text/event-stream;charset=utf-8"
JSON = "application/json"
RATE_LIMIT = 600  # nothing enforces it; the headers only count down


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a reply depends on beside its request.

    `number` counts all requests, `attempt` those with the same model and last user message,
    both from 1. `now_s` is the wall clock.
    """

    settings: SandboxSettings
    number: int
    attempt: int = 1
    now_s: float = 0

    @property
    def answer_id(self) -> str:
        """In the form of real ones: the last part is also the `cf-ray`."""
        chance = roll(self.settings.seed, "id", self.number)
        return f"osbx{chance % 36**3:03x}-sandbox-{chance:016x}"


def chat_reply(request: ChatRequest, scene: Scene) -> Outcome:
    """The reply to a chat request that is well formed."""
    behaviour = behaviour_of(request.model)
    if _is_refused(behaviour, scene) and behaviour.refusal:
        return refused(behaviour.refusal, answer_id=scene.answer_id, now_s=scene.now_s, model=request.model)
    try:
        return _answered(request, behaviour, scene)
    except Refused as exc:
        return refused(exc.refusal, answer_id=scene.answer_id, now_s=scene.now_s, model=request.model)


def headed(outcome: Outcome, scene: Scene) -> Outcome:
    """The outcome with the headers that every reply has."""
    if isinstance(outcome, NoReply):
        return outcome
    return replace(outcome, headers={**_standing_headers(outcome, scene), **outcome.headers})


def _is_refused(behaviour: Behaviour, scene: Scene) -> bool:
    return behaviour.refusals_max is None or scene.attempt <= behaviour.refusals_max


def _answered(request: ChatRequest, behaviour: Behaviour, scene: Scene) -> Outcome:
    style = behaviour.style or style_of(request.model)
    pacing = behaviour.pacing(scene.settings)
    answer = plan(
        request,
        seed=scene.settings.seed,
        thinks=thinks_first(request.model),
        wishes=behaviour.wishes,
    )
    label = Label(id=scene.answer_id, created=int(scene.now_s), model=request.model)
    if request.stream:
        pieces = _stream_pieces(answer, request, style, label, pacing)
        return behaviour.stream(Reply(headers={"content-type": SSE}, pieces=pieces))
    told = encode(body(answer, request, style, label))
    due_s = pacing.unary_due_s(max(choice.tokens for choice in answer.choices))
    return behaviour.unary(whole(told, JSON, due_s=due_s, tokens=answer.completion_tokens))


def _stream_pieces(
    answer: Answer, request: ChatRequest, style: Style, label: Label, pacing: Pacing
) -> Iterator[Piece]:
    for beat in range(style.keepalives):
        yield Piece(data=KEEPALIVE, due_s=pacing.due_s(0) * beat / style.keepalives)
    due_s = 0.0
    for chunk in chunks(answer, request, style, label):
        due_s = pacing.due_s(chunk.position)
        yield Piece(data=event(chunk.body), due_s=due_s, tokens=chunk.tokens, closing=chunk.closing)
    yield Piece(data=DONE, due_s=due_s, closing=True)


def _standing_headers(reply: Reply, scene: Scene) -> Mapping[str, str]:
    ray = scene.answer_id.rsplit("-", 1)[1]
    headers = {
        "server": "togetherchat-sandbox",
        "x-upstream": "sandbox",
        "x-request-id": scene.answer_id,
        "cf-ray": f"{ray}-SBX",
    }
    if reply.status < 400:
        headers["x-ratelimit-limit"] = str(RATE_LIMIT)
        headers["x-ratelimit-remaining"] = str(RATE_LIMIT - 1 - (scene.number - 1) % RATE_LIMIT)
        headers["x-ratelimit-reset"] = "1"
    return headers
