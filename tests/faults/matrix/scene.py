"""One fault, acted out: a real service, a scripted upstream, a caller, and what must hold after any fault.

Owns what every row of the matrix has in common. Whatever the fault was, when a scene is left

- every call has ended once, in the books as its caller saw it;
- the books' attempts are the requests that the upstream got;
- no call is in flight, no task of the service is left over;
- no upstream socket outlived its call by a quarter of a second;
- the next call, whole and streamed, is answered.

What a scene let be heard (log, statuses, trailers) is kept for the scan for canaries.
"""

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

from grpc import aio

from faults.answers import well
from support.app import CANARY_KEY, CANARY_PROMPT, MODEL, collect, failure_of, request, running_app
from support.scraping import scraped
from support.scripted_upstream import ScriptedUpstream
from support.waiting import eventually

PROMISE_S = 0.25
BUSY_S = 2.0
"""How much later than a scaled-down limit something may be seen on a busy machine."""
SCENE_S = 60.0
"""A scene that takes longer hangs."""
CALLER_KEY = "canary-of-the-caller-0123456789"
CANARIES = (CANARY_KEY, CALLER_KEY, CANARY_PROMPT)
METHODS = ("Complete", "StreamComplete")
LITTLE_CHANCE = 0.05
"""The random number of a scene: waits between attempts are short."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a call ended, as its caller saw it, and how often the upstream was asked for it."""

    code: str = "OK"
    reason: str = ""
    pushback: str = ""
    """Of the trailer for retries: nothing, `-1`, or `later` for a delay."""
    requests: int = 1
    text: str = ""

    def __str__(self):
        words = [self.code, self.reason, self.pushback and f"pushback {self.pushback}"]
        asked = f"asked {self.requests}x" if self.requests != 1 else ""
        text = f"{len(self.text)} characters" if len(self.text) > 20 else self.text and repr(self.text)
        return ", ".join(word for word in (" ".join(words).strip(), asked, text) if word)


OK = Ending(text="Hi")


@dataclass(kw_only=True)
class Call:
    """A call that was begun; `ended_at` is when its caller knew."""

    id: str
    method: str
    grpc: object
    ended_at: float | None = None
    left: bool = False
    """Whether its caller left it: what the books say of it is then a race."""

    def leave(self):
        self.left = True
        self.ended_at = time.monotonic()
        self.grpc.cancel()


class Scene:
    """Where a test acts."""

    def __init__(self, app, upstream, heard):
        self.app = app
        self.upstream = upstream
        self.calls = {}
        self._heard = heard
        self._numbers = itertools.count(1)

    def begin(self, method, *, timeout=None, metadata=(), channel_stub=None, text=CANARY_PROMPT, **fields):
        """Begin a call under an id of its own."""
        named = f"scene-{next(self._numbers)}"
        keys = [("x-request-id", named), ("authorization", f"Bearer {CALLER_KEY}"), *metadata]
        stub = getattr(channel_stub or self.app.chat, method)
        grpc_call = stub(request(text, **fields), timeout=timeout, metadata=keys)
        self.calls[named] = Call(id=named, method=method, grpc=grpc_call)
        return self.calls[named]

    async def ended(self, call):
        """Wait for a call's end, and say how it ended."""
        if call.method == "Complete":
            text, failure = await _whole(call.grpc)
        else:
            events, failure = await collect(call.grpc)
            text = "".join(event.delta.text for event in events)
            assert (failure is None) == any(event.HasField("completed") for event in events)
        call.ended_at = call.ended_at or time.monotonic()
        self._heard(str(failure), repr(await call.grpc.trailing_metadata()))
        return Ending(
            code=(await call.grpc.code()).name,
            reason=failure.info.reason if failure and failure.details else "",
            pushback=_pushback(failure),
            requests=self.requests_of(call),
            text=text,
        )

    async def ask(self, method, **options):
        return await self.ended(self.begin(method, **options))

    def requests_of(self, call):
        """How often the upstream was asked for one call."""
        return sum(one.headers.get("x-request-id") == call.id for one in self.upstream.ledger.requests)

    async def nothing_in_flight(self):
        admission = self.app.admission
        await eventually(lambda: admission.in_flight == admission.queued == 0)


