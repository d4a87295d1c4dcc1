"""Runs the cases of clients/conformance with one language's actor, and compares.

The real service runs in the test's process, with the sandbox as its provider. A scripted service
sends what the real one does not send yet. A proxy answers with HTTP errors, and an address refuses
connections.
"""

import asyncio
import functools
import json
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2

import togetherchat
import togetherchat_client
from conformance import actors, judge
from support.app import running_app
from support.http_error_proxy import http_error_proxy
from support.memory_usage import MemoryLedger, install, ledger_row
from support.ports import refusing_port
from support.scripted_service import Failure, ScriptedService, delta, ending, response_of, serving, started
from support.waiting import eventually
from togetherchat.v1 import chat_pb2 as chat
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import usage_service_pb2 as usage
from togetherchat_sandbox import Sandbox, SandboxSettings

CASES = judge.read_cases(judge.CASES.read_text(encoding="utf-8"))
ARGUMENTS = judge.ARGUMENTS.read_text(encoding="utf-8")
BESIDE = ("provider_requests", "provider_saw", "service_calls", "service_request")
"""Facts that the servers know about a call, some of them only shortly after its end."""

UNKNOWN_EVENT = service.StreamCompleteResponse.FromString(b"\x82\x01\x03new")
UINT64_MAX = 2**64 - 1
INT64_MAX = 2**63 - 1
LEDGER = (
    ledger_row(1, tenant="größe", cost_nano_usd=2**53 + 1),
    ledger_row(2, tenant="acme", code="UNAVAILABLE", reason="OVERLOADED"),
)


def cases_of(language):
    """The cases of a language: calls, then arguments."""
    return (*CASES, *judge.read_argument_cases(ARGUMENTS, language.idiom))


class _OddFailure(Failure):
    """A failure with a detail of an unknown type before those of the contract."""

    def status(self):
        status = Failure.status(self)
        known = list(status.details)
        odd = Any(type_url="type.googleapis.com/togetherchat.v9.Unheard", value=b"\x0a\x01x")
        return status_pb2.Status(code=status.code, message=status.message, details=[odd, *known])


def _overloaded(pushback_ms):
    return Failure(
        code=grpc.StatusCode.UNAVAILABLE, reason="OVERLOADED", pushback_ms=pushback_ms, retryable=True
    )


def _large(message):
    """Put the largest numbers of the contract into a response or an event."""
    match message:
        case service.CompleteResponse():
            message.choices[0].seed = UINT64_MAX
            message.usage.cost_nano_usd = INT64_MAX
        case _ if message.HasField("choice_finished"):
            message.choice_finished.seed = UINT64_MAX
        case _ if message.HasField("completed"):
            message.completed.usage.cost_nano_usd = INT64_MAX
    return message


def _with_unknown_finish_reason(message):
    message.choices[0].finish_reason = 99
    return message


def _piece(index, arguments, **first):
    call = service.ToolCallDelta(index=index, arguments=arguments, **first)
    return service.StreamCompleteResponse(delta=service.Delta(tool_calls=[call]))


def _fragments():
    finished, completed = ending()
    finished.choice_finished.finish_reason = chat.FINISH_REASON_TOOL_CALLS
    return [
        started(),
        _piece(0, '{"id": 90071992', id="call_1", name="put"),
        _piece(1, "", id="call_2", name="get"),
        _piece(1, '{"id":18446744'),
        _piece(0, '54740993, "name": "größe"}'),
        _piece(1, "073709551616}"),
        finished,
        completed,
    ]


def _reasoning_content():
    finished, completed = ending()
    completed.completed.timings.total_duration.FromNanoseconds(1_500_000_001)
    field = chat.REASONING_FIELD_REASONING_CONTENT
    reasoning = [service.Delta(reasoning=text, reasoning_field=field) for text in ("H", "m")]
    return [
        started(),
        *(service.StreamCompleteResponse(delta=each) for each in reasoning),
        delta("Hello."),
        finished,
        completed,
    ]


def _report():
    report = usage.QueryUsageResponse(next_page_token="next")
    report.total.cost_nano_usd = INT64_MAX
    report.total.duration_p95.FromNanoseconds(1_500_000_001)
    return report


