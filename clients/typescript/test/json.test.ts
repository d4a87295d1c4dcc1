/** JSON of answers: `JSON.stringify` and `toJson` give proto3 JSON. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { create, equals, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";

import { type Client, createClient } from "../src/client.js";
import { CompleteResponseSchema } from "../src/gen/togetherchat/v1/chat_service_pb.js";
import { toJson } from "../src/json.js";
import { type Running, startServer } from "./processes.js";

const SEED = 2n ** 64n - 1n;
const PARAMS = { model: "openai/gpt-oss-120b", messages: "echo: Hi", seed: SEED, logprobs: 1 };

let server: Running;
let client: Client;

before(async () => {
  server = await startServer();
  client = createClient(server.address);
});

after(async () => {
  client.close();
  await server.stop();
});

test("JSON.stringify of a response is its proto3 JSON, with 64-bit numbers as strings", async () => {
  const response = await client.complete(PARAMS);
  const written = JSON.parse(JSON.stringify({ response })) as { response: JsonValue };
  assert.deepEqual(written.response, toJson(response));
  assert(equals(CompleteResponseSchema, fromJson(CompleteResponseSchema, written.response), response));
  const { choices } = written.response as { choices: { seed: string; finishReason: string }[] };
  assert.deepEqual([choices[0]?.seed, choices[0]?.finishReason], [String(SEED), "FINISH_REASON_STOP"]);
});

test("every message in a response can be written on its own", async () => {
  const response = await client.complete(PARAMS);
  assert.match(JSON.stringify(response.choices[0]), /"seed":"18446744073709551615"/);
  assert.match(JSON.stringify(response.timings?.totalDuration), /^"[\d.]+s"$/);
  assert.deepEqual(Object.keys(response).includes("toJSON"), false);
});

test("events of a stream, its response and the models can be written", async () => {
  const stream = client.stream(PARAMS);
  const events: string[] = [];
  for await (const event of stream) {
    events.push(JSON.stringify(event));
  }
  assert.match(events[0] ?? "", /^\{"started":\{/);
  assert.match(events.at(-1) ?? "", /^\{"completed":\{/);
  assert.match(JSON.stringify(stream.response), /"seed":"18446744073709551615"/);
  assert.match(JSON.stringify((await client.listModels({ pageSize: 1 })).models), /^\[\{"id":"/);
  for await (const model of client.models()) {
    assert.equal((JSON.parse(JSON.stringify(model)) as { id: string }).id, model.id);
    break;
  }
});

test("toJson rejects a message of another contract", () => {
  assert.throws(() => toJson(create(EmptySchema)), {
    name: "TypeError",
    message: "message: google.protobuf.Empty is not a message of togetherchat.v1",
  });
});
