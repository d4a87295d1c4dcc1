/** The actor of `clients/conformance`: a line of JSON in, a line out, in the form that its README settles. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";

import { FOLDER, type Running, startServer } from "./processes.js";

let server: Running;

before(async () => {
  server = await startServer();
});

after(() => server.stop());

type Answer = Record<string, unknown>;

async function act(cases: object[]): Promise<Answer[]> {
  const actor = spawn(process.execPath, [`${FOLDER}dist/conformance.js`, server.address], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const exited = once(actor, "exit");
  actor.stdin.end(cases.map((each) => `${JSON.stringify(each)}\n`).join(""));
  const lines = (await text(actor.stdout)).trimEnd().split("\n");
  assert.deepEqual(await exited, [0, null]);
  return lines.map((line) => JSON.parse(line) as Answer);
}

function asking(model: string, text = "Hi") {
  return { model, messages: [{ role: "ROLE_USER", content: [{ text }] }] };
}

const FIELDS = [
  "answer",
  "code",
  "error_metadata",
  "events",
  "id",
  "message",
  "reason",
  "retry_after_ms",
  "retryable",
  "violations",
];

test("cases are answered in order, each with every field, and the actor ends with its input", async () => {
  const answers = await act([
    { id: "a", call: "Complete", request: asking("m", "echo: Hello") },
    { id: "b", call: "StreamComplete", request: asking("m", "echo: Größe 🦀") },
    { id: "c", call: "ListModels", request: { pageSize: 1 } },
    { id: "d", call: "Complete", request: asking("sandbox/error-503"), retries: false },
    { id: "e", call: "Complete", request: { model: "m", temperature: 9 } },
    { id: "f", call: "StreamComplete", request: asking("sandbox/cut-stream") },
    {
      id: "g",
      call: "StreamComplete",
      request: asking("sandbox/stall-after-3"),
      cancel: { after_events: 2 },
    },
    { id: "h", call: "Complete", request: asking("sandbox/stall"), cancel: { after_ms: 200 } },
    { id: "i", call: "Complete", request: asking("sandbox/stall"), deadline_ms: 8000 },
    { id: "j", call: "Complete", request: asking("m"), metadata: { "x-request-id": "mine" } },
  ]);
  for (const answer of answers) {
    assert.deepEqual(Object.keys(answer).sort(), FIELDS);
  }
  assert.deepEqual(
    answers.map(({ id, code, reason, retryable }) => [id, code, reason, retryable]),
    [
      ["a", "OK", "", false],
      ["b", "OK", "", false],
      ["c", "OK", "", false],
      ["d", "UNAVAILABLE", "UPSTREAM_OVERLOADED", true],
      ["e", "INVALID_ARGUMENT", "INVALID_REQUEST", false],
      ["f", "UNAVAILABLE", "UPSTREAM_TRUNCATED", false],
      ["g", "CANCELLED", "", false],
      ["h", "CANCELLED", "", null],
      ["i", "DEADLINE_EXCEEDED", "CALLER_DEADLINE", false],
      ["j", "OK", "", false],
    ],
  );
  const [a, b, , , e, f, g] = answers;
  assert.match(JSON.stringify(a?.["answer"]), /"content":\[\{"text":"Hello"\}\]/);
  assert.match(JSON.stringify(b?.["answer"]), /"content":\[\{"text":"Größe 🦀"\}\]/);
  assert.deepEqual((e?.["violations"] as string[][]).map(([field]) => field).sort(), [
    "messages",
    "temperature",
  ]);
  assert.notEqual(f?.["answer"], null);
  assert.equal(g?.["events"], 2);
});

test("without an address the actor says how it is used", async () => {
  const actor = spawn(process.execPath, [`${FOLDER}dist/conformance.js`], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(actor, "exit");
  assert.match(await text(actor.stderr), /HOST:PORT/);
  assert.deepEqual(await exited, [2, null]);
});
