// Tests of LangChain.js's model for OpenAI's API against the HTTP listener.
import assert from "node:assert/strict";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { z } from "zod";
import { LONG, MODEL, PERSON_QUESTION, SAY, SAY_LONG, STATUSES, TEXT, WEATHER_QUESTION } from "./examples.mjs";
import { integration } from "./integration.mjs";
import { baseURL, service } from "./served.mjs";
import { endOf } from "./service.mjs";

const SCHEMA = z.object({ name: z.string(), age: z.number().int() });

const model = MODEL;

// docs: begin
import { ChatOpenAI } from "@langchain/openai";

const chat = new ChatOpenAI({
  model,
  apiKey: "YOUR_KEY",
  configuration: { baseURL },
  maxRetries: 0, // the service retries; LangChain repeats errors that a retry does not help
});
// docs: end

const chatWith = (model) => new ChatOpenAI({ ...chat.lc_kwargs, model });

integration("@langchain/openai (Node)", import.meta.url, {
  async call() {
    const response = await chat.invoke([["system", "Be brief."], ["human", SAY]]);

    assert.equal(response.text, TEXT);
    assert.ok(response.usage_metadata.total_tokens > 0);
  },

  async stream() {
    let text = "", pieces = 0, whole;
    for await (const chunk of await chat.stream(SAY_LONG)) {
      text += chunk.text;
      pieces += chunk.text ? 1 : 0;
      whole = whole ? whole.concat(chunk) : chunk;
    }
    const { usage_metadata: unary } = await chat.invoke(SAY_LONG);

    assert.equal(text, LONG);
    assert.ok(pieces > 1);
    assert.equal(whole.usage_metadata.total_tokens, unary.total_tokens);
  },

  async tools() {
    const weather = tool(({ city }) => `Rain in ${city}.`, {
      name: "get_weather", description: "The weather of a city", schema: z.object({ city: z.string() }),
    });
    const bound = chat.bindTools([weather]);
    const question = new HumanMessage(WEATHER_QUESTION);
    const asked = await bound.invoke([question]);
    const result = await weather.invoke(asked.tool_calls[0]);
    const answer = await bound.invoke([question, asked, result]);

    assert.ok(result instanceof ToolMessage);
    assert.match(result.content, /Rain in .+/);
    assert.match(answer.text, /Rain in /);
  },

  async schema() {
    for (const method of ["jsonSchema", "functionCalling"]) {
      const found = await chat.withStructuredOutput(SCHEMA, { method, name: "person" }).invoke(PERSON_QUESTION);
      assert.deepEqual(Object.keys(found).sort(), ["age", "name"]);
    }
  },

  async errors() {
    for (const status of STATUSES) {
      await assert.rejects(chatWith(`sandbox/error-${status}`).invoke(SAY), (error) => error.status === status);
    }
    for (const model of ["sandbox/stream-error-after-3", "sandbox/cut-stream"]) {
      let seen = 0;
      await assert.rejects(async () => {
        for await (const _ of await chatWith(model).stream(SAY)) seen += 1;
      });
      assert.ok(seen > 0);
    }
  },

  async cancel() {
    const model = "sandbox/stall-after-2";
    const controller = new AbortController();
    await assert.rejects(async () => {
      for await (const _ of await chatWith(model).stream(SAY, { signal: controller.signal })) controller.abort();
    });

    assert.equal(await endOf(service, model), "client_closed");
  },
});
