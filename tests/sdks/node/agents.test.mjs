// Tests of OpenAI's Agents SDK for Node, with its chat-completions model, against the HTTP listener.
import assert from "node:assert/strict";
import { run, tool } from "@openai/agents";
import { z } from "zod";
import { LONG, MODEL, PERSON_QUESTION, SAY, SAY_LONG, STATUSES, TEXT, WEATHER_QUESTION } from "./examples.mjs";
import { integration } from "./integration.mjs";
import { baseURL, service } from "./served.mjs";
import { endOf } from "./service.mjs";

const model = MODEL;

// docs: begin
import { Agent, OpenAIChatCompletionsModel, setTracingDisabled } from "@openai/agents";
import OpenAI from "openai";

setTracingDisabled(true); // traces are sent to OpenAI otherwise
const client = new OpenAI({ baseURL, apiKey: "YOUR_KEY" });
const agent = new Agent({ name: "Assistant", model: new OpenAIChatCompletionsModel(client, model) });
// docs: end

client.maxRetries = 0;
const agentWith = (model) => agent.clone({ model: new OpenAIChatCompletionsModel(client, model) });

integration("@openai/agents (Node)", import.meta.url, {
  async call() {
    const result = await run(agent.clone({ instructions: "Be brief." }), SAY);

    assert.equal(result.finalOutput, TEXT);
    assert.ok(result.state.usage.totalTokens > 0);
  },

  async stream() {
    const result = await run(agent, SAY_LONG, { stream: true });
    const pieces = [];
    for await (const piece of result.toTextStream()) pieces.push(piece);
    await result.completed;

    assert.equal(pieces.join(""), LONG);
    assert.ok(pieces.length > 1);
    assert.ok(result.state.usage.totalTokens > 0);
  },

  async tools() {
    const cities = [];
    const weather = tool({
      name: "get_weather",
      description: "The weather of a city",
      parameters: z.object({ city: z.string() }),
      execute: async ({ city }) => (cities.push(city), "Rain."),
    });
    const whole = await run(agent.clone({ tools: [weather] }), WEATHER_QUESTION);
    const streamed = await run(agent.clone({ tools: [weather] }), WEATHER_QUESTION, { stream: true });
    await streamed.completed;

    assert.match(whole.finalOutput, /Rain\./);
    assert.match(streamed.finalOutput, /Rain\./);
    assert.equal(cities.length, 2);
  },

  async schema() {
    const outputType = z.object({ name: z.string(), age: z.number().int() });
    const result = await run(agent.clone({ outputType }), PERSON_QUESTION);

    assert.deepEqual(Object.keys(result.finalOutput).sort(), ["age", "name"]);
  },

  async errors() {
    for (const status of STATUSES) {
      await assert.rejects(run(agentWith(`sandbox/error-${status}`), SAY), (error) => error.status === status);
    }
    for (const model of ["sandbox/stream-error-after-3", "sandbox/cut-stream"]) {
      let seen = 0;
      await assert.rejects(async () => {
        const result = await run(agentWith(model), SAY, { stream: true });
        for await (const _ of result.toTextStream()) seen += 1;
        await result.completed;
      });
      assert.ok(seen > 0);
    }
  },

  async cancel() {
    const model = "sandbox/stall-after-2";
    const controller = new AbortController();
    const result = await run(agentWith(model), SAY, { stream: true, signal: controller.signal });
    for await (const _ of result.toTextStream()) controller.abort();

    assert.equal(await endOf(service, model), "client_closed");
  },
});
