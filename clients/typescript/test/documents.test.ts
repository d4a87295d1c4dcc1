/** What people copy is true: the README's snippets and the examples are checked against the types and run. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";

import ts from "typescript";

import { FOLDER, REPOSITORY, type Running, startServer } from "./processes.js";

const ADDRESS = "localhost:50051";
const PLACE = `${FOLDER}.build/documents/`;
const README = readFileSync(`${FOLDER}README.md`, "utf8");
/** What each snippet of the README writes, in their order. */
const SNIPPETS: RegExp[] = [
  / \d+\n$/,
  /\d+ tokens\n$/,
  /\S/,
  /UNAVAILABLE UPSTREAM_OVERLOADED \S+ again in \d+ ms/,
  /CANCELLED \S/,
];

/** The programs of the repository's own README, which its reader runs as JavaScript: tests/clients does it too. */
const FRONT_PAGE = [...readFileSync(`${REPOSITORY}README.md`, "utf8").matchAll(/^```ts\n(.*?)^```/gms)].map(
  ([, source], place) => [`front_page_${String(place)}.ts`, source ?? ""] as const,
);

const EXAMPLES = readdirSync(`${FOLDER}examples`);
const WRONG = 'import { createClient } from "togetherchat";\ncreateClient(1);\n';
const SOURCES: ReadonlyMap<string, string> = new Map([
  ...[...README.matchAll(/^```ts\n(.*?)^```/gms)].map(
    ([, source], place) => [`snippet_${String(place)}.ts`, source ?? ""] as const,
  ),
  ...FRONT_PAGE,
  ...EXAMPLES.map((name) => [name, readFileSync(`${FOLDER}examples/${name}`, "utf8")] as const),
  ["wrong.ts", WRONG],
]);

let server: Running;
let problems: ReadonlyMap<string, string[]>;

before(async () => {
  server = await startServer();
  rmSync(PLACE, { recursive: true, force: true });
  mkdirSync(PLACE, { recursive: true });
  for (const [name, source] of SOURCES) {
    writeFileSync(`${PLACE}${name}`, source.replaceAll(ADDRESS, server.address));
  }
  problems = compile([...SOURCES.keys()]);
});

after(() => server.stop());

/** Compiles files as a user of the package would, strictly. Returns the problems of each. */
function compile(names: readonly string[]): ReadonlyMap<string, string[]> {
  const program = ts.createProgram(
    names.map((name) => `${PLACE}${name}`),
    {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      strict: true,
      // Connect's own types want those of browsers.
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
  const child = spawn(process.execPath, [PLACE + name.replace(/ts$/, "js")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const written = await text(child.stdout);
  assert.deepEqual(await exited, [0, null], written);
  return written;
}

test("the README has a snippet for each thing that is expected of it", () => {
  assert.equal([...README.matchAll(/^```ts$/gm)].length, SNIPPETS.length);
});

for (const [place, expected] of SNIPPETS.entries()) {
  test(`snippet ${String(place)} of the README runs as printed, and ends`, async () => {
    assert.match(await run(`snippet_${String(place)}.ts`), expected);
  });
}

for (const name of EXAMPLES) {
  test(`the example ${name} runs, and ends`, async () => {
    assert.match(await run(name), /\S/);
  });
}

test("the programs on the repository's front page have no type that is wrong", () => {
  assert.equal(FRONT_PAGE.length, 4);
  assert.deepEqual(
    FRONT_PAGE.flatMap(([name]) => problems.get(name)),
    [],
  );
});

test("what is not in the types is not let through: the check of the snippets can fail", () => {
  assert.equal(problems.get("wrong.ts")?.length, 1);
});

test("the lock file names no address from which packages are loaded", () => {
  const lock = readFileSync(`${FOLDER}package-lock.json`, "utf8");
  assert.doesNotMatch(lock, /"resolved"/);
  assert.match(lock, /"integrity"/);
});
