"""The audit log of a real service: who used which key from where, rotation, full disks and workers."""

import asyncio
import json
import os
import signal
import stat
from contextlib import asynccontextmanager

import httpx
import pytest
from grpc import aio

from support import openai
from support.app import CANARY_PROMPT, MODEL, failing, request
from support.audit import AuditedFile, without_common
from support.command import running_command
from support.fleet import running_fleet
from support.http_client import COMPLETIONS, get_page, head, raw_caller, request_body, running_http
from support.scraping import scraped
from support.scripted_upstream import ScriptedUpstream, always
from support.tenants import Keys, bearer
from support.upstream_script import json_response
from support.waiting import eventually, poll
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.telemetry.metrics import definitions as names
from togetherchat_server.tenants.key_format import format_key, key_id_of

COMPLETE = "/togetherchat.v1.ChatService/Complete"
UNKNOWN = format_key(bytes(6), bytes(32))
NO_RETRIES = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


@pytest.fixture
def audit(tmp_path):
    return AuditedFile(tmp_path / "audit.jsonl")


@asynccontextmanager
async def running(keys, audit, **settings):
    """Run the service with keys and an audit log. The tests send bad keys, so the auth throttle is off."""
    chosen = {"audit_log": str(audit.path), "auth_failures_per_minute": 0, **settings}
    async with (
        ScriptedUpstream(always(json_response(200, openai.completion()))) as upstream,
        running_http(upstream.base_url, api_keys_file=str(keys.path), **chosen) as service,
    ):
        yield service


async def over_http(service, key):
    return await service.client.post(
        COMPLETIONS, json=request_body(), headers={"authorization": f"Bearer {key}"}
    )


async def until_rejected(service, key):
    """Call until the revoked key is rejected, within about a second. Return the failure."""

    async def rejected():
        try:
            await service.app.chat.Complete(request(), metadata=bearer(key))
        except aio.AioRpcError as error:
            return error
        return None

    return await poll(rejected)


async def test_the_life_of_a_key_can_be_read_from_the_log(keys, audit):
    """Who created it, who used it from where, who revoked it, and who tried it afterwards; in this order."""
    environment = {"TOGETHERCHAT_API_KEYS_FILE": str(keys.path), "SUDO_USER": "alice"}
    written = ("--audit-log", str(audit.path))
    _, key, _ = keys.run("create", "--tenant", "acme", "--label", "shop", *written, environment=environment)
    key = key.strip()
    async with running(keys, audit) as service:
        await service.app.chat.Complete(request(), metadata=bearer(key))
        await service.app.chat.Complete(request(), metadata=bearer(key))
        await audit.wait_for("credential_first_used")
        keys.run("revoke", key_id_of(key), *written, environment=environment)
        await until_rejected(service, key)
        response = await over_http(service, key)
        rejections = await audit.wait_for("credential_rejected", 2)

    caller = {"key_id": key_id_of(key), "client_address": "127.0.0.1"}
    operator = {"key_id": key_id_of(key), "tenant": "acme", "label": "shop", "operator": "alice"}
    refused = {**caller, "reason": "INVALID_CREDENTIALS", "detail": "the key was revoked"}
    events = [without_common(line) for line in audit.events()]
    request_ids = [event.pop("request_id") for event in events if "request_id" in event]
    assert 401 == response.status_code
    assert len(set(request_ids)) == 3
    assert response.headers["x-request-id"] == rejections[-1]["request_id"]
    assert [
        {"event": "key_created", **operator},
        {
            "event": "credential_first_used",
            **caller,
            "tenant": "acme",
            "protocol": "grpc",
            "method": COMPLETE,
        },
        {"event": "key_revoked", **operator},
        {"event": "file_reloaded", "file": str(keys.path)},
        {"event": "credential_rejected", **refused, "protocol": "grpc", "method": COMPLETE},
        {"event": "credential_rejected", **refused, "protocol": "http", "method": "chat.completions"},
    ] == events


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([], ("MISSING_CREDENTIALS", None)),
        (bearer("nonsense"), ("INVALID_CREDENTIALS", None)),
        (bearer(UNKNOWN), ("INVALID_CREDENTIALS", key_id_of(UNKNOWN))),
    ],
    ids=["no key", "no key of this service", "an unknown key"],
)
async def test_every_rejected_credential_is_an_event(keys, audit, metadata, expected):
    """With the reason, the sentence that the caller received, and the key's id if it has one."""
    keys.create("acme")
    async with running(keys, audit) as service:
        failure = await failing(service.app.chat.Complete(request(), metadata=metadata))
        (event,) = await audit.wait_for("credential_rejected")

    assert expected == (event["reason"], event.get("key_id"))
    assert failure.message == event["detail"]


