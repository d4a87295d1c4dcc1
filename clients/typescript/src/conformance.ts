/**
 * The TypeScript actor of `clients/conformance`: makes the call of each case and writes an observation.
 *
 *     node dist/conformance.js 127.0.0.1:50051 < cases
 *
 * The README of that folder defines cases and observations. The judge compares; the actor does not.
 */
import { createInterface } from "node:readline";

import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";

import { type CallOptions, type Client, createClient } from "./client.js";
import { ChatError } from "./errors.js";
import {
  CompleteRequestSchema,
  CompleteResponseSchema,
  GetModelRequestSchema,
  GetModelResponseSchema,
  ListModelsRequestSchema,
  ListModelsResponseSchema,
} from "./gen/togetherchat/v1/chat_service_pb.js";
import {
  ListQuotasRequestSchema,
  ListQuotasResponseSchema,
  QueryUsageRequestSchema,
  QueryUsageResponseSchema,
  ResetQuotaRequestSchema,
  ResetQuotaResponseSchema,
} from "./gen/togetherchat/v1/usage_service_pb.js";

/** The arguments of a client or a call, as `arguments.json` names them. */
interface Arguments {
  readonly target?: string;
  readonly key?: string;
  readonly upstream_key?: string;
  readonly client_timeout_s?: number | string;
  readonly max_reconnect_backoff_s?: number;
  readonly timeout_s?: number | string;
  readonly request_id?: string;
  readonly metadata?: readonly (readonly [string, string])[];
  readonly text_utf16?: readonly number[];
}

interface Case {
  readonly id: string;
  readonly call:
    "Complete" | "StreamComplete" | "ListModels" | "GetModel" | "QueryUsage" | "ListQuotas" | "ResetQuota";
  readonly request: JsonValue;
  readonly deadline_ms?: number;
  readonly cancel?: { readonly after_events?: number; readonly after_ms?: number };
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retries?: boolean;
}

const ARGUMENTS_MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo";

/** What was received in one call so far. */
interface Observation {
  events: number;
  response: JsonValue;
}

async function runCase(client: Client, each: Case): Promise<object> {
  const observed: Observation = { events: 0, response: null };
  const outcome = await outcomeOf(() => runCall(client, each, observed));
  return { id: each.id, ...outcome, events: observed.events, response: observed.response };
}

/** Opens a client with the arguments; calls, unless the case is about the target. */
async function runArguments(target: string, id: string, given: Arguments): Promise<object> {
  const outcome = await outcomeOf(async () => {
    const client = createClient(given.target ?? target, {
      key: given.key,
      upstreamKey: given.upstream_key,
      timeoutMs: milliseconds(given.client_timeout_s),
      maxReconnectBackoffMs: milliseconds(given.max_reconnect_backoff_s),
    });
    if (given.target === undefined) {
      const messages = String.fromCharCode(...(given.text_utf16 ?? [72, 105]));
      await client.complete(
        { model: ARGUMENTS_MODEL, messages },
        {
          timeoutMs: milliseconds(given.timeout_s),
          requestId: given.request_id,
          headers: Object.fromEntries(given.metadata ?? []),
        },
      );
    }
    client.close();
    return true;
  });
  return { id, ...outcome, events: 0, response: null };
}

function milliseconds(seconds: number | string | undefined): number | undefined {
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** Runs a case and describes how it ended; `run` returns false if the case cancelled the call. */
async function outcomeOf(run: () => Promise<boolean>): Promise<object> {
  try {
    return withoutError((await run()) ? "OK" : "CANCELLED");
  } catch (error) {
    if (error instanceof ChatError) {
      return withError(error);
    }
    if (error instanceof TypeError || error instanceof RangeError) {
      return { ...withoutError("REJECTED"), message: error.message };
    }
    throw error;
  }
}

/** Makes the call. Returns false if the case cancelled it. */
async function runCall(client: Client, each: Case, observed: Observation): Promise<boolean> {
  const options = optionsOf(each);
  switch (each.call) {
    case "Complete": {
      const response = await client.complete(fromJson(CompleteRequestSchema, each.request), options);
      observed.response = toJson(CompleteResponseSchema, response);
      return true;
    }
    case "ListModels": {
      const page = await client.listModels(fromJson(ListModelsRequestSchema, each.request), options);
      observed.response = toJson(ListModelsResponseSchema, page);
      return true;
    }
    case "GetModel": {
      const { id } = fromJson(GetModelRequestSchema, each.request);
      observed.response = toJson(GetModelResponseSchema, await client.getModel(id, options));
      return true;
    }
    case "QueryUsage": {
      const report = await client.queryUsage(fromJson(QueryUsageRequestSchema, each.request), options);
      observed.response = toJson(QueryUsageResponseSchema, report);
      return true;
    }
    case "ListQuotas": {
      const { tenants } = fromJson(ListQuotasRequestSchema, each.request);
      observed.response = toJson(ListQuotasResponseSchema, await client.listQuotas(tenants, options));
      return true;
    }
    case "ResetQuota": {
      const { tenant } = fromJson(ResetQuotaRequestSchema, each.request);
      observed.response = toJson(ResetQuotaResponseSchema, await client.resetQuota(tenant, options));
      return true;
    }
    case "StreamComplete":
      return read(client, each, options, observed);
  }
}

async function read(
  client: Client,
  each: Case,
  options: CallOptions,
  observed: Observation,
): Promise<boolean> {
  const stream = client.stream(fromJson(CompleteRequestSchema, each.request), options);
  try {
    for await (const _ of stream) {
      observed.events += 1;
      if (observed.events === each.cancel?.after_events) {
        return false;
      }
    }
    return true;
  } finally {
    observed.response = observed.events === 0 ? null : toJson(CompleteResponseSchema, stream.response);
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

function withError(error: ChatError): object {
  return {
    code: error.code,
    reason: error.reason,
    message: error.message,
    hint: error.hint,
    retryable: error.retryable ?? false,
    retry_after_ms: error.retryAfterMs ?? null,
    violations: error.violations.map(({ field, description }) => [field, description]),
    resource_name: error.resourceName,
    error_metadata: error.metadata,
  };
}

function withoutError(code: string): object {
  return {
    code,
    reason: "",
    message: code === "OK" ? "" : "the caller cancelled",
    hint: "",
    retryable: false,
    retry_after_ms: null,
    violations: [],
    resource_name: "",
    error_metadata: {},
  };
}

async function main(target: string): Promise<void> {
  const client = createClient(target);
  const once = createClient(target, { retries: false });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() !== "") {
      const each = JSON.parse(line) as Case & { readonly arguments?: Arguments };
      const observed = each.arguments
        ? await runArguments(target, each.id, each.arguments)
        : await runCase(each.retries === false ? once : client, each);
      process.stdout.write(`${JSON.stringify(observed)}\n`);
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
