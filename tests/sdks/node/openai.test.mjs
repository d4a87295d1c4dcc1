// Tests of OpenAI's package for Node against the HTTP listener.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LONG, MODEL, PERSON, PERSON_QUESTION, SAY, SAY_LONG, TEXT, user, WEATHER, WEATHER_QUESTION } from "./examples.mjs";
import { integration } from "./integration.mjs";
import { baseURL, service } from "./served.mjs";
import { endOf, requestsFor } from "./service.mjs";

// docs: begin
import OpenAI from "openai";

const client = new OpenAI({ baseURL, apiKey: "YOUR_KEY" });
// docs: end

const HELLO = user(SAY);

integration("openai (Node)", import.meta.url, {
  async call() {
    const response = await client.chat.completions.create({ model: MODEL, messages: HELLO });

    assert.equal(response.choices[0].message.content, TEXT);
    assert.equal(response.choices[0].finish_reason, "stop");
  },

  async stream() {
    let text = "", chunks = 0;
    for await (const chunk of await client.chat.completions.create({ model: MODEL, messages: user(SAY_LONG), stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? "";
      chunks += 1;
    }

    assert.equal(text, LONG);
    assert.ok(chunks > 2);
  },

  async tools() {
    const cities = [];
    const weather = { ...WEATHER.function, parse: JSON.parse, function: ({ city }) => (cities.push(city), "Rain.") };
    for (const stream of [false, true]) {
      const runner = client.chat.completions.runTools({
        model: MODEL, messages: user(WEATHER_QUESTION), tools: [{ type: "function", function: weather }], stream,
      });
      assert.match(await runner.finalContent(), /Rain\./);
      assert.ok((await runner.totalUsage()).total_tokens > 0);
    }

    assert.equal(cities.length, 2);
  },

  async schema() {
    const response = await client.chat.completions.parse({
      model: MODEL,
      messages: user(PERSON_QUESTION),
      response_format: { type: "json_schema", json_schema: { name: "person", schema: PERSON } },
    });

    assert.deepEqual(Object.keys(JSON.parse(response.choices[0].message.content)).sort(), ["age", "name"]);
  },

  async errors() {
    for (const [model, status, kind, times] of [
      ["sandbox/error-401", 401, OpenAI.AuthenticationError, 1],
      ["sandbox/error-404", 404, OpenAI.NotFoundError, 1],
      ["sandbox/error-429", 429, OpenAI.RateLimitError, 2],
      ["sandbox/error-500", 500, OpenAI.InternalServerError, 1],
      ["sandbox/error-503", 503, OpenAI.InternalServerError, 2],
    ]) {
      const call = client.chat.completions.create({ model, messages: HELLO }, { maxRetries: 1 });
      await assert.rejects(call, (error) => error instanceof kind && error.status === status && !!error.requestID);
      assert.equal((await requestsFor(service, model)).length, times, `${model}: retried if retryable`);
    }
    for (const model of ["sandbox/stream-error-after-3", "sandbox/cut-stream"]) {
      let seen = 0;
      await assert.rejects(async () => {
        for await (const _ of await client.chat.completions.create({ model, messages: HELLO, stream: true })) seen += 1;
      }, OpenAI.APIError);
      assert.ok(seen > 0);
    }
  },

  async cancel() {
    const model = "sandbox/stall-after-2";
    const stream = await client.chat.completions.create({ model, messages: HELLO, stream: true });
    for await (const _ of stream) stream.controller.abort();

    assert.equal(await endOf(service, model), "client_closed");
  },
});

test("a tool call that the package collects from a stream", async () => {
  const stream = client.chat.completions.stream({
    model: MODEL, messages: user(WEATHER_QUESTION), tools: [WEATHER], tool_choice: "required",
  });
  const [call] = (await stream.finalMessage()).tool_calls;

  assert.equal(call.function.name, "get_weather");
  assert.ok("city" in JSON.parse(call.function.arguments));
});

test("a program that reads slowly receives the event of a failed stream", async () => {
  const request = { model: "sandbox/stream-error-after-30", messages: user(SAY_LONG), stream: true };
  await assert.rejects(async () => {
    for await (const _ of await client.chat.completions.create(request)) await new Promise((read) => setTimeout(read, 20));
  }, (error) => error instanceof OpenAI.APIError && error.code === "upstream_internal");
});

test("a timeout of the client returns 504 and is not retried", async () => {
  const model = "sandbox/stall-after-4";
  const call = client.chat.completions.create({ model, messages: HELLO }, { timeout: 5000 });

  await assert.rejects(call, (error) => error.status === 504);
  assert.equal((await requestsFor(service, model)).length, 1);
});

test("the header that names the provider", async () => {
  const named = new OpenAI({ apiKey: "tok_any", baseURL: `${baseURL}/`, defaultHeaders: { "x-provider": "together" } });
  const response = await named.chat.completions.create({ model: MODEL, messages: HELLO });

  assert.equal(response.choices[0].message.content, TEXT);
});

test("the models are listed", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);

  assert.ok(ids.length > 10);
  assert.equal((await client.models.retrieve(ids[0])).id, ids[0]);
});