async def test_the_address_behind_a_trusted_proxy_is_the_clients(keys, audit):
    """As in the log of calls."""
    metadata = bearer(keys.create("acme"), ("x-forwarded-for", "203.0.113.7"))
    async with running(keys, audit, trusted_proxies="127.0.0.1") as service:
        await service.app.chat.Complete(request(), metadata=metadata)
        (event,) = await audit.wait_for("credential_first_used")

    assert "203.0.113.7" == event["client_address"]


async def rejected_call(service, audit, expected):
    """Make a call with an unknown key, and wait until the files have this many lines about such calls."""
    await failing(service.app.chat.Complete(request(), metadata=bearer(UNKNOWN)))
    await eventually(lambda: expected == sum(len(file.events("credential_rejected")) for file in audit))


async def test_no_line_is_lost_when_the_file_is_renamed_while_calls_run(keys, audit, tmp_path):
    """The service creates the file anew within about a second. Until then lines go to the renamed one."""
    keys.create("acme")
    renamed = AuditedFile(tmp_path / "audit.jsonl.1")
    async with running(keys, audit) as service:
        for number in range(5):
            await rejected_call(service, [audit], number + 1)
        audit.path.rename(renamed.path)
        calls = 5
        while not audit.events("credential_rejected"):
            calls += 1
            await rejected_call(service, [audit, renamed], calls)
        inode = audit.path.stat().st_ino

    assert inode != renamed.path.stat().st_ino
    assert 0o600 == stat.S_IMODE(audit.path.stat().st_mode)
    assert 1 <= len(audit.events()) < calls


async def test_a_truncated_file_continues_at_its_start(keys, audit, tmp_path):
    """As logrotate's `copytruncate` does: copy, then truncate, while calls run."""
    keys.create("acme")
    copied = AuditedFile(tmp_path / "audit.jsonl.1")
    async with running(keys, audit) as service:
        for number in range(5):
            await rejected_call(service, [audit], number + 1)
        copied.path.write_bytes(audit.path.read_bytes())
        os.truncate(audit.path, 0)
        for number in range(5, 10):
            await rejected_call(service, [audit, copied], number + 1)

    assert (5, 5) == (len(copied.events()), len(audit.events()))
    assert audit.path.read_bytes().startswith(b'{"time":')


async def test_a_full_disk_fails_no_call(keys):
    """Lines are dropped and counted, and the log has one warning about it."""
    key = keys.create("acme")
    full = AuditedFile("/dev/full")
    async with running(keys, full) as service:
        answers = [await over_http(service, key) for _ in range(3)]
        rejected = [await over_http(service, UNKNOWN) for _ in range(3)]
        dropped = await poll(lambda: dropped_of(service.app.addresses.admin, 4))
    log = [json.loads(line) for line in service.app.log.getvalue().splitlines()]

    assert ([200] * 3, [401] * 3) == (
        [answer.status_code for answer in answers],
        [answer.status_code for answer in rejected],
    )
    # The first use, the rejections, and the scrape itself.
    assert 5 >= dropped
    (warning,) = [line for line in log if "audit log" in line.get("message", "")]
    assert "cannot be written (No space left on device); lines are dropped" in warning["message"]
    assert "warning" == warning["level"]


async def dropped_of(admin, at_least):
    page = await scraped(admin)
    dropped = page.value(names.AUDIT_LINES_DROPPED)
    return dropped if dropped >= at_least else None


async def test_accesses_to_the_admin_port_are_events(keys, audit):
    """One for equal ones, none for probes, and one for a page that a rebound name requested."""
    keys.create("acme")
    async with running(keys, audit) as service:
        admin = service.app.addresses.admin
        for path in ("/metrics", "/metrics", "/healthz", "/readyz", "/secrets"):
            await get_page(admin, path)
        async with raw_caller(admin) as caller:
            await caller.send(b"GET /metrics HTTP/1.1\r\nhost: attacker.example\r\n\r\n")
            await caller.read_to_end()
        await audit.wait_for("admin_access", 3)

    assert [("/metrics", 200), ("other", 404), ("/metrics", 421)] == [
        (event["path"], event["http_status"]) for event in audit.events("admin_access")
    ]