@asynccontextmanager
async def acted(
    heard,
    script=well,
    *,
    base_url="",
    attempts_are_requests=True,
    after=MODEL,
    max_retries=2,
    **options,
):
    """Set the scene, and check it when it is left.

    Args:
        heard: called with every text that callers or the log were given.
        script: of the upstream.
        base_url: where there is no such upstream.
        attempts_are_requests: not so where connections fail or are replaced.
        after: the model of the call at the end.
        max_retries: as the setting.
        options: `on_connect`, `scheme`, `host` and `tls` of the upstream, and settings.
    """
    to_upstream = {
        name: options.pop(name) for name in ("on_connect", "scheme", "tls", "host") if name in options
    }
    options.setdefault("random_source", lambda: LITTLE_CHANCE)
    async with asyncio.timeout(SCENE_S), ScriptedUpstream(script, **to_upstream) as upstream:
        async with running_app(base_url or upstream.base_url, max_retries=max_retries, **options) as app:
            scene = Scene(app, upstream, heard)
            tasks = _tasks_of_the_service()
            yield scene
            await scene.nothing_in_flight()
            await _nothing_is_left(scene, tasks)
            heard((await scraped(app.addresses.admin)).text)
            if not (base_url or to_upstream):
                await _the_next_call_works(scene, after)
        heard(app.log.getvalue())
        await _books_balance(scene, attempts_are_requests=attempts_are_requests)


async def _nothing_is_left(scene, tasks):
    """No task more than before, and no socket that outlived its call."""
    await eventually(lambda: len(_tasks_of_the_service()) <= len(tasks))
    await scene.upstream.until(lambda ledger: not [one for one in ledger.connections if _is_left(one)])
    for connection in scene.upstream.ledger.connections:
        if connection.requests and connection.requests[-1].answered_at is None:
            call = scene.calls.get(connection.requests[-1].headers.get("x-request-id"))
            if call is not None and call.ended_at is not None and connection.closed_at is not None:
                assert connection.closed_at - call.ended_at < PROMISE_S


def _is_left(connection):
    """Open, and not because it waits for its next request."""
    idle = bool(connection.requests) and connection.requests[-1].answered_at is not None
    return connection.closed_at is None and not idle


async def _the_next_call_works(scene, model):
    scene.upstream.script = well
    for method in METHODS:
        ending = await scene.ask(method, model=model, timeout=10)
        assert (OK.code, OK.text) == (ending.code, ending.text)


async def _books_balance(scene, *, attempts_are_requests):
    """One record for each call, with the code its caller saw; attempts as the upstream counts."""
    records = scene.app.records()
    ours = [record for record in records if record["id"] in scene.calls]
    assert sorted(scene.calls) == sorted(record["id"] for record in ours)
    for record in ours:
        call = scene.calls[record["id"]]
        asked = scene.requests_of(call)
        if call.left:
            assert asked <= record["attempts"] or not attempts_are_requests
            continue
        assert (await call.grpc.code()).name == record["code"]
        assert asked == record["attempts"] or not attempts_are_requests


def _tasks_of_the_service():
    """Every task but those of the upstream and of peers, which are ours."""
    ours = ("_Peer.", "Http2Peer.")
    names = ((task, task.get_coro().__qualname__) for task in asyncio.all_tasks() if not task.done())
    return [task for task, name in names if not name.startswith(ours)]


async def _whole(call):
    try:
        answer = await call
    except asyncio.CancelledError:
        return "", None
    except aio.AioRpcError as error:
        return "", failure_of(error)
    return "".join(part.text for choice in answer.choices for part in choice.message.content), None


def _pushback(failure):
    if failure is None or failure.pushback is None:
        return ""
    return failure.pushback if int(failure.pushback) < 0 else "later"
