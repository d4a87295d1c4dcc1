/** The actor of `clients/conformance`: one line of JSON in, one line out, as its README defines. */
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

type Observation = Record<string, unknown>;

async function runCases(cases: object[]): Promise<Observation[]> {
  const actor = spawn(process.execPath, [`${FOLDER}dist/conformance.js`, server.address], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const exited = once(actor, "exit");
  actor.stdin.end(cases.map((each) => `${JSON.stringify(each)}\n`).join(""));
  const lines = (await text(actor.stdout)).trimEnd().split("\n");
  assert.deepEqual(await exited, [0, null]);
  return lines.map((line) => JSON.parse(line) as Observation);
}

function request(model: string, text = "Hi") {
  return { model, messages: [{ role: "ROLE_USER", content: [{ text }] }] };
}

const FIELDS = [
  "code",
  "error_metadata",
  "events",
  "hint",
  "id",
  "message",
  "reason",
  "resource_name",
  "response",
  "retry_after_ms",
  "retryable",
  "violations",
];

test("the actor writes an observation with every field for each case in order, and exits at the end of its input", async () => {
  const observations = await runCases([
    { id: "a", call: "Complete", request: request("m", "echo: Hello") },
    { id: "b", call: "StreamComplete", request: request("m", "echo: Größe 🦀") },
    { id: "c", call: "ListModels", request: { pageSize: 1 } },
    { id: "d", call: "Complete", request: request("sandbox/error-503"), retries: false },
    { id: "e", call: "Complete", request: { model: "m", temperature: 9 } },
    { id: "f", call: "StreamComplete", request: request("sandbox/cut-stream") },
    {
      id: "g",
      call: "StreamComplete",
      request: request("sandbox/stall-after-3"),
      cancel: { after_events: 2 },
    },
    { id: "h", call: "Complete", request: request("sandbox/stall"), cancel: { after_ms: 200 } },
    { id: "i", call: "Complete", request: request("sandbox/stall"), deadline_ms: 8000 },
    { id: "j", call: "Complete", request: request("m"), metadata: { "x-request-id": "mine" } },
    { id: "k", call: "GetModel", request: { id: "openai/gpt-oss-120b" } },
    { id: "l", call: "GetModel", request: { id: "no/such" } },
  ]);
  for (const observation of observations) {
    assert.deepEqual(Object.keys(observation).sort(), FIELDS);
  }
  assert.deepEqual(
    observations.map(({ id, code, reason, retryable }) => [id, code, reason, retryable]),
    [
      ["a", "OK", "", false],
      ["b", "OK", "", false],
      ["c", "OK", "", false],
      ["d", "UNAVAILABLE", "UPSTREAM_OVERLOADED", true],
      ["e", "INVALID_ARGUMENT", "INVALID_REQUEST", false],
      ["f", "UNAVAILABLE", "UPSTREAM_TRUNCATED", false],
      ["g", "CANCELLED", "", false],
      ["h", "CANCELLED", "", false],
      ["i", "DEADLINE_EXCEEDED", "CALLER_DEADLINE", false],
      ["j", "OK", "", false],
      ["k", "OK", "", false],
      ["l", "NOT_FOUND", "MODEL_NOT_FOUND", false],
    ],
  );
  const [a, b, , , e, f, g] = observations;
  assert.match(JSON.stringify(a?.["response"]), /"content":\[\{"text":"Hello"\}\]/);
  assert.match(JSON.stringify(b?.["response"]), /"content":\[\{"text":"Größe 🦀"\}\]/);
  assert.deepEqual((e?.["violations"] as string[][]).map(([field]) => field).sort(), [
    "messages",
    "temperature",
  ]);
  assert.notEqual(f?.["response"], null);
  assert.equal(g?.["events"], 2);
});

test("without an address the actor prints its usage and exits with status 2", async () => {
  const actor = spawn(process.execPath, [`${FOLDER}dist/conformance.js`], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(actor, "exit");
  assert.match(await text(actor.stderr), /HOST:PORT/);
  assert.deepEqual(await exited, [2, null]);
});
