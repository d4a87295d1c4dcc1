"""The real service, started for a test: on free ports, in the test's own loop."""

import io
import json
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import aio

from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.config import Configuration, ProviderConfig, Settings, load_certificates
from togetherchat_server.domain.secret import Secret
from togetherchat_server.runtime.app import App
from togetherchat_server.runtime.observability import Environment

CANARY_KEY = "tgp_v1_canary0123456789"
CANARY_PROMPT = "canary prompt, never to be seen outside"
MODEL = "some/model"
PLAIN = {"max_retries": 0, "max_queued_calls": 0}


@dataclass(kw_only=True)
class RunningApp:
    """What a test needs of a started service."""

    app: App
    addresses: object
    channel: aio.Channel
    chat: service_grpc.ChatServiceStub
    log: io.StringIO = field(repr=False)

    # What is within: for what cannot be seen from without.

    @property
    def admission(self):
        return self.app._parts.admission

    @property
    def front(self):
        return self.app._frontends.grpc

    @property
    def door(self):
        return self.app._frontends.http

    @property
    def gauges(self):
        return self.app._observability.gauges

    def records(self):
        """The call records in the log; complete once the app has stopped."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == "call"]


@asynccontextmanager
async def running_app(base_url=None, *, key=CANARY_KEY, chance=None, wall_clock=time.time, **settings):
    """Serve in front of `base_url`, or of the simulator where there is none.

    Without retries and queue unless they are asked for: most tests are about one attempt. `chance`
    is called for every random number of the service, `wall_clock` for the time of day.
    """
    chosen = {
        "grpc_listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "log_format": "json",
        **PLAIN,
        **settings,
    }
    upstream = base_url and ProviderConfig(base_url=base_url, key=Secret(key) if key else None)
    settings = Settings(sandbox=base_url is None, **chosen)
    configuration = Configuration(
        settings=settings, upstream=upstream or None, certificates=load_certificates(settings)
    )
    log = io.StringIO()
    environment = Environment(
        version="0.0.0",
        clock=time.monotonic,
        wall_clock=wall_clock,
        random=chance or random.Random(1).random,
        log=log,
    )
    app = App(configuration, environment)
    addresses = await app.start()
    try:
        async with aio.insecure_channel(addresses.grpc, options=[("grpc.enable_retries", 0)]) as channel:
            stub = service_grpc.ChatServiceStub(channel)
            yield RunningApp(app=app, addresses=addresses, channel=channel, chat=stub, log=log)
    finally:
        await app.stop()


def request(text=CANARY_PROMPT, *, model=MODEL, **fields):
    """A conversation of one message."""
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])
    return service.CompleteRequest(model=model, messages=[message], **fields)


def within(milliseconds):
    """Metadata of a caller whose deadline the service alone watches.

    A client's own timer would race with the answer that the service gives shortly before it.
    """
    return [("grpc-timeout", f"{milliseconds}m")]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A status as a client sees it."""

    code: grpc.StatusCode
    message: str
    trailers: dict
    details: dict

    @property
    def info(self):
        return self.details["ErrorInfo"]

    @property
    def pushback(self):
        return self.trailers.get("grpc-retry-pushback-ms")


def failure_of(error):
    """Unpack a status, its trailers and its details."""
    trailers = dict(error.trailing_metadata())
    packed = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    found = {}
    for part in packed.details:
        name = part.TypeName().rpartition(".")[2]
        found[name] = getattr(details, name).FromString(part.value)
    return Failure(code=error.code(), message=error.details(), trailers=trailers, details=found)


async def failing(awaitable):
    """The failure of a call that must fail."""
    try:
        await awaitable
    except aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError("the call did not fail")


async def collect(call):
    """The events of a stream, and its failure if it had one."""
    events = []
    try:
        async for event in call:
            events.append(event)  # noqa: PERF401  what came before a failure is kept
    except aio.AioRpcError as error:
        return events, failure_of(error)
    return events, None