def scripts():
    """The outcomes of successive calls, for each model of the scripted service."""
    return {
        "unknown-event": [[started(), delta("Hel"), UNKNOWN_EVENT, delta("lo."), *ending()]],
        "unknown-finish-reason": [[_with_unknown_finish_reason(response_of("Hello."))]],
        "largest-numbers": [[_large(response_of("Hello."))]],
        "stream-largest-numbers": [[started(), delta("Hello."), *map(_large, ending())]],
        "stream-tool-call-fragments": [_fragments()],
        "unknown-detail": [
            [_OddFailure(code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND", retry_after_s=7)]
        ],
        "request": [[response_of("Hello.")]],
        "stream-reasoning-content": [_reasoning_content()],
        "usage-recovers": [[_overloaded(20)], [_report()]],
        "quotas": [
            [
                usage.ListQuotasResponse(
                    quotas=[
                        usage.Quota(
                            tenant="größe",
                            metric=usage.QUOTA_METRIC_COST_PER_DAY,
                            limit=INT64_MAX,
                            soft_limit=0,
                        )
                    ]
                )
            ]
        ],
        "reset": [
            [
                usage.ResetQuotaResponse(
                    quotas=[usage.Quota(metric=usage.QUOTA_METRIC_REQUESTS_PER_MINUTE, limit=60, left=60)]
                )
            ]
        ],
        "reset-not-permitted": [
            [Failure(code=grpc.StatusCode.PERMISSION_DENIED, reason="CALLER_NOT_PERMITTED")]
        ],
        "pushback": [[_overloaded(20)], [response_of("Hello.")]],
        "pushback-never": [[_overloaded(-1)], [response_of("Hello.")]],
        "no-retry-in-mid-stream": [
            [started(), delta("Hel"), _overloaded(1)],
            [started(), delta("lo."), *ending()],
        ],
    }


class ScriptedCases(ScriptedService):
    """The scripted service; the model or tenant `scripted/NAME` selects the script."""

    def __init__(self):
        super().__init__()
        self._scripts = scripts()

    def _next_turn(self, method):
        turns = self._scripts[_selector(self.seen[-1].request).removeprefix("scripted/")]
        return turns.pop(0) if len(turns) > 1 else turns[0]

    def beside(self, case_id):
        requests = [seen.request for seen in self.seen if seen.metadata["x-request-id"] == case_id]
        return {
            "service_calls": len(requests),
            "service_request": MessageToDict(requests[-1]) if requests else {},
        }


def _selector(request):
    match request:
        case usage.QueryUsageRequest():
            return request.models[0]
        case usage.ListQuotasRequest():
            return request.tenants[0]
        case usage.ResetQuotaRequest():
            return request.tenant
        case _:
            return request.model


class Service:
    """The facts that the real service and the sandbox know about a call."""

    def __init__(self, app, sandbox):
        self._app = app
        self._sandbox = sandbox

    def beside(self, case_id):
        entries = self._sandbox.request_log.entries(id=case_id)
        ended = [record for record in self._app.records() if record["id"] == case_id]
        return {
            "provider_requests": len(entries),
            "provider_saw": entries[-1].to_json()["ended"] if entries else "nothing",
            "service_calls": len(ended),
        }


@asynccontextmanager
async def servers():
    """Address and facts of each server, by its name in the cases."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            Sandbox(SandboxSettings(first_token_ms=0, tokens_per_second=0))
        )
        app = await stack.enter_async_context(
            running_app(
                sandbox.base_url,
                max_retries=2,
                max_queued_calls=128,
                upstream_credentials="caller-then-server",
                alias={"conformance/alias": "openai/gpt-oss-120b"},
                model_catalog="on",
            )
        )
        install(app, usage=MemoryLedger(LEDGER))
        scripted = ScriptedCases()
        address = await stack.enter_async_context(serving(scripted))
        yield {
            "service": (app.addresses.grpc, Service(app, sandbox)),
            "scripted": (address, scripted),
            "proxy": (await stack.enter_async_context(http_error_proxy()), NOTHING_BESIDE),
            "refused": (f"127.0.0.1:{stack.enter_context(refusing_port())}", NOTHING_BESIDE),
        }


class _NothingBeside:
    """A server that knows nothing about a call."""

    def beside(self, case_id):
        return {}


NOTHING_BESIDE = _NothingBeside()


@functools.cache
def verdicts(name):
    """The differences of each case, by its id; an empty list if the case passes."""
    language = actors.LANGUAGES[name]
    try:
        actors.build(language)
    except actors.ActorError as exc:
        return {case.id: [str(exc)] for case in cases_of(language)}
    roots = [Path(package.__path__[0]).parent for package in (togetherchat, togetherchat_client)]
    return run_all(language, {"PYTHONPATH": os.pathsep.join(map(str, roots))})


def run_all(language, environment):
    """The differences for a language whose actor is built, started with this environment."""
    return asyncio.run(_run_all(language, environment))


async def _run_all(language, environment):
    found = {}
    async with servers() as started_servers:
        for server, (address, facts) in started_servers.items():
            cases = [case for case in cases_of(language) if case.server == server]
            async with actors.running(language, address, environment) as actor:
                found |= await _run(actor, facts, cases)
    return found


async def _run(actor, facts, cases):
    found, observations = {}, {}
    for case in cases:
        actor_input = judge.with_page_token(case.actor_input, observations)
        try:
            observation = judge.parse_object(await actor.play(json.dumps(actor_input)))
        except (actors.ActorError, ValueError, TypeError) as exc:
            found[case.id] = [f"{type(exc).__name__}: {exc}"]
            continue
        observations[case.id] = observation
        found[case.id] = await _differences(case, observation, facts)
    if (status := await actor.end()) != 0:
        found[cases[-1].id] = [*found[cases[-1].id], f"the actor exited with status {status}"]
    return found


async def _differences(case, observation, facts):
    seen = {"id": case.id} | {name: each for name, each in case.expect.items() if name not in BESIDE}
    beside = {name: each for name, each in case.expect.items() if name in BESIDE}
    with suppress(TimeoutError):
        await eventually(lambda: not list(judge.differences(beside, facts.beside(case.id))), within_s=20)
    return [
        *judge.differences(seen, judge.facts(observation)),
        *judge.differences(beside, facts.beside(case.id)),
    ]
