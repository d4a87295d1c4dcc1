"""Tests of grpcurl against a server, with the commands of the README.

Needs the program `grpcurl`: `make test-tools` builds it, and GRPCURL has its path.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
README_ADDRESS = "localhost:50051"


def lines():
    return re.findall(r"^grpcurl .*$", README.read_text(encoding="utf-8"), re.MULTILINE)


def readme_line(*words):
    """Return the only command of the README that has all these words."""
    (line,) = [line for line in lines() if all(word in line for word in words)]
    return line


def run(line, address, *options):
    program, *arguments = shlex.split(line.replace(README_ADDRESS, address))
    assert "grpcurl" == program
    return subprocess.run(
        [os.environ["GRPCURL"], *options, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def output(line, address, *options):
    result = run(line, address, *options)
    assert (0, "") == (result.returncode, result.stderr)
    return result.stdout


def json_values(text):
    """Parse the JSON values of a text."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        value, end = decoder.raw_decode(text, position)
        found.append(value)
        position = end + len(text[end:]) - len(text[end:].lstrip())
    return found


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.rpartition(" ")[2])
def test_every_command_of_the_readme_works(line, address):
    """Only the command that provokes an error fails."""
    result = run(line, address)

    assert ("error-429" in line) == (result.returncode != 0), result.stderr


def test_list(address):
    """`list` prints all services, and both names of reflection."""
    assert [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "togetherchat.v1.ChatService",
        "togetherchat.v1.UsageService",
    ] == output(readme_line(" list"), address).split()


def test_describe(address):
    """`describe` prints the four RPCs, and all services."""
    described = output(readme_line("describe"), address)

    assert {"Complete", "StreamComplete", "ListModels", "GetModel"} == set(
        re.findall(r"rpc (\w+)", described)
    )
    everything = output(f"grpcurl -plaintext {README_ADDRESS} describe", address)
    assert 5 == everything.count("is a service:")


@pytest.mark.parametrize("name", ["ErrorInfo", "RetryInfo", "QuotaFailure", "BadRequest", "Help"])
def test_describe_the_details_of_errors(name, address):
    """Reflection describes the types of error details."""
    assert "is a message" in output(
        f"grpcurl -plaintext {README_ADDRESS} describe google.rpc.{name}", address
    )


def test_complete(address):
    """Complete returns one response with text and usage."""
    (value,) = json_values(output(readme_line("ChatService/Complete", "gpt-oss", "Hello"), address))

    assert value["choices"][0]["message"]["content"][0]["text"]
    assert value["usage"]["total_tokens"] > 0
    assert "sandbox" == value["system_fingerprint"]


def test_stream_complete(address):
    """The stream follows its guarantees: `started` first, `completed` last."""
    events = json_values(output(readme_line("StreamComplete"), address))
    kinds = [next(iter(event)) for event in events]

    assert ("started", "choice_finished", "completed") == (kinds[0], kinds[-2], kinds[-1])
    assert {"delta"} == set(kinds[1:-2])


def test_list_models(address):
    """ListModels returns a page of models."""
    (value,) = json_values(output(readme_line("ListModels"), address))

    assert "openai/gpt-oss-120b" in {model["id"] for model in value["models"]}


def test_format_error_prints_the_details(address):
    """The error is JSON with all details decoded, none as base64."""
    result = run(readme_line("error-429"), address)
    error = json.loads(result.stderr)
    details = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}

    assert 8 == error["code"]
    assert "RATE_LIMITED_REQUESTS" == details["ErrorInfo"]["reason"]
    assert {"ErrorInfo", "RequestInfo", "RetryInfo", "QuotaFailure", "Help"} == set(details)
    assert not any("value" in detail and len(detail) == 2 for detail in error["details"])


def test_a_bad_request_names_the_field(address):
    """BadRequest contains the field of the violation."""
    line = readme_line("ChatService/Complete", "gpt-oss", "Hello").replace(
        '"model"', '"temperature": 3, "model"'
    )
    result = run(line, address, "-format-error")
    details = json.loads(result.stderr)["details"]
    (bad,) = [detail for detail in details if detail["@type"].endswith("BadRequest")]

    assert ["temperature"] == [violation["field"] for violation in bad["field_violations"]]


def test_health_check(address):
    """The standard health service returns SERVING."""
    assert [{"status": "SERVING"}] == json_values(output(readme_line("Health/Check"), address))
