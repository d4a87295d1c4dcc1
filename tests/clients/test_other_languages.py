"""The code and commands of docs/other-languages.md work, for the tools that this machine has."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from support.app import running_app
from support.toolchains import shell

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "other-languages.md").read_text(encoding="utf-8")
TEMPLATE = (ROOT / "buf.gen.yaml").read_text(encoding="utf-8")
PROTOC = ROOT / re.findall(r"protoc_path: (\S+)", TEMPLATE)[0]
PROTOC_LINES = re.findall(r"^protoc .*_out=generated/.*$", PAGE, re.MULTILINE)
CPP_BUILD = re.search(r"^```sh\n(mkdir -p generated\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
(CPP,) = re.findall(r"```cpp\n(.*?)```", PAGE, re.DOTALL)
RUST = re.findall(r"```(?:toml|rust)\n(.*?)```", PAGE, re.DOTALL)
SERVICE_BY_LANGUAGE = {
    "csharp": ("V1/ChatService.cs", "class StreamCompleteResponse"),
    "java": ("dev/togetherchat/v1/ChatServiceGrpc.java", "class ChatServiceStub"),
    "kotlin": ("dev/togetherchat/v1/CompleteRequestKt.kt", "completeRequest"),
    "php": ("TogetherChat/V1/CompleteRequest.php", "class CompleteRequest"),
    "ruby": ("togetherchat/v1/chat_service_pb.rb", "StreamCompleteResponse"),
}


def needs(found, what):
    if not found:
        assert "CI" not in os.environ, what
        pytest.skip(what)


def run(*words, cwd, **environment):
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """What `buf generate` makes of the contract."""
    needs(PROTOC.exists(), "`make protoc` needs Maven")
    folder = tmp_path_factory.mktemp("generated")
    run(ROOT / ".venv" / "bin" / "buf", "generate", "--output", folder, cwd=ROOT)
    return folder / "build" / "generated"


@pytest.mark.parametrize("language", SERVICE_BY_LANGUAGE)
def test_buf_generates(language, generated):
    """buf generates messages for every language of the template, and stubs for the JVM."""
    name, word = SERVICE_BY_LANGUAGE[language]

    assert word in (generated / language / name).read_text(encoding="utf-8")


def test_the_page_names_every_language_of_the_template():
    """And the template is read as version 2."""
    assert set(SERVICE_BY_LANGUAGE) == set(re.findall(r"build/generated/(\w+)", TEMPLATE))
    assert "version: v2" in TEMPLATE


@pytest.mark.parametrize("line", PROTOC_LINES, ids=lambda line: re.search(r"--(\w+)_out", line)[1])
def test_a_line_for_protoc_generates(line, tmp_path):
    """As it is printed, from the top of a clone."""
    needs(PROTOC.exists(), "`make protoc` needs Maven")
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    out = tmp_path / re.search(r"_out=(\S+)", line)[1]
    out.mkdir(parents=True)
    run(PROTOC, *shlex.split(line)[1:], cwd=tmp_path)

    assert any(path.is_file() for path in out.rglob("*"))


def cargo_environment():
    """Return the environment for the cargo of PATH; None if it does not work.

    Rustup's `cargo` looks for its toolchain below HOME, which is not always where rustup was installed.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        return None
    installed = Path(cargo).parent.parent
    homes = {}
    if (installed / "bin" / "rustup").exists():
        homes = {"CARGO_HOME": str(installed), "RUSTUP_HOME": str(installed.parent / ".rustup")}
    environment = {**homes, **os.environ, "CARGO_TARGET_DIR": str(ROOT / "build" / "rust")}
    works = subprocess.run([cargo, "--version"], check=False, capture_output=True, env=environment)
    return environment if works.returncode == 0 else None


async def test_the_rust_program_streams(tmp_path):
    """The three files of the page, built with cargo, print a completion and a reason."""
    environment = cargo_environment()
    if environment is None:
        pytest.skip("cargo is not installed, or has no toolchain")
    manifest, build, main = RUST
    async with running_app(sandbox_tokens_per_second=0) as app:
        (tmp_path / "src").mkdir()
        (tmp_path / "Cargo.toml").write_text(manifest, encoding="utf-8")
        (tmp_path / "build.rs").write_text(build, encoding="utf-8")
        main = main.replace("localhost:50051", app.addresses.grpc)
        (tmp_path / "src" / "main.rs").write_text(main, encoding="utf-8")
        shutil.copy(ROOT / "protos" / "togetherchat.binpb", tmp_path)
        process = await asyncio.create_subprocess_exec(
            "cargo", "run", "--quiet",
            cwd=tmp_path, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()

    assert 0 == process.returncode, err.decode()
    completion, rejection = out.decode().splitlines()
    assert completion
    assert 'ResourceExhausted Some("RATE_LIMITED_REQUESTS")' == rejection


async def test_the_cpp_program_streams(tmp_path):
    """The program of the page, built by its lines, prints a completion and a reason."""
    toolchain = await asyncio.create_subprocess_exec(
        ROOT / "tests" / "clients" / "cpp_toolchain", stderr=asyncio.subprocess.PIPE
    )
    _, missing = await toolchain.communicate()
    needs(toolchain.returncode == 0, missing.decode())
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    async with running_app(sandbox_tokens_per_second=0) as app:
        source = CPP.replace("localhost:50051", app.addresses.grpc)
        (tmp_path / "chat.cc").write_text(source, encoding="utf-8")
        await shell(CPP_BUILD, tmp_path)
        completion, rejection = (await shell("./chat", tmp_path)).splitlines()

    assert completion
    assert f"{grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]} RATE_LIMITED_REQUESTS" == rejection
