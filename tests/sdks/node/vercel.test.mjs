// Vercel's AI SDK with its provider for APIs like OpenAI's, as they are installed, against the door.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { left, serve } from "./served.mjs";

const MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo";

let served, together;
before(async () => {
  served = await serve();
  together = createOpenAICompatible({
    name: "together",
    apiKey: "tok_any",
    baseURL: served.baseURL,
    headers: { "x-provider": "together" },
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
});
after(() => served.stop());

test("a call", async () => {
  const { text, usage } = await generateText({ model: together(MODEL), prompt: "say: Hello there, friend." });
  assert.equal(text, "Hello there, friend.");
  assert.ok(usage.totalTokens > 0);
});

test("a stream, with its usage", async () => {
  const result = streamText({ model: together(MODEL), prompt: "say: Hello there, friend." });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  assert.equal(text, "Hello there, friend.");
  assert.ok((await result.usage).outputTokens > 0);
  assert.equal(await result.finishReason, "stop");
});

test("thinking comes apart from the answer", async () => {
  const result = await generateText({ model: together("sandbox/reasoning"), prompt: "say: Done." });
  assert.equal(result.text, "Done.");
  assert.ok(result.reasoningText.length > 0);
});

test("a tool is called, and its result goes back", async () => {
  const asked = [];
  const weather = tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => (asked.push(city), "Rain."),
  });
  const result = await generateText({
    model: together(MODEL),
    prompt: "What is the weather in Paris?",
    tools: { get_weather: weather },
    stopWhen: stepCountIs(2),
  });
  assert.equal(asked.length, 1);
  assert.equal(result.steps.length, 2);
});

test("JSON that follows a schema", async () => {
  const schema = z.object({ name: z.string(), age: z.number().int() });
  const { object } = await generateObject({ model: together(MODEL), schema, prompt: "Who? Answer in JSON." });
  assert.deepEqual(Object.keys(object).sort(), ["age", "name"]);
});

test("an error", async () => {
  const call = generateText({ model: together("sandbox/error-401"), prompt: "Hi", maxRetries: 0 });
  await assert.rejects(call, (error) => error.statusCode === 401);
});

test("an abort releases the provider", async () => {
  const model = "sandbox/stall-after-3";
  const controller = new AbortController();
  const result = streamText({ model: together(model), prompt: "Hi", abortSignal: controller.signal, onError: () => {} });
  for await (const _ of result.textStream) controller.abort();
  assert.equal(await left(served, model), "client_closed");
});
