// Tests of Vercel's AI SDK against the HTTP listener, with three of its providers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateObject, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { LONG, MODEL, PERSON_QUESTION, SAY, SAY_LONG, STATUSES, TEXT, WEATHER_QUESTION } from "./examples.mjs";
import { integration } from "./integration.mjs";
import { baseURL, service } from "./served.mjs";
import { endOf } from "./service.mjs";

const SCHEMA = z.object({ name: z.string(), age: z.number().int() });

// docs: begin @ai-sdk/openai-compatible (Node)
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const compatible = createOpenAICompatible({
  name: "togetherchat",
  baseURL,
  apiKey: "YOUR_KEY",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
// docs: end

// docs: begin @ai-sdk/togetherai (Node)
import { createTogetherAI } from "@ai-sdk/togetherai";

const together = createTogetherAI({ baseURL, apiKey: "YOUR_KEY" });
// docs: end

// docs: begin @ai-sdk/openai (Node)
import { createOpenAI } from "@ai-sdk/openai";

const openai = createOpenAI({ baseURL, apiKey: "YOUR_KEY" }).chat;
// docs: end

const PROVIDERS = {
  "@ai-sdk/openai-compatible (Node)": compatible,
  "@ai-sdk/togetherai (Node)": together,
  "@ai-sdk/openai (Node)": openai,
};

// Features that a provider does not have, and why.
const MISSING = {
  "@ai-sdk/togetherai (Node)": { schema: "The provider requests JSON, but does not send the schema." },
};

Object.entries(PROVIDERS).forEach(([name, model], position) => {
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
  const result = await generateText({ model: compatible("sandbox/reasoning"), prompt: "say: Done." });

  assert.equal(result.text, "Done.");
  assert.ok(result.reasoningText.length > 0);
});
