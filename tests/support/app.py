"""The real service, started in the test's event loop on free ports."""

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
PLAIN = {"max_retries": 0, "max_queued_calls": 0, "model_catalog": "on"}


@dataclass(kw_only=True)
class RunningApp:
    """A started service, a channel and a stub for it, and its log."""

    app: App
    addresses: object
    channel: aio.Channel
    chat: service_grpc.ChatServiceStub
    log: io.StringIO = field(repr=False)

    @property
    def admission(self):
        return self.app.admission

    @property
    def grpc_server(self):
        return self.app.frontends.grpc

    @property
    def http_server(self):
        return self.app.frontends.http

    @property
    def metrics(self):
        return self.app.metrics

    def records(self):
        """Return the call records in the log. They are complete when the app has stopped."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == "call"]


@asynccontextmanager
async def running_app(base_url=None, *, key=CANARY_KEY, random_source=None, wall_clock=time.time, **settings):
    """Run the service with the provider at `base_url`, or with the sandbox.

    By default there are no retries and no queue: most tests are about one attempt. The catalog is on,
    because the provider at `base_url` stands for Together. The service calls
    `random_source` for every random number and `wall_clock` for the time of day.
    """
    chosen = {
        "grpc_listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "log_format": "json",
        **PLAIN,
        **settings,
    }
    provider = base_url and ProviderConfig(base_url=base_url, key=Secret(key) if key else None)
    settings = Settings(sandbox=base_url is None, **chosen)
    configuration = Configuration(
        settings=settings, provider=provider or None, certificates=load_certificates(settings)
    )
    log = io.StringIO()
    environment = Environment(
        version="0.0.0",
        clock=time.monotonic,
        wall_clock=wall_clock,
        random=random_source or random.Random(1).random,
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
    """Return a request with one message."""
    message = chat.Message(role=chat.ROLE_USER, content=[chat.ContentPart(text=text)])
    return service.CompleteRequest(model=model, messages=[message], **fields)


def grpc_timeout(milliseconds):
    """Return metadata with a deadline that only the service enforces.

    The client's own timer would race with the status that the service sends shortly before it.
    A short deadline leaves a short margin for that status: on a busy machine gRPC's core would be earlier.
    """
    return [("grpc-timeout", f"{milliseconds}m")]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A status as a client receives it."""

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
    """Return a status with its trailers and unpacked details."""
    trailers = dict(error.trailing_metadata())
    packed = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    found = {}
    for part in packed.details:
        name = part.TypeName().rpartition(".")[2]
        found[name] = getattr(details, name).FromString(part.value)
    return Failure(code=error.code(), message=error.details(), trailers=trailers, details=found)


async def failing(awaitable):
    """Return the failure of a call that must fail."""
    try:
        await awaitable
    except aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError("the call did not fail")


async def collect(call):
    """Return the events of a stream, and its failure or None."""
    events = []
    try:
        async for event in call:
            events.append(event)  # noqa: PERF401  events before a failure are kept
    except aio.AioRpcError as error:
        return events, failure_of(error)
    return events, None
