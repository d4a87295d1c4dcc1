"""The TypeScript package in projects of its users: module systems, compilers, bundlers, test runners.

Each test installs the packed tarball into an empty project, builds and runs one program there as such a
project does, and reads what the program printed. `node_tools` has the tools, with locked versions.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field

import pytest

from support.app import running_app
from support.readme import README
from support.toolchains import needs, shell

ROOT = README.parent
TOOLS = ROOT / "tests" / "clients" / "node_tools"
STAMP = "node_modules/.installed-from"
WRITTEN = "through through togetherchat.v1.CompleteResponse\n"
BODY = """
async function main() {
  const client = createClient("ADDRESS");
  const params = { model: "meta-llama/Llama-3.3-70B-Instruct-Turbo", messages: "echo: through" };
  let streamed = "";
  for await (const piece of client.stream(params).text()) {
    streamed += piece;
  }
  const response = await client.complete(params);
  client.close();
  JSON.stringify(response);
  return `${streamed} ${textOf(response)} ${CompleteResponseSchema.typeName}`;
}
"""
IMPORTS = """
import { createClient, textOf } from "togetherchat";
import { CompleteResponseSchema } from "togetherchat/protos";
"""
REQUIRES = """
const { createClient, textOf } = require("togetherchat");
const { CompleteResponseSchema } = require("togetherchat/protos");
"""
PRINT = "void main().then((line) => console.log(line));\n"
MODULE = IMPORTS + BODY + PRINT
SCRIPT = REQUIRES + BODY + PRINT
JEST = REQUIRES + BODY + f'test("calls", async () => expect(await main()).toBe({WRITTEN.strip()!r}));\n'
VITEST = 'import { expect, test } from "vitest";\n' + IMPORTS + BODY + JEST.splitlines()[-1] + "\n"
WRONG = '\nimport { createClient } from "togetherchat";\ncreateClient(1);\n'
COMPILE = 'node "$TOOLS/node_modules/{compiler}/bin/tsc" --strict --skipLibCheck --target es2022 --types node {flags}'
NODE10 = "--module commonjs --moduleResolution node10"
WEBPACK = """
module.exports = {
  mode: "production", target: "node", entry: "./main.mjs",
  output: { path: __dirname, filename: "bundle.js" },
};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The files of a project, and the commands that build and run its program."""

    files: dict[str, str]
    run: str
    written: str = re.escape(WRITTEN)
    kind: str = "commonjs"
    environment: dict[str, str] = field(default_factory=dict)


def compiled(compiler, flags, name, output):
    return Project(
        files={name: MODULE},
        run=f"{COMPILE.format(compiler=compiler, flags=flags)} {name} && node {output}",
    )


def jest(version):
    run = f'node "$TOOLS/node_modules/{version}/bin/jest.js" --ci --watchman=false --runInBand 2>&1'
    return Project(files={"main.test.js": JEST, "jest.config.js": "module.exports = {};\n"}, run=run,
                   written=r"Tests: +1 passed, 1 total")  # fmt: skip


PROJECTS = {
    "Node, ES modules": Project(files={"main.mjs": MODULE}, run="node main.mjs"),
    "Node, an ESM project": Project(files={"main.js": MODULE}, run="node main.js", kind="module"),
    "Node, CommonJS": Project(files={"main.cjs": SCRIPT}, run="node main.cjs"),
    "tsc 5.9, module commonjs": compiled("typescript59", NODE10, "main.ts", "main.js"),
    "tsc 6.0, module commonjs": compiled(
        "typescript60", f"{NODE10} --ignoreDeprecations 6.0", "main.ts", "main.js"
    ),
    "tsc, node16, ESM": compiled("typescript59", "--module node16", "main.mts", "main.mjs"),
    "tsc, node16, CommonJS": compiled("typescript59", "--module node16", "main.cts", "main.cjs"),
    "tsc, nodenext, ESM": compiled("typescript60", "--module nodenext", "main.mts", "main.mjs"),
    "tsc, nodenext, CommonJS": compiled("typescript60", "--module nodenext", "main.cts", "main.cjs"),
    "esbuild, ESM": Project(
        files={"main.mjs": MODULE},
        run='"$TOOLS/node_modules/.bin/esbuild" main.mjs --bundle --platform=node --format=esm --outfile=bundle.mjs'
        " --log-level=error && rm -r node_modules && node bundle.mjs",
    ),
    "esbuild, CommonJS": Project(
        files={"main.mjs": MODULE},
        run='"$TOOLS/node_modules/.bin/esbuild" main.mjs --bundle --platform=node --format=cjs --outfile=bundle.cjs'
        " --log-level=error && rm -r node_modules && node bundle.cjs",
    ),
    "webpack": Project(
        files={
            "main.mjs": MODULE,
            "webpack.config.js": WEBPACK,
            # webpack is a library: its command is another package.
            "build.js": 'require(process.env.TOOLS + "/node_modules/webpack")(require("./webpack.config.js"), '
            "(error, stats) => { if (error || stats.hasErrors()) throw error ?? stats.toString(); });\n",
        },
        run="node build.js && rm -r node_modules && node bundle.js",
    ),
    "Jest 29": jest("jest29"),
    "Jest 30": jest("jest30"),
    "Vitest": Project(
        files={"main.test.mjs": VITEST},
        run='ln -s "$TOOLS/node_modules/vitest" node_modules/vitest'
        ' && node "$TOOLS/node_modules/vitest/vitest.mjs" run --no-color 2>&1',
        written=r"Tests +1 passed \(1\)",
        kind="module",
    ),
    "Bun, ES modules": Project(
        files={"main.ts": MODULE}, run='"$TOOLS"/node_modules/@oven/bun-*/bin/bun main.ts'
    ),
    "Bun, CommonJS": Project(
        files={"main.cjs": SCRIPT}, run='"$TOOLS"/node_modules/@oven/bun-*/bin/bun main.cjs'
    ),
    "Deno": Project(
        files={"main.ts": MODULE},
        run='"$TOOLS"/node_modules/@deno/*/deno run --allow-all --cached-only --node-modules-dir=manual main.ts',
        environment={"DENO_NO_UPDATE_CHECK": "1"},
        kind="module",
    ),
}
CHECKED = [name for name in PROJECTS if name.startswith("tsc")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed tarball and the types of Node. The tools are installed too."""
    needs("typescript")
    folder = tmp_path_factory.mktemp("package")
    lines = (
        f"cd '{ROOT}/clients/typescript' && npm ci && npm run build && npm pack --pack-destination '{folder}'",
        # The tools are large: they are installed again only after a change of the lock.
        f"cd '{TOOLS}' && (cmp -s package-lock.json {STAMP} || (npm ci && cp package-lock.json {STAMP}))",
        f"cd '{folder}' && npm install --ignore-scripts togetherchat-*.tgz",
        f"mkdir -p node_modules/@types && cp -r '{TOOLS}/node_modules/@types/node' node_modules/@types/",
        f"cp -r '{TOOLS}/node_modules/undici-types' node_modules/",
    )
    for line in lines:
        asyncio.run(shell(line, folder))
    return folder / "node_modules"


