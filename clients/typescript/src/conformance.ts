/**
 * The actor of `clients/conformance`: makes the calls that it reads and writes down what it saw.
 *
 *     node dist/conformance.js 127.0.0.1:50051 < cases
 *
 * Owns the form of cases and answers, which that folder's README settles. Judges nothing.
 */
import { createInterface } from "node:readline";

import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";

import { type CallOptions, type Client, createClient } from "./client.js";
import { ChatError } from "./errors.js";
import {
  CompleteRequestSchema,
  CompleteResponseSchema,
  ListModelsRequestSchema,
  ListModelsResponseSchema,
} from "./gen/togetherchat/v1/chat_service_pb.js";

interface Case {
  readonly id: string;
  readonly call: "Complete" | "StreamComplete" | "ListModels";
  readonly request: JsonValue;
  readonly deadline_ms?: number;
  readonly cancel?: { readonly after_events?: number; readonly after_ms?: number };
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retries?: boolean;
}

/** What a call gave, as far as it got. */
interface Seen {
  events: number;
  answer: JsonValue;
}

async function act(client: Client, each: Case): Promise<object> {
  const seen: Seen = { events: 0, answer: null };
  let outcome: object;
  try {
    const whole = await make(client, each, seen);
    outcome = plain(whole ? "OK" : "CANCELLED");
  } catch (error) {
    if (!(error instanceof ChatError)) {
      throw error;
    }
    outcome = described(error);
  }
  return { id: each.id, ...outcome, events: seen.events, answer: seen.answer };
}

/** Makes the call. False when its caller left it. */
async function make(client: Client, each: Case, seen: Seen): Promise<boolean> {
  const options = optionsOf(each);
  switch (each.call) {
    case "Complete": {
      const answer = await client.complete(fromJson(CompleteRequestSchema, each.request), options);
      seen.answer = toJson(CompleteResponseSchema, answer);
      return true;
    }
    case "ListModels": {
      const page = await client.listModels(fromJson(ListModelsRequestSchema, each.request), options);
      seen.answer = toJson(ListModelsResponseSchema, page);
      return true;
    }
    case "StreamComplete":
      return read(client, each, options, seen);
  }
}

async function read(client: Client, each: Case, options: CallOptions, seen: Seen): Promise<boolean> {
  const stream = client.stream(fromJson(CompleteRequestSchema, each.request), options);
  try {
    for await (const _ of stream) {
      seen.events += 1;
      if (seen.events === each.cancel?.after_events) {
        return false;
      }
    }
    return true;
  } finally {
    seen.answer = seen.events === 0 ? null : toJson(CompleteResponseSchema, stream.response);
  }
}

function optionsOf({ id, deadline_ms, metadata, cancel }: Case): CallOptions {
  return {
    requestId: id,
    ...(deadline_ms !== undefined && { timeoutMs: deadline_ms }),
    ...(metadata !== undefined && { headers: metadata }),
    ...(cancel?.after_ms !== undefined && { signal: AbortSignal.timeout(cancel.after_ms) }),
  };
}

function described(error: ChatError): object {
  return {
    code: error.code,
    reason: error.reason,
    message: error.message,
    retryable: error.retryable ?? null,
    retry_after_ms: error.retryAfterMs ?? null,
    violations: error.violations.map(({ field, description }) => [field, description]),
    error_metadata: error.metadata,
  };
}

function plain(code: string): object {
  return {
    code,
    reason: "",
    message: code === "OK" ? "" : "the caller left",
    retryable: false,
    retry_after_ms: null,
    violations: [],
    error_metadata: {},
  };
}

async function main(target: string): Promise<void> {
  const client = createClient(target);
  const once = createClient(target, { retries: false });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() !== "") {
      const each = JSON.parse(line) as Case;
      const seen = await act(each.retries === false ? once : client, each);
      process.stdout.write(`${JSON.stringify(seen)}\n`);
    }
  }
  client.close();
  once.close();
}

const [target] = process.argv.slice(2);
if (target === undefined) {
  process.stderr.write("usage: node conformance.js HOST:PORT < cases\n");
  process.exitCode = 2;
} else {
  await main(target);
}
