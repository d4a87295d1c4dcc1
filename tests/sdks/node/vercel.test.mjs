// Tests of Vercel's AI SDK against the HTTP listener, with three of its providers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createTogetherAI } from "@ai-sdk/togetherai";
import { generateObject, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { LONG, MODEL, PERSON_QUESTION, SAY, SAY_LONG, STATUSES, TEXT, WEATHER_QUESTION } from "./examples.mjs";
import { integration } from "./integration.mjs";
import { endOf, serve } from "./service.mjs";

const SCHEMA = z.object({ name: z.string(), age: z.number().int() });

let service;
before(async () => (service = await serve()));
after(() => service.stop());

const PROVIDERS = {
  "@ai-sdk/openai-compatible (Node)": (baseURL) => {
    // docs: begin @ai-sdk/openai-compatible (Node)
    const provider = createOpenAICompatible({
      name: "togetherchat",
      baseURL,
      apiKey: "YOUR_KEY",
      includeUsage: true,
      supportsStructuredOutputs: true,
    });
    // docs: end
    return provider;
  },
  "@ai-sdk/togetherai (Node)": (baseURL) => {
    // docs: begin @ai-sdk/togetherai (Node)
    const provider = createTogetherAI({ baseURL, apiKey: "YOUR_KEY" });
    // docs: end
    return provider;
  },
  "@ai-sdk/openai (Node)": (baseURL) => {
    // docs: begin @ai-sdk/openai (Node)
    const provider = createOpenAI({ baseURL, apiKey: "YOUR_KEY" }).chat;
    // docs: end
    return provider;
  },
};

// Features that a provider does not have, and why.
const MISSING = {
  "@ai-sdk/togetherai (Node)": { schema: "The provider requests JSON, but does not send the schema." },
};

Object.entries(PROVIDERS).forEach(([name, create], position) => {
  const model = (id) => create(service.baseURL)(id);

  integration(name, import.meta.url, {
    async call() {
      const { text, usage, finishReason } = await generateText({ model: model(MODEL), prompt: SAY });

      assert.equal(text, TEXT);
      assert.equal(finishReason, "stop");
      assert.ok(usage.totalTokens > 0);
    },

    async stream() {
      const result = streamText({ model: model(MODEL), prompt: SAY_LONG });
      const deltas = [];
      for await (const delta of result.textStream) deltas.push(delta);

      assert.equal(deltas.join(""), LONG);
      assert.ok(deltas.length > 1);
      assert.ok((await result.usage).outputTokens > 0);
      assert.equal(await result.finishReason, "stop");
    },

    async tools() {
      const cities = [];
      const weather = tool({
        description: "The weather of a city",
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => (cities.push(city), "Rain."),
      });
      const request = {
        model: model(MODEL), prompt: WEATHER_QUESTION, tools: { get_weather: weather }, stopWhen: stepCountIs(2),
      };
      const whole = await generateText(request);
      const streamed = streamText(request);

      assert.match(whole.text, /Rain\./);
      assert.match(await streamed.text, /Rain\./);
      assert.equal((await streamed.steps).length, 2);
      assert.equal(cities.length, 2);
    },

    async schema() {
      const { object } = await generateObject({ model: model(MODEL), schema: SCHEMA, prompt: PERSON_QUESTION });
      const { output } = await generateText({
        model: model(MODEL), output: Output.object({ schema: SCHEMA }), prompt: PERSON_QUESTION,
      });

      assert.deepEqual(Object.keys(object).sort(), ["age", "name"]);
      assert.deepEqual(output, object);
    },

    async errors() {
      for (const status of STATUSES) {
        const call = generateText({ model: model(`sandbox/error-${status}`), prompt: SAY, maxRetries: 0 });
        await assert.rejects(call, (error) => error.statusCode === status && error.isRetryable !== undefined);
      }
      for (const id of ["sandbox/stream-error-after-3", "sandbox/cut-stream"]) {
        const errors = [];
        const result = streamText({ model: model(id), prompt: SAY, onError: ({ error }) => errors.push(error) });
        let text = "";
        try {
          for await (const delta of result.textStream) text += delta;
        } catch (error) {
          errors.push(error); // the end of the connection, which the SDK reads before or after the event
        }
        assert.ok(text.length > 0);
        assert.ok(errors.length > 0, `${id} was taken for complete`);
      }
    },

    async cancel() {
      const id = `sandbox/stall-after-${position + 2}`;
      const controller = new AbortController();
      const result = streamText({ model: model(id), prompt: SAY, abortSignal: controller.signal, onError: () => {} });
      for await (const _ of result.textStream) controller.abort();

      assert.equal(await endOf(service, id), "client_closed");
    },

    ...MISSING[name],
  });
});

test("reasoning is separate from the text", async () => {
  const provider = PROVIDERS["@ai-sdk/openai-compatible (Node)"](service.baseURL);
  const result = await generateText({ model: provider("sandbox/reasoning"), prompt: "say: Done." });

  assert.equal(result.text, "Done.");
  assert.ok(result.reasoningText.length > 0);
});