async def test_workers_and_their_supervisor_append_whole_lines_to_one_file(keys, audit):
    """The workers report calls, the supervisor accesses to its admin port. Every line is an object."""
    key = keys.create("acme")
    arguments = ("--api-keys-file", str(keys.path), "--audit-log", str(audit.path))
    async with running_fleet(*arguments, "--auth-failures-per-minute", "0") as fleet:
        workers = await fleet.wait_until_serving()

        async def call():
            async with aio.insecure_channel(fleet.grpc, options=NO_RETRIES) as channel:
                chat = service_grpc.ChatServiceStub(channel)
                await chat.Complete(request(model="sandbox/fast"), metadata=bearer(key))
                for _ in range(5):
                    await failing(chat.Complete(request(), metadata=bearer(UNKNOWN)))

        while not workers <= {line["pid"] for line in audit.events("credential_first_used")}:
            await asyncio.gather(*(call() for _ in range(8)))
        await scraped(fleet.admin)
        await eventually(lambda: "/metrics" in {line["path"] for line in audit.events("admin_access")})

    lines = audit.path.read_text().splitlines()
    assert lines
    assert {fleet.pid} == {line["pid"] for line in audit.events("admin_access")}
    assert workers == {line["pid"] for line in audit.events("credential_rejected")}
    # Each worker reports the first use that it saw.
    assert 2 == len(audit.events("credential_first_used"))
    assert len(lines) == len([json.loads(line) for line in lines])


async def test_lines_that_the_supervisor_loses_are_counted(keys):
    """It has none of the calls, but the accesses to its admin port."""
    keys.create("acme")
    arguments = ("--api-keys-file", str(keys.path), "--audit-log", "/dev/full")
    async with running_fleet(*arguments) as fleet:
        dropped = await poll(lambda: dropped_of(fleet.admin, 1))
        await fleet.command.wait_for_line("lines are dropped")

    # The pages /workers and /metrics.
    assert 2 >= dropped


async def test_the_audit_log_on_standard_error_has_whole_lines_beside_the_log(keys):
    """The two are told apart by `event`."""
    key = keys.create("acme")
    arguments = (
        "--sandbox", "--sandbox-tokens-per-second", "0", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off",
        "--log-format", "json", "--api-keys-file", str(keys.path), "--audit-log", "stderr",
    )  # fmt: skip
    async with running_command(*arguments) as command:
        banner = await command.wait_for_line("SERVING: gRPC on ")
        address = banner.partition("gRPC on ")[2].partition(",")[0]
        async with aio.insecure_channel(address, options=NO_RETRIES) as channel:
            chat = service_grpc.ChatServiceStub(channel)
            await asyncio.gather(
                *(chat.Complete(request(model="sandbox/fast"), metadata=bearer(key)) for _ in range(100))
            )
        command.signal(signal.SIGTERM)
        await command.wait_for_exit()
    events = [json.loads(line)["event"] for line in command.lines if line != banner]

    assert 1 == events.count("credential_first_used")
    assert 100 == events.count("call")
    assert {"call", "log", "credential_first_used"} >= set(events)


async def test_a_file_that_cannot_be_opened_ends_the_start(tmp_path):
    """Exit status 2 and one line, as for every setting."""
    path = tmp_path / "no" / "audit.jsonl"
    async with running_command("--sandbox", "--audit-log", str(path)) as command:
        status = await command.wait_for_exit()

    assert 2 == status
    assert [
        f"togetherchat-server: --audit-log {path}: cannot open the file: No such file or directory"
    ] == command.lines


async def test_the_log_holds_no_key_and_no_prompt(keys, audit):
    """Whatever a caller sends in their place."""
    key = keys.create("acme")
    revoked = keys.create("acme")
    keys.revoke(revoked)
    async with running(keys, audit) as service:
        for sent in (key, revoked, UNKNOWN, key[:-1], f"{key}, {key}", CANARY_PROMPT):
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.post(
                    f"http://{service.address}{COMPLETIONS}",
                    json=request_body(messages=[{"role": "user", "content": CANARY_PROMPT}]),
                    headers={"authorization": f"Bearer {sent}", "user-agent": sent},
                )
        async with raw_caller(service.address) as caller:
            await caller.send(head(f"authorization: Bearer {revoked}", method="GET", path=f"/v1/{revoked}"))
        await audit.wait_for("credential_rejected", 4)
    text = audit.path.read_text()

    assert MODEL not in text
    assert CANARY_PROMPT not in text
    assert [] == [one for one in (key, revoked) if one.rpartition("_")[2][:16] in text]
