/** Retries after all attempts of the service failed, against the real service and the sandbox's request log. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { createClient } from "../src/client.js";
import { ChatError } from "../src/errors.js";
import { textOf, user } from "../src/messages.js";
import { requestLog, type Running, startSandbox, startServer } from "./processes.js";

// These tests use their own service and one model each. Its retry budget allows ten retries in ten seconds, and
// these tests need eight; its adaptive throttles count by model.
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

test("the client's retry succeeds after all attempts of the service failed", async () => {
  // The service sends three requests per call: the fifth is the second of the client's second attempt.
  const params = { model: "sandbox/error-429-x4", messages: "echo: at last" };
  const retrying = createClient(server.address);
  assert.equal(textOf(await retrying.complete(params, { requestId: "ts-retrying" })), "at last");
  assert.equal((await requestLog(sandbox, "ts-retrying")).length, 5);
  retrying.close();
});

test("without retries the caller gets the same error", async () => {
  const once = createClient(server.address, { retries: false });
  const error = await failure(
    once.complete({ model: "sandbox/error-429-x3", messages: "echo: too soon" }, { requestId: "ts-once" }),
  );
  assert.equal(error.code, "RESOURCE_EXHAUSTED");
  assert.equal((await requestLog(sandbox, "ts-once")).length, 3);
  once.close();
});

test("pushback -1 stops retries: one request reaches the provider", async () => {
  const fresh = createClient(server.address);
  const params = { model: "sandbox/error-429-quota", messages: "Hi" };
  const error = await failure(fresh.stream(params, { requestId: "ts-quota" }).finish());
  assert.equal(error.reason, "QUOTA_EXHAUSTED");
  assert.equal(error.info.trailers.get("grpc-retry-pushback-ms"), "-1");
  assert.equal((await requestLog(sandbox, "ts-quota")).length, 1);
  fresh.close();
});

test("a prompt of 300 kB is retried", async () => {
  const messages = [user("x".repeat(300_000)), user("echo: long")];
  const fresh = createClient(server.address);
  assert.equal(textOf(await fresh.complete({ model: "sandbox/error-503-x4", messages })), "long");
  fresh.close();
});
