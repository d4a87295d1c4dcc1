"""docs/grpcurl.md: every line does what the page says, by the shell, at the top of the tree.

A line ends with 0, or with what its comment says. GRPCURL and GHZ say where the programs are.
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
# Shell functions: the programs have their versions in their names.
PROGRAMS = "".join(f'{name}() {{ "${name.upper()}" "$@"; }}\n' for name in ("grpcurl", "ghz"))
ELSEWHERE = "chat.example.com:443"
HERE = [line for line in LINES if ELSEWHERE not in line]
RPCS = (
    "ChatService/Complete",
    "ChatService/StreamComplete",
    "ChatService/ListModels",
    "Health/Check",
    "Health/Watch",
    "Health/List",
)


def line(*words):
    """The page's first line that has all these words."""
    return next(each for each in LINES if all(word in each for word in words))


def shell(text, address):
    """Run a line as it is printed, but for the address."""
    if "jq" in text and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", PROGRAMS + text.replace("localhost:50051", address)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "TOGETHER_API_KEY": "none"},
    )  # fmt: skip


def expected_status(text):
    said = re.search(r"# exit (\d+)$", text)
    return int(said[1]) if said else 0


def errors_of(result):
    """The details of a failure by the last word of their type."""
    details = json.loads(result.stderr)["details"]
    return {detail["@type"].rpartition(".")[2]: detail for detail in details}


@pytest.mark.parametrize("text", HERE)
def test_a_line_of_the_page_ends_as_it_says(text, address):
    """Each calls, is answered, and its status is the one beside it."""
    result = shell(text, address)

    assert expected_status(text) == result.returncode, result.stdout + result.stderr
    assert result.stdout or result.stderr


def test_every_rpc_has_a_line():
    """The three of the contract, and those of the health service."""
    assert [] == [rpc for rpc in RPCS if f"{rpc}\n" not in f"{PAGE} " and f"{rpc} " not in PAGE]


@pytest.mark.parametrize("text", [text for text in HERE if "-protoset" in text or "-import-path" in text])
def test_a_line_without_reflection_needs_none(text, address_without_reflection):
    """The descriptor set and the files are enough."""
    result = shell(text, address_without_reflection)

    assert expected_status(text) == result.returncode, result.stdout + result.stderr


def test_the_descriptor_set_reads_the_details_of_errors(address_without_reflection):
    """Not as base64, as where a type is not known."""
    result = shell(line("-protoset", "error-404"), address_without_reflection)

    assert "MODEL_NOT_FOUND" == errors_of(result)["ErrorInfo"]["reason"]


def test_a_key_out_of_the_environment_reaches_the_provider(address):
    """The sandbox refuses the key `invalid`, and takes any other."""
    text = line("-expand-headers").replace("-plaintext", "-plaintext -format-error")
    result = shell(f"TOGETHER_API_KEY=invalid {text}", address)

    assert "CALLER_KEY_REJECTED" == errors_of(result)["ErrorInfo"]["reason"]


def test_the_trailers_have_the_id_that_was_sent(address):
    """As `-v` shows them."""
    said = shell(line("-v", "x-request-id"), address).stdout

    assert "x-request-id: order-17" in said
    assert "x-upstream: sandbox" in said


def test_a_deadline_reaches_the_service(address):
    """It says itself that the time was up, or the client does where it comes first."""
    result = shell(
        line("-max-time", "sandbox/stall").replace("-max-time", "-format-error -max-time"), address
    )

    assert 4 == json.loads(result.stderr)["code"]


def test_violations_are_named(address):
    """Everything that is wrong, by the path of the field."""
    violations = errors_of(shell(line('"temperature": 3'), address))["BadRequest"]["field_violations"]

    assert {"messages", "temperature", "top_p"} == {violation["field"] for violation in violations}


@pytest.mark.parametrize("text", [text for text in HERE if text.startswith("ghz")])
def test_every_call_of_ghz_succeeds(text, address):
    """Its report has no status but OK, and as many as were asked for."""
    said = shell(text, address).stdout

    assert [("OK", re.search(r"--total (\d+)", text)[1])] == re.findall(r"\[(\w+)\]\s+(\d+) responses", said)


async def test_the_line_for_tls_calls_over_tls(tmp_path):
    """With the file names and the address of the page replaced by real ones."""
    made = make_certificate(tmp_path)
    credentials = grpc.ssl_server_credentials(
        [(made.key_file.read_bytes(), made.certificate_file.read_bytes())]
    )
    page = service.ListModelsResponse(models=[models.Model(id="over-tls")])
    async with serving(ScriptedService(ListModels=[[page]]), credentials=credentials) as address:
        text = line(ELSEWHERE).replace(ELSEWHERE, address).replace("ca.pem", str(made.certificate_file))
        # The scripted service describes itself to nobody.
        text = text.replace("grpcurl ", "grpcurl -protoset protos/togetherchat.binpb ")
        text = text.replace("-d ", "-H 'x-request-id: 1' -d ", 1)
        result = await asyncio.to_thread(shell, text, address)

    assert "over-tls" in result.stdout, result.stderr
