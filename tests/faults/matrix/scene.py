"""One fault with a real service, a scripted upstream and a caller, and the checks after any fault.

Owns what every row of the matrix has in common. Whatever the fault was, when a scene ends

- every call has ended once, and its call record has the status that its caller received;
- the attempts in the call records are the requests that the upstream received;
- no call is in flight, and no task of the service is left;
- no upstream socket outlived its call by a quarter of a second;
- the next call succeeds, unary and as a stream.

What a scene exposed (log, statuses, trailers) is collected for the scan for canaries.
"""

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

from grpc import aio

from faults.responses import valid_response
from support.app import CANARY_KEY, CANARY_PROMPT, MODEL, collect, failure_of, request, running_app
from support.scraping import scraped
from support.scripted_upstream import ScriptedUpstream
from support.waiting import eventually

CLOSE_DEADLINE_S = 0.25
BUSY_S = 2.0
"""How much later than a short timeout an event may happen on a busy machine."""
SCENE_S = 60.0
"""A scene that takes longer hangs."""
CALLER_KEY = "canary-of-the-caller-0123456789"
CANARIES = (CANARY_KEY, CALLER_KEY, CANARY_PROMPT)
METHODS = ("Complete", "StreamComplete")
SMALL_RANDOM_NUMBER = 0.05
"""The random number of a scene: delays between attempts are short."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a call ended for its caller, and how many requests it made to the upstream."""

    code: str = "OK"
    reason: str = ""
    pushback: str = ""
    """The retry pushback trailer: nothing, `-1`, or `later` for a delay."""
    requests: int = 1
    text: str = ""

    def __str__(self):
        parts = [self.code, self.reason, self.pushback and f"pushback {self.pushback}"]
        requests = f"{self.requests} requests" if self.requests != 1 else ""
        text = f"{len(self.text)} characters" if len(self.text) > 20 else self.text and repr(self.text)
        return ", ".join(word for word in (" ".join(parts).strip(), requests, text) if word)


OK = Ending(text="Hi")


@dataclass(kw_only=True)
class Call:
    """A call; `ended_at` is when its caller noticed the end."""

    id: str
    method: str
    grpc: object
    ended_at: float | None = None
    left: bool = False
    """Whether its caller cancelled it: the code in its record is then a race."""

    def leave(self):
        self.left = True
        self.ended_at = time.monotonic()
        self.grpc.cancel()


class Scene:
    """The running service and upstream of a test."""

    def __init__(self, app, upstream, record_exposed):
        self.app = app
        self.upstream = upstream
        self.calls = {}
        self._heard = record_exposed
        self._numbers = itertools.count(1)

    def begin(self, method, *, timeout=None, metadata=(), channel_stub=None, text=CANARY_PROMPT, **fields):
        """Begin a call with its own id."""
        call_id = f"scene-{next(self._numbers)}"
        keys = [("x-request-id", call_id), ("authorization", f"Bearer {CALLER_KEY}"), *metadata]
        stub = getattr(channel_stub or self.app.chat, method)
        grpc_call = stub(request(text, **fields), timeout=timeout, metadata=keys)
        self.calls[call_id] = Call(id=call_id, method=method, grpc=grpc_call)
        return self.calls[call_id]

    async def ended(self, call):
        """Wait for the end of a call and return how it ended."""
        if call.method == "Complete":
            text, failure = await _unary(call.grpc)
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
        """The number of upstream requests of one call."""
        return sum(one.headers.get("x-request-id") == call.id for one in self.upstream.request_log.requests)

    async def nothing_in_flight(self):
        admission = self.app.admission
        await eventually(lambda: admission.in_flight == admission.queued == 0)


@asynccontextmanager
async def running_scene(
    record_exposed,
    script=valid_response,
    *,
    base_url="",
    attempts_are_requests=True,
    after=MODEL,
    max_retries=2,
    **options,
):
    """Run a scene, and check the invariants when it ends.

    Args:
        record_exposed: called with every text that callers or the log received.
        script: of the upstream.
        base_url: replaces the upstream's.
        attempts_are_requests: False if connections fail or are replaced.
        after: the model of the calls at the end.
        max_retries: the setting.
        options: `on_connect`, `scheme`, `host` and `tls` of the upstream, and settings.
    """
    to_upstream = {
        name: options.pop(name) for name in ("on_connect", "scheme", "tls", "host") if name in options
    }
    options.setdefault("random_source", lambda: SMALL_RANDOM_NUMBER)
    async with asyncio.timeout(SCENE_S), ScriptedUpstream(script, **to_upstream) as upstream:
        async with running_app(base_url or upstream.base_url, max_retries=max_retries, **options) as app:
            scene = Scene(app, upstream, record_exposed)
            tasks = _tasks_of_the_service()
            yield scene
            await scene.nothing_in_flight()
            await _check_nothing_is_left(scene, tasks)
            record_exposed((await scraped(app.addresses.admin)).text)
            if not (base_url or to_upstream):
                await _check_next_calls(scene, after)
        record_exposed(app.log.getvalue())
        await _check_records(scene, attempts_are_requests=attempts_are_requests)


async def _check_nothing_is_left(scene, tasks):
    """No more tasks than before, and no socket that outlived its call."""
    await eventually(lambda: len(_tasks_of_the_service()) <= len(tasks))
    await scene.upstream.until(lambda log: not [one for one in log.connections if _is_left(one)])
    for connection in scene.upstream.request_log.connections:
        if connection.requests and connection.requests[-1].completed_at is None:
            call = scene.calls.get(connection.requests[-1].headers.get("x-request-id"))
            if call is not None and call.ended_at is not None and connection.closed_at is not None:
                assert connection.closed_at - call.ended_at < CLOSE_DEADLINE_S


def _is_left(connection):
    """Open, but not idle."""
    idle = bool(connection.requests) and connection.requests[-1].completed_at is not None
    return connection.closed_at is None and not idle


async def _check_next_calls(scene, model):
    scene.upstream.script = valid_response
    for method in METHODS:
        ending = await scene.ask(method, model=model, timeout=10)
        assert (OK.code, OK.text) == (ending.code, ending.text)


async def _check_records(scene, *, attempts_are_requests):
    """One record for each call, with the code its caller received and the attempts the upstream counted."""
    records = scene.app.records()
    ours = [record for record in records if record["id"] in scene.calls]
    assert sorted(scene.calls) == sorted(record["id"] for record in ours)
    for record in ours:
        call = scene.calls[record["id"]]
        requests = scene.requests_of(call)
        if call.left:
            assert requests <= record["attempts"] or not attempts_are_requests
            continue
        assert (await call.grpc.code()).name == record["code"]
        assert requests == record["attempts"] or not attempts_are_requests


def _tasks_of_the_service():
    """Every task except those of the upstream and of peers, which belong to the test."""
    ours = ("_Peer.", "Http2Peer.")
    names = ((task, task.get_coro().__qualname__) for task in asyncio.all_tasks() if not task.done())
    return [task for task, name in names if not name.startswith(ours)]


async def _unary(call):
    try:
        response = await call
    except asyncio.CancelledError:
        return "", None
    except aio.AioRpcError as error:
        return "", failure_of(error)
    return "".join(part.text for choice in response.choices for part in choice.message.content), None


def _pushback(failure):
    if failure is None or failure.pushback is None:
        return ""
    return failure.pushback if int(failure.pushback) < 0 else "later"
