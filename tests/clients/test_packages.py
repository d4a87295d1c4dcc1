"""The package of each client has the right content and works outside this repository. Nothing is published.

test_python_environments.py tests the wheel.
"""

import asyncio
import json
import re
import subprocess
import xml.etree.ElementTree as ET

import pytest

from support.app import running_app
from support.readme import ADDRESS, README, WRITTEN, languages
from support.toolchains import needs, shell

ROOT = README.parent
LANGUAGES = languages()
MODULE = "github.com/togetherchat/togetherchat/clients/go"
IN_THE_TARBALL = r"(LICENSE|README\.md|package\.json|dist/.+\.(js|d\.ts|json))"
WRONG = 'import { createClient } from "togetherchat";\ncreateClient(1);\n'
STRICT = "--noEmit --strict --skipLibCheck --target es2022 --module nodenext --types node"
# Maven's own defaults are older, and not what the clients are built with.
PINNED = "".join(
    f"<plugin><artifactId>maven-{name}-plugin</artifactId><version>{version}</version></plugin>"
    for name, version in {
        "resources": "3.3.1", "compiler": "3.14.1", "surefire": "3.5.4", "jar": "3.4.2"
    }.items()
)  # fmt: skip
COMPILER = "org.apache.maven.plugins:maven-compiler-plugin:3.14.1:compile"
CLASS_PATH = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"
PROJECT = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>hello</artifactId>
  <version>1</version>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    {dependency}
  </dependencies>
  <build>
    <plugins>
      {plugins}
    </plugins>
  </build>
</project>
"""
GRPC = re.search(r"<grpc.version>(.*)<", (ROOT / "clients/java/pom.xml").read_text(encoding="utf-8"))[1]
# Its service files are then the first, and they have only the resolver of unix sockets.
TRANSPORT = (
    "<dependency><groupId>io.grpc</groupId><artifactId>grpc-netty-shaded</artifactId>"
    f"<version>{GRPC}</version></dependency>"
)
RUN_JAR = "java -cp target/hello-1.jar Hello"
MERGE = '<transformer implementation="org.apache.maven.plugins.shade.resource.ServicesResourceTransformer"/>'


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The tarball built by the command of clients/README.md, and npm's description of it."""
    needs("typescript")
    folder = tmp_path_factory.mktemp("npm")
    line = release_line("npm pack").replace("npm pack", f"npm pack --json --pack-destination '{folder}'")
    output = asyncio.run(shell(line, ROOT))
    (about,) = json.loads(output[output.index("\n[") :])
    return folder / about["filename"], about


def release_line(words):
    """The line of clients/README.md that contains these words."""
    page = (ROOT / "clients" / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if words in line and not line.startswith("|")]
    return line


def test_the_tarball_contains_code_types_and_the_licence(packed):
    """The tarball contains no sources, no tests and no conformance actor."""
    _, about = packed
    names = [file["path"] for file in about["files"]]

    assert [] == [name for name in names if not re.fullmatch(IN_THE_TARBALL, name) or "conformance" in name]
    assert set() == {"LICENSE", "dist/index.js", "dist/index.d.ts", "dist/protos.js", "dist/protos.d.ts"} - {
        *names
    }


