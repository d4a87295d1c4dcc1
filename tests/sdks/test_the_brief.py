"""Tests of the brief's commands as printed, on its port if that is free."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from support.service_process import REASONABLE_S, start

CURL = """curl -X POST http://localhost:3000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "x-provider: together" \\
  -H "Authorization: Bearer $TOGETHER_API_KEY" \\
  -d '{
    "model": "togethercomputer/llama-2-70b-chat",
    "messages": [{"role": "user", "content": "Hello!"}]
  }'
"""
CURL_STREAM = """curl -X POST http://localhost:3000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "x-provider: together" \\
  -H "Authorization: Bearer $TOGETHER_API_KEY" \\
  -d '{
    "model": "togethercomputer/llama-2-70b-chat",
    "messages": [{"role": "user", "content": "Hello!"}],
    "stream": true
  }'
"""
NODE = """import OpenAI from 'openai';

const together = new OpenAI({
  apiKey: process.env.TOGETHER_API_KEY,
  baseURL: "http://localhost:3000/v1/",
  defaultHeaders: { "x-provider": "together" }
});

const response = await together.chat.completions.create({
  model: "meta-llama/Meta-Llama-3-8B-Instruct-Turbo",
  messages: [{ role: "user", content: "What are some fun things to do in New York?" }]
});

console.log(response.choices[0].message.content);
"""
PORT = "3000"


@pytest.fixture(scope="module")
def port():
    """The port of a service: that of the brief, or another one if it is in use."""
    with socket.socket() as probe:
        in_use = probe.connect_ex(("127.0.0.1", int(PORT))) == 0
    process, line = start(http="127.0.0.1:0" if in_use else f"127.0.0.1:{PORT}")
    try:
        yield re.search(r"HTTP on http://127.0.0.1:(\d+)/v1", line)[1]
    finally:
        process.terminate()
        process.communicate(timeout=REASONABLE_S)


def run(*command, text, cwd=None):
    environment = {"PATH": os.environ["PATH"], "TOGETHER_API_KEY": "tok_any"}
    done = subprocess.run(
        command, input=text, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_the_first_command(port):
    """The response is one JSON object with a message."""
    output = run("sh", text=CURL.replace(PORT, port))

    assert '"object":"chat.completion"' in output
    assert '"role":"assistant"' in output


def test_the_streaming_command(port):
    """The response is events, and [DONE] at the end."""
    output = run("sh", text=CURL_STREAM.replace(PORT, port))

    assert output.startswith('data: {"')
    assert output.endswith("data: [DONE]\n\n")


def test_the_node_snippet(port):
    """The TypeScript snippet is also valid JavaScript. `make test-sdks` installs its package."""
    folder = Path(__file__).parent / "node"
    if not (folder / "node_modules" / "openai").is_dir():
        pytest.skip("npm has not installed the package")

    assert "New York" in run("node", "--input-type=module", text=NODE.replace(PORT, port), cwd=folder)
