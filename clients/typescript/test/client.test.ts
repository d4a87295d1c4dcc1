/** The client against the real service, which answers from its simulator. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ChatError } from "../src/errors.js";
import { type Client, createClient } from "../src/client.js";
import type { CallInfo } from "../src/call_info.js";
import { FinishReason, Role } from "../src/gen/togetherchat/v1/chat_pb.js";
import { functionTool, jsonSchema, system, textOf, toolResult, user } from "../src/messages.js";
import { eventually, ledger, type Running, startSandbox, startServer } from "./processes.js";

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

test("a call is answered, and its info names the call and who answered", async () => {
  let info: CallInfo | undefined;
  const answer = await client.complete(
    { model: PLAIN, messages: "echo: Größe 漢字 🦀" },
    { requestId: "ts-info", onInfo: (each) => (info = each) },
  );
  assert.equal(textOf(answer), "Größe 漢字 🦀");
  assert.equal(answer.choices[0]?.finishReason, FinishReason.STOP);
  assert.deepEqual([info?.requestId, info?.upstream], ["ts-info", "sandbox"]);
});

test("what the caller's own code throws is not taken for a failure of the call", async () => {
  const own = new Error("mine");
  const onInfo = (): never => {
    throw own;
  };
  const completion = { model: PLAIN, messages: "Hi" };
  await assert.rejects(client.complete(completion, { onInfo }), own);
  await assert.rejects(client.stream(completion, { onInfo }).finish(), own);
  await assert.rejects(client.complete(completion, { requestId: "two\nlines" }), TypeError);
});

test("a stream gives its text in pieces, and adds up to the answer", async () => {
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

test("a stream of several choices is the same answer as Complete's", async () => {
  const completion = { model: MODEL, messages: "Tell me of rivers.", n: 2, seed: 7n, logprobs: 1 };
  const told = await client.complete(completion);
  const streamed = await client.stream(completion).finish();
  const choices = [told, streamed].map((answer) =>
    answer.choices.map(({ message, finishReason, seed }) => [message, finishReason, typeof seed]),
  );
  assert.deepEqual(choices[1], choices[0]);
  assert.equal(choices[0]?.length, 2);
});

test("a tool loop: the model's call goes back with its result", async () => {
  const parameters = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}';
  const tools = [functionTool("get_weather", { description: "Weather of a city", parameters })];
  const messages = [user("What is the weather in Berlin?")];
  const asked = await client.complete({ model: PLAIN, messages, tools });
  const turn = asked.choices[0]?.message;
  assert(turn?.toolCalls[0] !== undefined);
  assert.equal(turn.role, Role.ASSISTANT);
  const answered = await client.complete({
    model: PLAIN,
    messages: [...messages, turn, toolResult(turn.toolCalls[0], '{"sky": "clear"}')],
    tools,
  });
  assert.notEqual(textOf(answered), "");
});

test("a schema comes back as JSON that follows it", async () => {
  const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
  const answer = await client.complete({
    model: PLAIN,
    messages: "A name, as JSON.",
    responseFormat: jsonSchema("person", schema),
  });
  assert.equal(typeof (JSON.parse(textOf(answer)) as { name: unknown }).name, "string");
});

test("a seed above the signed range survives the way back", async () => {
  const answer = await client.complete({ model: PLAIN, messages: "Hi", seed: 2n ** 63n - 1n });
  assert.equal(typeof answer.choices[0]?.seed, "bigint");
});

test("models come page after page, and a filter narrows them", async () => {
  const ids: string[] = [];
  for await (const { id } of client.models({ query: "llama", pageSize: 3 })) {
    ids.push(id.toLowerCase());
  }
  assert(ids.length > 3 && ids.every((id) => id.includes("llama")), ids.join());
});

test("an invalid request tells every violation, and is not worth a retry", async () => {
  const error = await failure(
    client.complete({ model: PLAIN, messages: [], temperature: 9 }, { requestId: "ts-bad" }),
  );
  assert.deepEqual(
    [error.code, error.reason, error.retryable, error.requestId, error.retryAfterMs],
    ["INVALID_ARGUMENT", "INVALID_REQUEST", false, "ts-bad", undefined],
  );
  assert.deepEqual(error.violations.map(({ field }) => field).sort(), ["messages", "temperature"]);
});

test("a rate limit says how long to wait, and what the provider said", async () => {
  const error = await failure(
    createClient(server.address, { retries: false }).complete({ model: "sandbox/error-429", messages: "Hi" }),
  );
  assert.deepEqual(
    [error.code, error.reason, error.retryable],
    ["RESOURCE_EXHAUSTED", "RATE_LIMITED_REQUESTS", true],
  );
  assert((error.retryAfterMs ?? 0) >= 1000, String(error.retryAfterMs));
  assert.equal(error.metadata["upstreamHttpStatus"], "429");
});

test("a stream that breaks keeps what came", async () => {
  const stream = client.stream({ model: "sandbox/stream-error-after-3", messages: "Hi" });
  const error = await failure(stream.finish());
  assert.deepEqual(
    [error.metadata["partialOutput"], stream.whole, textOf(error.partial) !== ""],
    ["true", false, true],
  );
  assert.equal(textOf(stream.response), textOf(error.partial));
  assert.equal(await failure(stream.finish()), error);
});

test("a deadline ends the call, be it a fraction of a millisecond", async () => {
  const error = await failure(
    client.complete({ model: "sandbox/stall", messages: "Hi" }, { timeoutMs: 800.5 }),
  );
  assert.equal(error.code, "DEADLINE_EXCEEDED");
});

test("a service that cannot be reached is UNAVAILABLE, without a reason", async () => {
  const gone = createClient("127.0.0.1:1", { retries: false });
  const error = await failure(gone.complete({ model: PLAIN, messages: "Hi" }));
  assert.deepEqual([error.code, error.reason, error.retryable], ["UNAVAILABLE", "", undefined]);
});

test("a connection that is lost within a stream is UNAVAILABLE, and what came stands", async () => {
  const doomed = await startServer({ upstream: sandbox.address });
  const stream = createClient(doomed.address).stream({ model: "sandbox/stall-after-3", messages: "Hi" });
  await stream.next();
  await stream.next();
  await doomed.stop();
  const error = await failure(stream.finish());
  assert.deepEqual([error.code, error.partial !== undefined], ["UNAVAILABLE", true]);
});

test("closing the client cancels what is under way", async () => {
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
    const [entry] = await ledger(sandbox, requestId);
    return entry === undefined || entry.ended === "running" ? undefined : entry.ended;
  });
}

test("leaving the loop ends the generation", async () => {
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

test("aborting the signal ends the generation, and the reader sees CANCELLED with what came", async () => {
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

test("a stream that nobody reads any more can be cancelled from elsewhere", async () => {
  const stream = client.stream(
    { model: "sandbox/stall-after-3", messages: "Hi" },
    { requestId: "ts-cancel" },
  );
  await stream.next();
  stream.cancel();
  assert.equal(await released("ts-cancel"), "client_closed");
  assert.equal((await failure(stream.finish())).code, "CANCELLED");
});

test("aborting a call that is not streamed ends the generation", async () => {
  const controller = new AbortController();
  const call = failure(
    client.complete(
      { model: "sandbox/stall", messages: "Hi" },
      { requestId: "ts-unary", signal: controller.signal },
    ),
  );
  await eventually(async () => (await ledger(sandbox, "ts-unary"))[0]);
  controller.abort();
  assert.equal((await call).code, "CANCELLED");
  assert.equal(await released("ts-unary"), "client_closed");
});

test("a signal that is aborted already makes no request", async () => {
  const signal = AbortSignal.abort();
  const completion = { model: PLAIN, messages: "Hi" };
  const calls = [
    client.complete(completion, { signal, requestId: "ts-never" }),
    client.stream(completion, { signal, requestId: "ts-never" }).finish(),
  ];
  assert.deepEqual(await Promise.all(calls.map(async (call) => (await failure(call)).code)), [
    "CANCELLED",
    "CANCELLED",
  ]);
  assert.deepEqual(await ledger(sandbox, "ts-never"), []);
});

test("an answer above the bound is refused here", async () => {
  const small = createClient(server.address, { receiveBytesMax: 16 });
  const error = await failure(small.complete({ model: PLAIN, messages: "Hi" }));
  assert.equal(error.code, "RESOURCE_EXHAUSTED");
  small.close();
});
