// Tests of OpenAI's package for Node against the HTTP listener.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { endOf, requestsFor, serve } from "./service.mjs";

const MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo";
const HELLO = [{ role: "user", content: "say: Hello there, friend." }];
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const SCHEMA = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
};

let service, client;
before(async () => {
  service = await serve();
  const defaultHeaders = { "x-provider": "together" };
  client = new OpenAI({ apiKey: "tok_any", baseURL: `${service.baseURL}/`, defaultHeaders });
});
after(() => service.stop());

test("a call", async () => {
  const response = await client.chat.completions.create({ model: MODEL, messages: HELLO });
  assert.equal(response.choices[0].message.content, "Hello there, friend.");
  assert.equal(response.choices[0].finish_reason, "stop");
});

test("a stream", async () => {
  const long = "Hello there, friend. ".repeat(20).trim();
  const messages = [{ role: "user", content: `say: ${long}` }];
  let text = "", chunks = 0;
  for await (const chunk of await client.chat.completions.create({ model: MODEL, messages, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    chunks += 1;
  }
  assert.equal(text, long);
  assert.ok(chunks > 2);
});

test("a tool call that the package collects from a stream", async () => {
  const question = [{ role: "user", content: "What is the weather in Paris?" }];
  const stream = client.chat.completions.stream({ model: MODEL, messages: question, tools: [WEATHER], tool_choice: "required" });
  const [call] = (await stream.finalMessage()).tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.ok("city" in JSON.parse(call.function.arguments));
});

test("a JSON schema", async () => {
  const response = await client.chat.completions.create({
    model: MODEL,
    messages: [{ role: "user", content: "Who? Answer in JSON." }],
    response_format: { type: "json_schema", json_schema: { name: "person", schema: SCHEMA } },
  });
  assert.deepEqual(Object.keys(JSON.parse(response.choices[0].message.content)).sort(), ["age", "name"]);
});

for (const [model, status, kind, times] of [
  ["sandbox/error-401", 401, OpenAI.AuthenticationError, 1],
  ["sandbox/error-404", 404, OpenAI.NotFoundError, 1],
  ["sandbox/error-429", 429, OpenAI.RateLimitError, 2],
  ["sandbox/error-500", 500, OpenAI.InternalServerError, 1],
  ["sandbox/error-503", 503, OpenAI.InternalServerError, 2],
]) {
  test(`error ${status} has the package's class, and is retried if retryable`, async () => {
    const call = client.chat.completions.create({ model, messages: HELLO }, { maxRetries: 1 });
    await assert.rejects(call, (error) => error instanceof kind && error.status === status && !!error.requestID);
    assert.equal((await requestsFor(service, model)).length, times);
  });
}

test("an error within a stream is thrown", async () => {
  let seen = 0;
  await assert.rejects(async () => {
    const stream = await client.chat.completions.create({ model: "sandbox/stream-error-after-3", messages: HELLO, stream: true });
    for await (const _ of stream) seen += 1;
  }, OpenAI.APIError);
  assert.ok(seen > 0);
});

test("an abort closes the provider connection", async () => {
  const model = "sandbox/stall-after-2";
  const stream = await client.chat.completions.create({ model, messages: HELLO, stream: true });
  for await (const _ of stream) stream.controller.abort();
  assert.equal(await endOf(service, model), "client_closed");
});

test("a timeout of the client returns 504 and is not retried", async () => {
  const model = "sandbox/stall-after-4";
  const call = client.chat.completions.create({ model, messages: HELLO }, { timeout: 5000 });
  await assert.rejects(call, (error) => error.status === 504);
  assert.equal((await requestsFor(service, model)).length, 1);
});

test("the models are listed", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.length > 10);
  assert.equal((await client.models.retrieve(ids[0])).id, ids[0]);
});