def make(project, folder, installed, address=""):
    """Write the project into `folder`."""
    (folder / "package.json").write_text(
        json.dumps({"private": True, "type": project.kind}), encoding="utf-8"
    )
    # A copy, of hard links: a bundle must work where the packages are not installed.
    asyncio.run(shell(f"cp -rl '{installed}' .", folder))
    for name, text in project.files.items():
        (folder / name).write_text(text.replace("ADDRESS", address), encoding="utf-8")


def test_every_project_runs_in_turn():
    """The list has the module systems, compilers, bundlers, test runners and runtimes of the README."""
    page = (ROOT / "clients" / "typescript" / "README.md").read_text(encoding="utf-8")

    assert [] == [name for name in ("CommonJS", "node16", "esbuild", "webpack", "Jest", "Vitest", "Bun", "Deno")
                  if name not in page or not any(name in title for title in PROJECTS)]  # fmt: skip


@pytest.mark.parametrize("name", PROJECTS)
async def test_the_package_works_in_a_project(name, installed, tmp_path):
    """A program in such a project calls the service, over both the package's entry points."""
    project = PROJECTS[name]
    async with running_app(sandbox_tokens_per_second=0) as app:
        await asyncio.to_thread(make, project, tmp_path, installed, app.addresses.grpc)
        written = await shell(project.run, tmp_path, TOOLS=str(TOOLS), **project.environment)

    assert re.search(project.written, written), written


@pytest.mark.parametrize("name", CHECKED)
def test_the_types_reject_a_wrong_argument(name, installed, tmp_path):
    """A compiler that reads the package's types rejects a wrong argument: the types are not `any`."""
    project = PROJECTS[name]
    (source,) = project.files
    make(Project(files={source: WRONG}, run="", kind=project.kind), tmp_path, installed)
    command = project.run.rpartition(" && ")[0]
    written = asyncio.run(shell(f"{command} || true", tmp_path, TOOLS=str(TOOLS)))

    assert 1 == written.count("error TS")
    assert re.search(r"\(3,14\): error TS2345", written), written
