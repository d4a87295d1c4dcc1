// Tests of Vercel's AI SDK and its OpenAI-compatible provider against the HTTP listener.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { endOf, serve } from "./service.mjs";

const MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo";

let service, together;
before(async () => {
  service = await serve();
  together = createOpenAICompatible({
    name: "together",
    apiKey: "tok_any",
    baseURL: service.baseURL,
    headers: { "x-provider": "together" },
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
});
after(() => service.stop());

test("a call", async () => {
  const { text, usage } = await generateText({ model: together(MODEL), prompt: "say: Hello there, friend." });
  assert.equal(text, "Hello there, friend.");
  assert.ok(usage.totalTokens > 0);
});

test("a stream, with its usage", async () => {
  const result = streamText({ model: together(MODEL), prompt: "say: Hello there, friend." });
  let text = "";
  for await (const delta of result.textStream) text += delta;
  assert.equal(text, "Hello there, friend.");
  assert.ok((await result.usage).outputTokens > 0);
  assert.equal(await result.finishReason, "stop");
});

test("reasoning is separate from the text", async () => {
  const result = await generateText({ model: together("sandbox/reasoning"), prompt: "say: Done." });
  assert.equal(result.text, "Done.");
  assert.ok(result.reasoningText.length > 0);
});

test("a tool is called, and its result is sent", async () => {
  const cities = [];
  const weather = tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => (cities.push(city), "Rain."),
  });
  const result = await generateText({
    model: together(MODEL),
    prompt: "What is the weather in Paris?",
    tools: { get_weather: weather },
    stopWhen: stepCountIs(2),
  });
  assert.equal(cities.length, 1);
  assert.equal(result.steps.length, 2);
});

test("a JSON schema", async () => {
  const schema = z.object({ name: z.string(), age: z.number().int() });
  const { object } = await generateObject({ model: together(MODEL), schema, prompt: "Who? Answer in JSON." });
  assert.deepEqual(Object.keys(object).sort(), ["age", "name"]);
});

test("an error", async () => {
  const call = generateText({ model: together("sandbox/error-401"), prompt: "Hi", maxRetries: 0 });
  await assert.rejects(call, (error) => error.statusCode === 401);
});

test("an abort closes the provider connection", async () => {
  const model = "sandbox/stall-after-3";
  const controller = new AbortController();
  const result = streamText({ model: together(model), prompt: "Hi", abortSignal: controller.signal, onError: () => {} });
  for await (const _ of result.textStream) controller.abort();
  assert.equal(await endOf(service, model), "client_closed");
});
