"""grpcui against the running server, by the line of docs/grpcurl.md: what its page does in a browser, done without one.

Needs the program `grpcui`: `make test-tools` builds it. GRPCUI says where it is.
"""

import json
import os
import re
import shlex
import subprocess
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "grpcurl.md").read_text(encoding="utf-8")
(LINE,) = re.findall(r"^grpcui .*$", PAGE, re.MULTILINE)
ASK = {"model": "m", "messages": [{"role": "ROLE_USER", "content": [{"text": "echo: from the form"}]}]}


class Form:
    """The page, and its way of calling: a cookie that must come back as a header."""

    def __init__(self, url):
        self._url, self._cookies = url, CookieJar()
        no_proxy = urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(
            no_proxy, urllib.request.HTTPCookieProcessor(self._cookies)
        )
        with self._opener.open(url, timeout=60) as response:
            self.page = response.read().decode()

    def invoke(self, method, request):
        (token,) = [cookie.value for cookie in self._cookies if "csrf" in cookie.name]
        call = urllib.request.Request(
            f"{self._url}invoke/togetherchat.v1.ChatService.{method}",
            data=json.dumps({"timeout_seconds": 30, "metadata": [], "data": [request]}).encode(),
            headers={"content-type": "application/json", "x-grpcui-csrf-token": token},
        )
        with self._opener.open(call, timeout=60) as response:
            return json.load(response)


@pytest.fixture(scope="module")
def form(address):
    """The page that the line serves; no browser is opened for it."""
    program, *words = shlex.split(LINE.replace("localhost:50051", address))
    assert "grpcui" == program
    command = [os.environ["GRPCUI"], "-open-browser=false", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        found = re.search(r"available at (http://\S+)", said)
        assert found, said
        yield Form(found[1])
        process.terminate()


def test_the_form_offers_the_services(form):
    """By reflection: ours and the health service."""
    offered = set(re.findall(r'<option value="([\w.]+)"', form.page))

    assert {"togetherchat.v1.ChatService", "grpc.health.v1.Health"} <= offered


def test_a_call_of_the_form_is_answered(form):
    """What is filled in comes as an answer."""
    said = form.invoke("Complete", ASK)

    assert None is said["error"]
    (answer,) = said["responses"]
    assert "from the form" in json.dumps(answer)


def test_a_stream_comes_to_its_end(form):
    """Its events are listed, and the last is the one that makes it whole."""
    *_, last = form.invoke("StreamComplete", ASK)["responses"]

    assert ["completed"] == [*last["message"]]


def test_the_reason_of_an_error_is_among_the_trailers(form):
    """The form names the types of the details and does not read them: the plain text twins are for it."""
    said = form.invoke("Complete", {**ASK, "model": "sandbox/error-404"})
    trailers = {each["name"]: each["value"] for each in said["trailers"]}

    assert "NotFound" == said["error"]["name"]
    assert "google.rpc.ErrorInfo" in json.dumps(said["error"]["details"])
    assert ("MODEL_NOT_FOUND", "false") == (trailers["x-error-reason"], trailers["x-error-retryable"])
