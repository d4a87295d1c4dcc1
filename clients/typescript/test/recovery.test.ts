/** Recovery from failures that outlast the gateway, against the real service and the simulator's ledger. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { createClient } from "../src/client.js";
import { ChatError } from "../src/errors.js";
import { textOf, user } from "../src/messages.js";
import { ledger, type Running, startSandbox, startServer } from "./processes.js";

// A service of their own, and a model for each test: its budget lets ten retries through in ten seconds, and
// these tests need eight; its breakers count by model.
let sandbox: Running;
let server: Running;

before(async () => {
  sandbox = await startSandbox();
  server = await startServer({ upstream: sandbox.address });
});

after(async () => {
  await server.stop();
  await sandbox.stop();
});

async function failure(promise: Promise<unknown>): Promise<ChatError> {
  const outcome = await promise.then(
    () => "no failure",
    (error: unknown) => error,
  );
  assert(outcome instanceof ChatError, String(outcome));
  return outcome;
}

test("its own retries outlast a failure that outlasts the gateway's", async () => {
  // The gateway sends three requests a call: the fifth is the second of the client's second attempt.
  const completion = { model: "sandbox/error-429-x4", messages: "echo: at last" };
  const patient = createClient(server.address);
  assert.equal(textOf(await patient.complete(completion, { requestId: "ts-patient" })), "at last");
  assert.equal((await ledger(sandbox, "ts-patient")).length, 5);
  patient.close();
});

test("the same failure is the caller's to see where retries are off", async () => {
  const hasty = createClient(server.address, { retries: false });
  const error = await failure(
    hasty.complete({ model: "sandbox/error-429-x3", messages: "echo: too soon" }, { requestId: "ts-hasty" }),
  );
  assert.equal(error.code, "RESOURCE_EXHAUSTED");
  assert.equal((await ledger(sandbox, "ts-hasty")).length, 3);
  hasty.close();
});

test("pushback -1 is obeyed: one request reaches the provider", async () => {
  const fresh = createClient(server.address);
  const completion = { model: "sandbox/error-429-quota", messages: "Hi" };
  const error = await failure(fresh.stream(completion, { requestId: "ts-quota" }).finish());
  assert.equal(error.reason, "QUOTA_EXHAUSTED");
  assert.equal(error.info.trailers.get("grpc-retry-pushback-ms"), "-1");
  assert.equal((await ledger(sandbox, "ts-quota")).length, 1);
  fresh.close();
});

test("300 kB of prompt go out and are retried like any other", async () => {
  const messages = [user("x".repeat(300_000)), user("echo: long")];
  const fresh = createClient(server.address);
  assert.equal(textOf(await fresh.complete({ model: "sandbox/error-503-x4", messages })), "long");
  fresh.close();
});
