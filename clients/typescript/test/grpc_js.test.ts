/** The service called with plain @grpc/grpc-js and the contract's protos, without this library. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
} from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { REPOSITORY, type Running, startServer } from "./processes.js";

/** A message of proto-loader, whose shape is known only at run time. */
type Dynamic = Record<string, unknown>;

interface DynamicClient extends grpc.Client {
  Complete(
    request: Dynamic,
    metadata: grpc.Metadata,
    options: grpc.CallOptions,
    done: (error: grpc.ServiceError | null, response?: Dynamic) => void,
  ): void;
  StreamComplete(request: Dynamic): grpc.ClientReadableStream<Dynamic>;
}

let server: Running;
let client: DynamicClient;

before(async () => {
  server = await startServer();
  const definition = loadSync("togetherchat/v1/chat_service.proto", {
    includeDirs: [`${REPOSITORY}protos`],
    longs: String,
    enums: String,
    oneofs: true,
  });
  const loaded = grpc.loadPackageDefinition(definition) as unknown as {
    togetherchat: {
      v1: { ChatService: new (address: string, keys: grpc.ChannelCredentials) => DynamicClient };
    };
  };
  client = new loaded.togetherchat.v1.ChatService(server.address, grpc.credentials.createInsecure());
});

after(async () => {
  client.close();
  await server.stop();
});

function ask(model: string, text: string): Dynamic {
  return { model, messages: [{ role: "ROLE_USER", content: [{ text }] }] };
}

function complete(
  request: Dynamic,
): Promise<{ error: grpc.ServiceError | null; response: Dynamic | undefined }> {
  return new Promise((resolve) => {
    client.Complete(request, new grpc.Metadata(), { deadline: Date.now() + 60_000 }, (error, response) => {
      resolve({ error, response });
    });
  });
}

function detailsOf(error: grpc.ServiceError) {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  assert(Buffer.isBuffer(packed));
  return fromBinary(StatusSchema, packed).details;
}

test("a call returns the completion", async () => {
  const { error, response } = await complete(ask("openai/gpt-oss-120b", "echo: from grpc-js"));
  assert.equal(error, null);
  assert.match(JSON.stringify(response), /"text":"from grpc-js"/);
});

test("a stream is a sequence of events that ends with completed", async () => {
  const events: unknown[] = [];
  for await (const { event } of client.StreamComplete(
    ask("openai/gpt-oss-120b", "Hi"),
  ) as AsyncIterable<Dynamic>) {
    events.push(event);
  }
  assert.deepEqual([events[0], events.at(-2), events.at(-1)], ["started", "choiceFinished", "completed"]);
});

test("an error has its reason in a plain-text trailer and in the details of its status", async () => {
  const { error } = await complete(ask("sandbox/error-404", "Hi"));
  assert(error !== null);
  const info = detailsOf(error)
    .map((each) => anyUnpack(each, ErrorInfoSchema))
    .find(Boolean);
  assert.deepEqual(
    [error.code, error.metadata.get("x-error-reason"), error.metadata.get("x-error-retryable")],
    [grpc.status.NOT_FOUND, ["MODEL_NOT_FOUND"], ["false"]],
  );
  assert.deepEqual(
    [info?.domain, info?.reason, info?.metadata["upstreamHttpStatus"]],
    ["togetherchat", "MODEL_NOT_FOUND", "404"],
  );
});

test("the details of an error contain every violation and the request id", async () => {
  const { error } = await complete({ model: "m", messages: [], temperature: 9 });
  assert(error !== null);
  const details = detailsOf(error);
  const bad = details.map((each) => anyUnpack(each, BadRequestSchema)).find(Boolean);
  const request = details.map((each) => anyUnpack(each, RequestInfoSchema)).find(Boolean);
  assert.deepEqual(bad?.fieldViolations.map(({ field }) => field).sort(), ["messages", "temperature"]);
  assert.deepEqual([request?.requestId], error.metadata.get("x-request-id"));
});
