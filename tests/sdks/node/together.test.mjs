// Tests of Together's package for Node against the HTTP listener.
import assert from "node:assert/strict";
import { LONG, MODEL, PERSON, PERSON_QUESTION, SAY, SAY_LONG, TEXT, user, WEATHER, WEATHER_QUESTION } from "./examples.mjs";
import { integration } from "./integration.mjs";
import { baseURL, service } from "./served.mjs";
import { endOf, requestsFor } from "./service.mjs";

// docs: begin
import Together from "together-ai";

const client = new Together({ baseURL, apiKey: "YOUR_KEY" });
// docs: end

const HELLO = user(SAY);

integration("together-ai (Node)", import.meta.url, {
  async call() {
    const response = await client.chat.completions.create({ model: MODEL, messages: HELLO });

    assert.equal(response.choices[0].message.content, TEXT);
    assert.ok(response.usage.total_tokens > 0);
  },

  async stream() {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ model: MODEL, messages: user(SAY_LONG), stream: true })) {
      chunks.push(chunk);
    }

    assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), LONG);
    assert.ok(chunks.length > 2);
    assert.ok(chunks.at(-1).usage.total_tokens > 0);
  },

  async tools() {
    const first = await client.chat.completions.create({
      model: MODEL, messages: user(WEATHER_QUESTION), tools: [WEATHER], tool_choice: "required",
    });
    const message = first.choices[0].message;
    const [call] = message.tool_calls;
    const result = { role: "tool", tool_call_id: call.id, content: "Rain." };
    const second = await client.chat.completions.create({
      model: MODEL, messages: [...user(WEATHER_QUESTION), message, result], tools: [WEATHER],
    });

    assert.equal(call.function.name, "get_weather");
    assert.ok("city" in JSON.parse(call.function.arguments));
    assert.match(second.choices[0].message.content, /Rain\./);
  },

  async schema() {
    const response = await client.chat.completions.create({
      model: MODEL,
      messages: user(PERSON_QUESTION),
      response_format: { type: "json_schema", json_schema: { name: "person", schema: PERSON } },
    });

    assert.deepEqual(Object.keys(JSON.parse(response.choices[0].message.content)).sort(), ["age", "name"]);
  },

  async errors() {
    for (const [model, status, kind, times] of [
      ["sandbox/error-401", 401, Together.AuthenticationError, 1],
      ["sandbox/error-404", 404, Together.NotFoundError, 1],
      ["sandbox/error-429", 429, Together.RateLimitError, 2],
      ["sandbox/error-500", 500, Together.InternalServerError, 1],
      ["sandbox/error-503", 503, Together.InternalServerError, 2],
    ]) {
      const call = client.chat.completions.create({ model, messages: HELLO }, { maxRetries: 1 });
      await assert.rejects(call, (error) => error instanceof kind && error.status === status);
      assert.equal((await requestsFor(service, model)).length, times, `${model}: retried if retryable`);
    }
    for (const model of ["sandbox/stream-error-after-3", "sandbox/cut-stream"]) {
      let seen = 0;
      await assert.rejects(async () => {
        for await (const _ of await client.chat.completions.create({ model, messages: HELLO, stream: true })) seen += 1;
      });
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
