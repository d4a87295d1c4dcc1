/** The snippets of the README and the examples compile under strict types, and run. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";

import ts from "typescript";

import { FOLDER, REPOSITORY, type Running, startServer } from "./processes.js";

const ADDRESS = "localhost:50051";
const OUTPUT = `${FOLDER}.build/readme/`;
const README = readFileSync(`${FOLDER}README.md`, "utf8");
/** The expected output of each snippet of the README, in order. */
const SNIPPETS: RegExp[] = [
  / \d+\n$/,
  /\d+ tokens\n$/,
  /\S/,
  /UNAVAILABLE UPSTREAM_OVERLOADED \S+ again in \d+ ms/,
  /"seed": "\d+"(.|\n)*\S/,
  /CANCELLED \S/,
  /usage/,
];

/** The programs of the repository's README. tests/clients runs them as JavaScript. */
const REPOSITORY_README = [
  ...readFileSync(`${REPOSITORY}README.md`, "utf8").matchAll(/^```ts\n(.*?)^```/gms),
].map(([, source], index) => [`repository_readme_${String(index)}.ts`, source ?? ""] as const);

const EXAMPLES = readdirSync(`${FOLDER}examples`);
const WRONG = 'import { createClient } from "togetherchat";\ncreateClient(1);\n';
const SOURCES: ReadonlyMap<string, string> = new Map([
  ...[...README.matchAll(/^```ts\n(.*?)^```/gms)].map(
    ([, source], index) => [`snippet_${String(index)}.ts`, source ?? ""] as const,
  ),
  ...REPOSITORY_README,
  ...EXAMPLES.map((name) => [name, readFileSync(`${FOLDER}examples/${name}`, "utf8")] as const),
  ["wrong.ts", WRONG],
]);

let server: Running;
let problems: ReadonlyMap<string, string[]>;

before(async () => {
  server = await startServer();
  rmSync(OUTPUT, { recursive: true, force: true });
  mkdirSync(OUTPUT, { recursive: true });
  for (const [name, source] of SOURCES) {
    writeFileSync(`${OUTPUT}${name}`, source.replaceAll(ADDRESS, server.address));
  }
  problems = compile([...SOURCES.keys()]);
});

after(() => server.stop());

/** Compiles files with strict types, as a user of the package would. Returns the problems of each. */
function compile(names: readonly string[]): ReadonlyMap<string, string[]> {
  const program = ts.createProgram(
    names.map((name) => `${OUTPUT}${name}`),
    {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      strict: true,
      // Connect's own types need those of browsers.
      skipLibCheck: true,
      lib: ["lib.es2023.d.ts"],
      types: ["node"],
    },
  );
  program.emit();
  const found = ts.getPreEmitDiagnostics(program);
  return new Map(
    names.map((name) => [
      name,
      found
        .filter(({ file }) => file === undefined || file.fileName.endsWith(`/${name}`))
        .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n")),
    ]),
  );
}

async function run(name: string): Promise<string> {
  assert.deepEqual(problems.get(name), []);
  const child = spawn(process.execPath, [OUTPUT + name.replace(/ts$/, "js")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const written = await text(child.stdout);
  assert.deepEqual(await exited, [0, null], written);
  return written;
}

test("every snippet of the README has an expected output", () => {
  assert.equal([...README.matchAll(/^```ts$/gm)].length, SNIPPETS.length);
});

for (const [index, expected] of SNIPPETS.entries()) {
  test(`snippet ${String(index)} of the README runs unchanged, and exits`, async () => {
    assert.match(await run(`snippet_${String(index)}.ts`), expected);
  });
}

for (const name of EXAMPLES) {
  test(`the example ${name} runs, and exits`, async () => {
    assert.match(await run(name), /\S/);
  });
}

test("the programs of the repository's README have no type errors", () => {
  assert.equal(REPOSITORY_README.length, 4);
  assert.deepEqual(
    REPOSITORY_README.flatMap(([name]) => problems.get(name)),
    [],
  );
});

test("the type check of the snippets finds a wrong argument type", () => {
  assert.equal(problems.get("wrong.ts")?.length, 1);
});

test("the lock file contains no registry URL", () => {
  const lock = readFileSync(`${FOLDER}package-lock.json`, "utf8");
  assert.doesNotMatch(lock, /"resolved"/);
  assert.match(lock, /"integrity"/);
});
