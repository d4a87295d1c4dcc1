"""grpcurl against the running server, by the lines that the README prints.

Needs the program `grpcurl`: `make test-tools` builds it. GRPCURL says where it is.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
PRINTED = "localhost:50051"


def lines():
    return re.findall(r"^grpcurl .*$", README.read_text(encoding="utf-8"), re.MULTILINE)


def printed(*words):
    """The README's line that has all these words."""
    (line,) = [line for line in lines() if all(word in line for word in words)]
    return line


def run(line, address, *options):
    command, *words = shlex.split(line.replace(PRINTED, address))
    assert "grpcurl" == command
    return subprocess.run(
        [os.environ["GRPCURL"], *options, *words], capture_output=True, text=True, check=False, timeout=60
    )


def answer(line, address, *options):
    result = run(line, address, *options)
    assert (0, "") == (result.returncode, result.stderr)
    return result.stdout


def values(text):
    """The JSON values of a text, one behind the other."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text.rstrip()):
        value, end = decoder.raw_decode(text, place)
        found.append(value)
        place = end + len(text[end:]) - len(text[end:].lstrip())
    return found


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.rpartition(" ")[2])
def test_every_line_of_the_readme_does_something(line, address):
    """No line that the README prints fails for a reason of its own."""
    result = run(line, address)

    assert ("error-429" in line) == (result.returncode != 0), result.stderr


def test_it_lists(address):
    """Every service is listed, under both names of reflection."""
    assert [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "togetherchat.v1.ChatService",
    ] == answer(printed(" list"), address).split()


def test_it_describes(address):
    """The three RPCs are described, and so is everything that is listed."""
    described = answer(printed("describe"), address)

    assert {"Complete", "StreamComplete", "ListModels"} == set(re.findall(r"rpc (\w+)", described))
    everything = answer(f"grpcurl -plaintext {PRINTED} describe", address)
    assert 4 == everything.count("is a service:")


@pytest.mark.parametrize("name", ["ErrorInfo", "RetryInfo", "QuotaFailure", "BadRequest", "Help"])
def test_it_describes_the_details_of_errors(name, address):
    """The types that travel in a status can be described."""
    assert "is a message" in answer(f"grpcurl -plaintext {PRINTED} describe google.rpc.{name}", address)


def test_it_completes(address):
    """One answer, with text and usage."""
    (value,) = values(answer(printed("ChatService/Complete", "gpt-oss", "Hello"), address))

    assert value["choices"][0]["message"]["content"][0]["text"]
    assert value["usage"]["total_tokens"] > 0
    assert "sandbox" == value["system_fingerprint"]


def test_it_streams(address):
    """Events by the law: started first, completed last."""
    events = values(answer(printed("StreamComplete"), address))
    kinds = [next(iter(event)) for event in events]

    assert ("started", "choice_finished", "completed") == (kinds[0], kinds[-2], kinds[-1])
    assert {"delta"} == set(kinds[1:-2])


def test_it_lists_models(address):
    """A page of models, the catalogue's and the provider's."""
    (value,) = values(answer(printed("ListModels"), address))

    assert "openai/gpt-oss-120b" in {model["id"] for model in value["models"]}


def test_it_prints_the_details_of_an_error(address):
    """A failure is JSON with every detail readable, none as base64."""
    result = run(printed("error-429"), address)
    error = json.loads(result.stderr)
    details = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}

    assert 8 == error["code"]
    assert "RATE_LIMITED_REQUESTS" == details["ErrorInfo"]["reason"]
    assert {"ErrorInfo", "RequestInfo", "RetryInfo", "QuotaFailure", "Help"} == set(details)
    assert not any("value" in detail and len(detail) == 2 for detail in error["details"])


def test_a_bad_request_names_the_field(address):
    """Validation reads well in a terminal."""
    line = printed("ChatService/Complete", "gpt-oss", "Hello").replace('"model"', '"temperature": 3, "model"')
    result = run(line, address, "-format-error")
    details = json.loads(result.stderr)["details"]
    (bad,) = [detail for detail in details if detail["@type"].endswith("BadRequest")]

    assert ["temperature"] == [violation["field"] for violation in bad["field_violations"]]


def test_it_asks_for_health(address):
    """The standard health service answers."""
    assert [{"status": "SERVING"}] == values(answer(printed("Health/Check"), address))
