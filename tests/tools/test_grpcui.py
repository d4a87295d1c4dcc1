"""Tests of grpcui against a server, with the command of docs/grpcurl.md and without a browser.

Needs the program `grpcui`: `make test-tools` builds it, and GRPCUI has its path.
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
REQUEST = {"model": "m", "messages": [{"role": "ROLE_USER", "content": [{"text": "echo: from the form"}]}]}


class Form:
    """The page and its calls, which send a cookie of the page as a header."""

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
    """The page that the command serves, without a browser."""
    program, *arguments = shlex.split(LINE.replace("localhost:50051", address))
    assert "grpcui" == program
    command = [os.environ["GRPCUI"], "-open-browser=false", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        found = re.search(r"available at (http://\S+)", line)
        assert found, line
        yield Form(found[1])
        process.terminate()


def test_the_form_lists_the_services(form):
    """Reflection provides our service and the health service."""
    services = set(re.findall(r'<option value="([\w.]+)"', form.page))

    assert {"togetherchat.v1.ChatService", "grpc.health.v1.Health"} <= services


def test_a_call_returns_a_response(form):
    """The response contains the text of the request."""
    result = form.invoke("Complete", REQUEST)

    assert None is result["error"]
    (response,) = result["responses"]
    assert "from the form" in json.dumps(response)


def test_a_stream_is_complete(form):
    """All events are listed, and the last one is `completed`."""
    *_, last = form.invoke("StreamComplete", REQUEST)["responses"]

    assert ["completed"] == [*last["message"]]


def test_the_trailers_contain_the_reason_of_an_error(form):
    """The form shows only the types of the details, so the plain-text trailers carry the reason."""
    result = form.invoke("Complete", {**REQUEST, "model": "sandbox/error-404"})
    trailers = {each["name"]: each["value"] for each in result["trailers"]}

    assert "NotFound" == result["error"]["name"]
    assert "google.rpc.ErrorInfo" in json.dumps(result["error"]["details"])
    assert ("MODEL_NOT_FOUND", "false") == (trailers["x-error-reason"], trailers["x-error-retryable"])