def test_the_tarball_contains_its_types(packed, tmp_path):
    """A strict compiler accepts the README's programs and rejects a call with a wrong argument."""
    tarball, _ = packed
    compiler = ROOT / "clients" / "typescript" / "node_modules" / "typescript" / "bin" / "tsc"
    types = ROOT / "clients" / "typescript" / "node_modules" / "@types"
    asyncio.run(shell(f"npm install '{tarball}'", tmp_path))
    names = [f"right{index}.mts" for index, _ in enumerate(WRITTEN)]
    for name, title in zip(names, WRITTEN, strict=True):
        (tmp_path / name).write_text(LANGUAGES["typescript"].programs[title], encoding="utf-8")
    (tmp_path / "wrong.mts").write_text(WRONG, encoding="utf-8")
    words = ["node", compiler, *STRICT.split(), "--typeRoots", types]
    right = subprocess.run([*words, *names], cwd=tmp_path, capture_output=True, text=True, check=False)
    wrong = subprocess.run([*words, "wrong.mts"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (0, "") == (right.returncode, right.stdout)
    assert re.fullmatch(r"wrong\.mts\(2,14\): error .*\n", wrong.stdout)


async def test_a_tag_of_the_go_module_can_be_fetched(tmp_path):
    """Go downloads the module from a repository with a tag of the form in clients/README.md, and builds it."""
    needs("go")
    form = re.search(r"`(clients/go/v)[\d.]+`", release_page())[1]
    head = (await shell("git rev-parse --short=12 HEAD", ROOT)).strip()
    # No release may have this version: Go caches what it downloads.
    version = f"0.0.0-check.{head}"
    await shell(
        f"git clone --quiet --bare '{ROOT}' origin && git -C origin tag '{form}{version}' {head}", tmp_path
    )
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "hello.go").write_text(LANGUAGES["go"].programs["A stream"], encoding="utf-8")
    here = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/origin.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/togetherchat/togetherchat",
        "GOPRIVATE": MODULE,
        "GIT_ALLOW_PROTOCOL": "file",
    }
    await shell(f"go mod init hello && go get {MODULE}@v{version} && go mod tidy && go build", folder, **here)

    assert f"{MODULE} v{version}" == (await shell(f"go list -m {MODULE}", folder, **here)).strip()


def release_page():
    return (ROOT / "clients" / "README.md").read_text(encoding="utf-8")


async def test_a_maven_project_uses_the_client_by_its_coordinates(tmp_path):
    """After the install command, a project needs only the dependency that the Java README shows."""
    needs("java")
    await shell(release_line("mvn "), ROOT)
    async with running_app(sandbox_tokens_per_second=0) as app:
        write_java_project(tmp_path, app.addresses.grpc)
        await shell(f"mvn --batch-mode --quiet {COMPILER} {CLASS_PATH} -Dmdep.outputFile=path", tmp_path)
        written = await shell('java -cp "target/classes:$(cat path)" Hello', tmp_path)

    assert re.search(WRITTEN["A stream"], written)


def write_java_project(folder, address, plugins="", first=""):
    """Write a project with the dependency of the Java README, a program of the top README, and plugins."""
    dependency = first + java_block("dependency")
    (folder / "pom.xml").write_text(PROJECT.format(dependency=dependency, plugins=plugins), encoding="utf-8")
    sources = folder / "src" / "main" / "java"
    sources.mkdir(parents=True)
    program = LANGUAGES["java"].programs["A stream"].replace(ADDRESS, address)
    (sources / "Hello.java").write_text(program, encoding="utf-8")


def java_block(element):
    """The XML of the Java README that starts with this element."""
    page = (ROOT / "clients" / "java" / "README.md").read_text(encoding="utf-8")
    return re.search(rf"^<{element}>.*?^</{element}>", page, re.MULTILINE | re.DOTALL)[0]


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "not merged"])
async def test_a_fat_jar_needs_merged_service_files(merged, tmp_path):
    """With the plugin of the Java README, one jar runs. Without the merge of service files it does not."""
    needs("java")
    plugin = java_block("plugin")
    assert MERGE in plugin
    plugins = PINNED + (plugin if merged else plugin.replace(MERGE, ""))
    await shell(release_line("mvn "), ROOT)
    async with running_app(sandbox_tokens_per_second=0) as app:
        write_java_project(tmp_path, app.addresses.grpc, plugins, first=TRANSPORT)
        await shell("mvn --batch-mode --quiet package", tmp_path)
        written = await shell(f"{RUN_JAR} 2>&1 || true", tmp_path)

    assert merged == bool(re.search(WRITTEN["A stream"], written)), written


def test_every_client_has_the_version_of_the_project():
    """The wheel, the npm package, the Maven artefacts and the README's Go lines have the same version."""
    version = re.search(
        r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )[1]
    npm = json.loads((ROOT / "clients" / "typescript" / "package.json").read_text(encoding="utf-8"))[
        "version"
    ]
    maven = ET.parse(ROOT / "clients" / "java" / "pom.xml").findtext("{*}version")
    go = re.search(r"clients/go@v([\d.]+)", README.read_text(encoding="utf-8"))[1]
    tag = re.search(r"`clients/go/v([\d.]+)`", release_page())[1]

    assert {version} == {npm, maven, go, tag}
