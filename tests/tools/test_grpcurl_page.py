"""Tests of the commands of docs/grpcurl.md in a shell, from the root of the repository.

A command exits with 0, or with the status in its comment. GRPCURL and GHZ have the paths of the programs.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from support.certificates import make_certificate
from support.scripted_service import ScriptedService, serving
from togetherchat.v1 import chat_service_pb2 as service
from togetherchat.v1 import models_pb2 as models

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "grpcurl.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
# Shell functions, because the file names of the programs contain versions.
PROGRAMS = "".join(f'{name}() {{ "${name.upper()}" "$@"; }}\n' for name in ("grpcurl", "ghz"))
ELSEWHERE = "chat.example.com:443"
HERE = [line for line in LINES if ELSEWHERE not in line]
RPCS = (
    "ChatService/Complete",
    "ChatService/StreamComplete",
    "ChatService/ListModels",
    "ChatService/GetModel",
    "UsageService/QueryUsage",
    "UsageService/ListQuotas",
    "UsageService/ResetQuota",
    "Health/Check",
    "Health/Watch",
    "Health/List",
)


def page_line(*words):
    """Return the first command of the page that has all these words."""
    return next(each for each in LINES if all(word in each for word in words))


def shell(text, address):
    """Run a command as printed, except for the address."""
    if "jq" in text and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", PROGRAMS + text.replace("localhost:50051", address)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "TOGETHER_API_KEY": "none"},
    )  # fmt: skip


def expected_status(text):
    found = re.search(r"# exit (\d+)$", text)
    return int(found[1]) if found else 0


def error_details(result):
    """Return the error details by the last part of their type."""
    details = json.loads(result.stderr)["details"]
    return {detail["@type"].rpartition(".")[2]: detail for detail in details}


@pytest.mark.parametrize("text", HERE)
def test_every_command_has_the_documented_status(text, address):
    """Every command prints something, and its exit status is the one in its comment."""
    result = shell(text, address)

    assert expected_status(text) == result.returncode, result.stdout + result.stderr
    assert result.stdout or result.stderr


def test_every_rpc_has_a_command():
    """The page has a command for each RPC of the contract and of the health service."""
    assert [] == [rpc for rpc in RPCS if f"{rpc}\n" not in f"{PAGE} " and f"{rpc} " not in PAGE]


@pytest.mark.parametrize("text", [text for text in HERE if "-protoset" in text or "-import-path" in text])
def test_commands_with_descriptors_need_no_reflection(text, address_without_reflection):
    """The descriptor set or the proto files replace reflection."""
    result = shell(text, address_without_reflection)

    assert expected_status(text) == result.returncode, result.stdout + result.stderr


def test_the_descriptor_set_decodes_the_details_of_errors(address_without_reflection):
    """Details are decoded, not printed as base64."""
    result = shell(page_line("-protoset", "error-404"), address_without_reflection)

    assert "MODEL_NOT_FOUND" == error_details(result)["ErrorInfo"]["reason"]


def test_a_key_of_the_environment_reaches_the_provider(address):
    """The sandbox rejects the key `invalid`, and accepts any other."""
    text = page_line("-expand-headers").replace("-plaintext", "-plaintext -format-error")
    result = shell(f"TOGETHER_API_KEY=invalid {text}", address)

    assert "CALLER_KEY_REJECTED" == error_details(result)["ErrorInfo"]["reason"]


def test_the_trailers_contain_the_request_id(address):
    """`-v` prints the request id that was sent."""
    output = shell(page_line("-v", "x-request-id"), address).stdout

    assert "x-request-id: order-17" in output
    assert "x-upstream: sandbox" in output


def test_a_deadline_reaches_the_service(address):
    """The service or the client ends the call with DEADLINE_EXCEEDED."""
    result = shell(
        page_line("-max-time", "sandbox/stall").replace("-max-time", "-format-error -max-time"), address
    )

    assert 4 == json.loads(result.stderr)["code"]


def test_all_violations_are_named(address):
    """BadRequest lists all violations with the path of the field."""
    violations = error_details(shell(page_line('"temperature": 3'), address))["BadRequest"][
        "field_violations"
    ]

    assert {"messages", "temperature", "top_p"} == {violation["field"] for violation in violations}


@pytest.mark.parametrize("text", [text for text in HERE if text.startswith("ghz")])
def test_every_call_of_ghz_succeeds(text, address):
    """The report has the requested number of calls, all with status OK."""
    output = shell(text, address).stdout

    assert [("OK", re.search(r"--total (\d+)", text)[1])] == re.findall(
        r"\[(\w+)\]\s+(\d+) responses", output
    )


async def test_the_tls_command_calls_over_tls(tmp_path):
    """The file names and the address of the page are replaced by real ones."""
    made = make_certificate(tmp_path)
    credentials = grpc.ssl_server_credentials(
        [(made.key_file.read_bytes(), made.certificate_file.read_bytes())]
    )
    page = service.ListModelsResponse(models=[models.Model(id="over-tls")])
    async with serving(ScriptedService(ListModels=[[page]]), credentials=credentials) as address:
        text = page_line(ELSEWHERE).replace(ELSEWHERE, address).replace("ca.pem", str(made.certificate_file))
        # The scripted service does not have reflection.
        text = text.replace("grpcurl ", "grpcurl -protoset protos/togetherchat.binpb ")
        text = text.replace("-d ", "-H 'x-request-id: 1' -d ", 1)
        result = await asyncio.to_thread(shell, text, address)

    assert "over-tls" in result.stdout, result.stderr
