"""Tests of the client library and the command with the service over TLS."""

import asyncio
import os
import sys

import pytest

from support.app import running_app
from support.tls import Pair
from togetherchat_client import Tls, UnavailableError, connect, connect_async, text_of

pytest_plugins = ["support.tls_fixtures"]


@pytest.fixture(scope="module")
def server(pairs):
    return pairs[0]


@pytest.fixture(scope="module")
def own(authority):
    return Pair(authority, "service-a.example.com")


@pytest.fixture
def folder(folder, own):
    """The folder of the certificates, with a client certificate in it."""
    (folder.path / "own.crt").write_bytes(own.chain)
    (folder.path / "own.key").write_bytes(own.key)
    return folder


def serving(folder):
    return running_app(**folder.settings(mutual=True), sandbox_tokens_per_second=0)


def shown(server, own):
    return Tls(
        root_certificates=server.authority, certificate_chain=own.chain, private_key=own.key, server_name=""
    )


async def test_the_library_sends_a_client_certificate(folder, server, own):
    """Both clients, with a service that requires client certificates."""
    async with serving(folder) as app:
        async with connect_async(app.addresses.grpc, tls=shown(server, own)) as client:
            answers = [await client.complete("some/model", "echo: hi")]

        def blocking():
            with connect(app.addresses.grpc, tls=shown(server, own)) as client:
                return client.complete("some/model", "echo: hi")

        answers.append(await asyncio.to_thread(blocking))

    assert ["hi"] * 2 == [text_of(answer) for answer in answers]


async def test_without_a_certificate_the_service_is_unavailable(folder, server):
    """The connection fails before the call."""
    async with (
        serving(folder) as app,
        connect_async(
            app.addresses.grpc, tls=Tls(root_certificates=server.authority), retries=False
        ) as client,
    ):
        with pytest.raises(UnavailableError):
            await client.complete("some/model", "echo: hi")


def test_the_options_do_not_print_the_key(server, own):
    """A `repr` may end up in a log."""
    assert "PRIVATE" not in repr(shown(server, own))


async def command(*words, target):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "togetherchat_client.cli", *words,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "TOGETHERCHAT_TARGET": target},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode().strip(), err.decode()


async def test_the_command_sends_a_client_certificate(folder):
    """Options name the files. Without them the service is unavailable."""
    trust = ("--ca-file", str(folder.client_ca))
    show = ("--cert-file", str(folder.path / "own.crt"), "--cert-key-file", str(folder.path / "own.key"))
    async with serving(folder) as app:
        accepted = await command("complete", "echo: hi", *trust, *show, target=app.addresses.grpc)
        rejected = await command("complete", "Hi", *trust, "--no-retries", target=app.addresses.grpc)

    assert (0, "hi") == accepted[:2]
    assert (7, "") == rejected[:2]
    assert "Traceback" not in rejected[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cert-file", "own.crt"], "--cert-file and --cert-key-file must be given together"),
        (["--cert-key-file", "own.key"], "--cert-file and --cert-key-file must be given together"),
        (
            ["--cert-file", "own.crt", "--cert-key-file", "own.key", "--no-tls"],
            "--cert-file and --no-tls contradict each other",
        ),
    ],
)
async def test_half_of_a_certificate_is_wrong_usage(words, message):
    """The command exits with 2 and one line on standard error."""
    code, out, err = await command("complete", "Hi", *words, target="127.0.0.1:1")

    assert (2, "") == (code, out)
    assert message in err
