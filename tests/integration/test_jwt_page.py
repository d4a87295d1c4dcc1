"""docs/jwt.md: its command serves, and its rules for tenants do what the page says."""

import re
import shlex
from pathlib import Path

import grpc
from grpc import aio

from support.app import request
from support.command import running_command
from support.tenants import bearer
from support.tokens import Key, jwks
from togetherchat.v1 import chat_service_pb2_grpc as service_grpc
from togetherchat_server.tenants.jwt.key_set import ALGORITHMS
from togetherchat_server.tenants.jwt.token import TOKEN_BYTES_MAX
from togetherchat_server.tenants.tenants_file import read_tenants

PAGE = (Path(__file__).parents[2] / "docs" / "jwt.md").read_text(encoding="utf-8")
(SERVE,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SUBJECTS, CERTIFICATES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def code_of(chat, token):
    try:
        await chat.Complete(request(), metadata=bearer(token))
    except aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_the_command_serves_callers_of_the_page(tmp_path):
    """A listed subject, a name of a tenant, a disabled tenant and a stranger."""
    key = Key("one")
    (tmp_path / "jwks.json").write_bytes(jwks(key))
    (tmp_path / "tenants.toml").write_text(SUBJECTS)
    _, *arguments = shlex.split(SERVE)
    arguments = [str(tmp_path / item) if (tmp_path / item).is_file() else item for item in arguments]
    subjects = ("system:serviceaccount:payments:web", "acme", "former", "system:serviceaccount:x:y")
    async with running_command(
        *arguments, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off"
    ) as command:
        address = re.search(r"gRPC on (\S+?),", await command.wait_for_line("SERVING"))[1]
        async with aio.insecure_channel(address) as channel:
            chat = service_grpc.ChatServiceStub(channel)
            codes = [
                await code_of(chat, key.token(iss="https://issuer.example", sub=name)) for name in subjects
            ]

    code = grpc.StatusCode
    assert [code.OK, code.OK, code.PERMISSION_DENIED, code.UNAUTHENTICATED] == codes


def test_the_certificates_of_the_page_are_valid(tmp_path):
    """The file names a tenant for each."""
    (tmp_path / "tenants.toml").write_text(CERTIFICATES)
    certificates = read_tenants(tmp_path / "tenants.toml").certificates

    assert "payments" == certificates.tenant_of(("spiffe://example.org/payments/web",))
    assert "billing" == certificates.tenant_of(("CN=billing,O=Example",))


def test_the_page_names_every_algorithm_and_the_size():
    """As the code has them."""
    (sentence,) = re.findall(r"Its signature is one of ([^,]+(?:, [A-Z0-9]+)* or \w+),", PAGE)

    assert ALGORITHMS == set(re.split(r", | or ", sentence))
    assert f"at most {TOKEN_BYTES_MAX:,} bytes" in PAGE
