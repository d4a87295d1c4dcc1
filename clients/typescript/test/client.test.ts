/** The client against the real service and the sandbox. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ChatError } from "../src/errors.js";
import { type Client, createClient } from "../src/client.js";
import type { CallInfo } from "../src/call_info.js";
import { FinishReason, Role } from "../src/gen/togetherchat/v1/chat_pb.js";
import { functionTool, jsonSchema, system, textOf, toolResult, user } from "../src/messages.js";
import { ErrorReason } from "../src/reasons.js";
import { eventually, requestLog, type Running, startSandbox, startServer } from "./processes.js";

const MODEL = "openai/gpt-oss-120b";
const PLAIN = "meta-llama/Llama-3.3-70B-Instruct-Turbo";

let sandbox: Running;
let server: Running;
let client: Client;

before(async () => {
  sandbox = await startSandbox();
  server = await startServer({ upstream: sandbox.address });
  client = createClient(server.address);
});

after(async () => {
  client.close();
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

test("a call returns the params, and its info has the request id and the provider", async () => {
  let info: CallInfo | undefined;
  const response = await client.complete(
    { model: PLAIN, messages: "echo: Größe 漢字 🦀" },
    { requestId: "ts-info", onInfo: (each) => (info = each) },
  );
  assert.equal(textOf(response), "Größe 漢字 🦀");
  assert.equal(response.choices[0]?.finishReason, FinishReason.STOP);
  assert.deepEqual([info?.requestId, info?.upstream], ["ts-info", "sandbox"]);
});

test("an exception of the caller's callback is rethrown unchanged", async () => {
  const own = new Error("mine");
  const onInfo = (): never => {
    throw own;
  };
  const params = { model: PLAIN, messages: "Hi" };
  await assert.rejects(client.complete(params, { onInfo }), own);
  await assert.rejects(client.stream(params, { onInfo }).finish(), own);
  await assert.rejects(client.complete(params, { requestId: "two\nlines" }), TypeError);
});

test("a stream yields text deltas that add up to the response", async () => {
  const stream = client.stream({
    model: PLAIN,
    messages: [system("Be brief."), user("echo: one two three")],
  });
  const pieces: string[] = [];
  for await (const piece of stream.text()) {
    pieces.push(piece);
  }
  assert.equal(pieces.join(""), "one two three");
  assert.equal(textOf(stream.response), "one two three");
  assert.deepEqual([stream.whole, stream.info?.upstream], [true, "sandbox"]);
});

test("a stream of several choices equals the response of Complete", async () => {
  const params = { model: MODEL, messages: "Tell me of rivers.", n: 2, seed: 7n, logprobs: 1 };
  const completed = await client.complete(params);
  const streamed = await client.stream(params).finish();
  const choices = [completed, streamed].map((response) =>
    response.choices.map(({ message, finishReason, seed }) => [message, finishReason, typeof seed]),
  );
  assert.deepEqual(choices[1], choices[0]);
  assert.equal(choices[0]?.length, 2);
});

test("a tool loop sends the model's tool call back with its result", async () => {
  const parameters = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}';
  const tools = [functionTool("get_weather", { description: "Weather of a city", parameters })];
  const messages = [user("What is the weather in Berlin?")];
  const first = await client.complete({ model: PLAIN, messages, tools });
  const turn = first.choices[0]?.message;
  assert(turn?.toolCalls[0] !== undefined);
  assert.equal(turn.role, Role.ASSISTANT);
  const second = await client.complete({
    model: PLAIN,
    messages: [...messages, turn, toolResult(turn.toolCalls[0], '{"sky": "clear"}')],
    tools,
  });
  assert.notEqual(textOf(second), "");
});

test("a params with a JSON schema is JSON that follows it", async () => {
  const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
  const response = await client.complete({
    model: PLAIN,
    messages: "A name, as JSON.",
    responseFormat: jsonSchema("person", schema),
  });
  assert.equal(typeof (JSON.parse(textOf(response)) as { name: unknown }).name, "string");
});

test("a seed is an unsigned bigint", async () => {
  const seed = 2n ** 64n - 1n;
  const response = await client.complete({ model: PLAIN, messages: "Hi", seed });
  assert.equal(response.choices[0]?.seed, seed);
});

test("models are listed across pages, and a filter narrows them", async () => {
  const ids: string[] = [];
  for await (const { id } of client.models({ query: "llama", pageSize: 3 })) {
    ids.push(id.toLowerCase());
  }
  assert(ids.length > 3 && ids.every((id) => id.includes("llama")), ids.join());
});

test("one model is returned by its id", async () => {
  const { model } = await client.getModel(MODEL);
  assert.deepEqual([model?.id, model?.contextLength], [MODEL, 131072]);
});

test("the error about an unknown model has its name", async () => {
  const error = await failure(client.getModel("no/such"));
  assert.deepEqual(
    [error.code, error.reason, error.resourceName],
    ["NOT_FOUND", "MODEL_NOT_FOUND", "no/such"],
  );
});

test("an invalid request reports every violation and is not retryable", async () => {
  const error = await failure(
    client.complete({ model: PLAIN, messages: [], temperature: 9 }, { requestId: "ts-bad" }),
  );
  assert.deepEqual(
    [error.code, error.reason, error.retryable, error.requestId, error.retryAfterMs, error.resourceName],
    ["INVALID_ARGUMENT", "INVALID_REQUEST", false, "ts-bad", undefined, ""],
  );
  assert.deepEqual(error.violations.map(({ field }) => field).sort(), ["messages", "temperature"]);
});

test("a rate limit reports the wait and the provider's status", async () => {
  const error = await failure(
    createClient(server.address, { retries: false }).complete({ model: "sandbox/error-429", messages: "Hi" }),
  );
  assert.deepEqual(
    [error.code, error.reason, error.retryable],
    ["RESOURCE_EXHAUSTED", ErrorReason.RATE_LIMITED_REQUESTS, true],
  );
  assert((error.retryAfterMs ?? 0) >= 1000, String(error.retryAfterMs));
  assert.equal(error.metadata["upstreamHttpStatus"], "429");
});

test("the error of a broken stream contains the partial response", async () => {
  const stream = client.stream({ model: "sandbox/stream-error-after-3", messages: "Hi" });
  const error = await failure(stream.finish());
  assert.deepEqual(
    [error.metadata["partialOutput"], stream.whole, textOf(error.partial) !== ""],
    ["true", false, true],
  );
  assert.equal(textOf(stream.response), textOf(error.partial));
  assert.equal(await failure(stream.finish()), error);
});

test("a deadline ends the call, and may have a fraction of a millisecond", async () => {
  const error = await failure(
    client.complete({ model: "sandbox/stall", messages: "Hi" }, { timeoutMs: 800.5 }),
  );
  assert.equal(error.code, "DEADLINE_EXCEEDED");
});

test("an unreachable service is UNAVAILABLE, with the client's reason", async () => {
  const gone = createClient("127.0.0.1:1", { retries: false });
  const error = await failure(gone.complete({ model: PLAIN, messages: "Hi" }));
  assert.deepEqual([error.code, error.reason, error.retryable], ["UNAVAILABLE", "NOT_CONNECTED", true]);
});

test("a connection lost during a stream is UNAVAILABLE, with the partial response", async () => {
  const doomed = await startServer({ upstream: sandbox.address });
  const stream = createClient(doomed.address).stream({ model: "sandbox/stall-after-3", messages: "Hi" });
  await stream.next();
  await stream.next();
  await doomed.stop();
  const error = await failure(stream.finish());
  assert.deepEqual([error.code, error.partial !== undefined], ["UNAVAILABLE", true]);
});

test("closing the client cancels the calls in flight", async () => {
  const closing = createClient(server.address);
  const stream = closing.stream(
    { model: "sandbox/stall-after-3", messages: "Hi" },
    { requestId: "ts-close" },
  );
  await stream.next();
  const reading = failure(stream.finish());
  closing.close();
  assert.equal((await reading).code, "CANCELLED");
  assert.equal(await released("ts-close"), "client_closed");
});

async function released(requestId: string): Promise<string> {
  return eventually(async () => {
    const [entry] = await requestLog(sandbox, requestId);
    return entry === undefined || entry.ended === "running" ? undefined : entry.ended;
  });
}

test("leaving the loop closes the provider connection", async () => {
  for await (const { event } of client.stream(
    { model: "sandbox/stall-after-3", messages: "Hi" },
    { requestId: "ts-break" },
  )) {
    if (event.case === "delta") {
      break;
    }
  }
  assert.equal(await released("ts-break"), "client_closed");
});

test("aborting the signal closes the provider connection; the reader gets CANCELLED with the partial response", async () => {
  const controller = new AbortController();
  const stream = client.stream(
    { model: "sandbox/stall-after-3", messages: "Hi" },
    { requestId: "ts-abort", signal: controller.signal },
  );
  const reading = failure(
    (async () => {
      for await (const _ of stream.text()) {
        setImmediate(() => {
          controller.abort(new Error("the user left"));
        });
      }
    })(),
  );
  const error = await reading;
  assert.deepEqual([error.code, textOf(error.partial) !== ""], ["CANCELLED", true]);
  assert.equal(await released("ts-abort"), "client_closed");
});

test("cancel() closes the provider connection of a stream that is not being read", async () => {
  const stream = client.stream(
    { model: "sandbox/stall-after-3", messages: "Hi" },
    { requestId: "ts-cancel" },
  );
  await stream.next();
  stream.cancel();
  assert.equal(await released("ts-cancel"), "client_closed");
  assert.equal((await failure(stream.finish())).code, "CANCELLED");
});

test("aborting a unary call closes the provider connection", async () => {
  const controller = new AbortController();
  const call = failure(
    client.complete(
      { model: "sandbox/stall", messages: "Hi" },
      { requestId: "ts-unary", signal: controller.signal },
    ),
  );
  await eventually(async () => (await requestLog(sandbox, "ts-unary"))[0]);
  controller.abort();
  assert.equal((await call).code, "CANCELLED");
  assert.equal(await released("ts-unary"), "client_closed");
});

test("a signal that is already aborted makes no request", async () => {
  const signal = AbortSignal.abort();
  const params = { model: PLAIN, messages: "Hi" };
  const calls = [
    client.complete(params, { signal, requestId: "ts-never" }),
    client.stream(params, { signal, requestId: "ts-never" }).finish(),
  ];
  assert.deepEqual(await Promise.all(calls.map(async (call) => (await failure(call)).code)), [
    "CANCELLED",
    "CANCELLED",
  ]);
  assert.deepEqual(await requestLog(sandbox, "ts-never"), []);
});

test("a response above receiveBytesMax is rejected by the client", async () => {
  const small = createClient(server.address, { receiveBytesMax: 16 });
  const error = await failure(small.complete({ model: PLAIN, messages: "Hi" }));
  assert.equal(error.code, "RESOURCE_EXHAUSTED");
  small.close();
});
