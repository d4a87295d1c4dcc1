/** The list of arguments that all clients accept or reject, `clients/conformance/arguments.json`. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { createClient } from "../src/client.js";
import { ChatError } from "../src/errors.js";
import { FOLDER } from "./processes.js";

const LANGUAGE = "typescript";

type Names = Readonly<Record<string, string>>;

interface Case {
  readonly id: string;
  readonly arguments: {
    readonly target?: string;
    readonly key?: string;
    readonly upstream_key?: string;
    readonly client_timeout_s?: number | string;
    readonly max_reconnect_backoff_s?: number;
    readonly timeout_s?: number | string;
    readonly request_id?: string | { readonly $repeat: readonly [string, number] };
    readonly metadata?: readonly (readonly [string, string])[];
    readonly text_utf16?: readonly number[];
  };
  readonly message?: string;
  readonly argument?: string;
  readonly placeholders?: Names;
  readonly languages?: readonly string[];
}

interface List {
  readonly names: Readonly<Record<string, Names>>;
  readonly prefixes: Names;
  readonly messages: Names;
  readonly target_forms: readonly {
    readonly form: string;
    readonly example: string;
    readonly languages: readonly string[];
  }[];
  readonly cases: readonly Case[];
}

const LIST = JSON.parse(readFileSync(`${FOLDER}../conformance/arguments.json`, "utf8")) as List;

function expected(each: Case): string {
  if (each.message === undefined) {
    return "";
  }
  const words: Names = {
    tls: LIST.names["tls"]?.[LANGUAGE] ?? "",
    argument: LIST.names[each.argument ?? ""]?.[LANGUAGE] ?? "",
    ...each.placeholders,
  };
  const text = LIST.messages[each.message] ?? "";
  return (LIST.prefixes[LANGUAGE] ?? "") + text.replace(/\{(\w+)\}/g, (_, name: string) => words[name] ?? "");
}

function milliseconds(seconds: number | string | undefined): number | undefined {
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** Returns the text of the error with which the client rejects the arguments; empty if it calls. */
async function rejection(given: Case["arguments"]): Promise<string> {
  const requestId =
    typeof given.request_id === "object"
      ? given.request_id.$repeat[0].repeat(given.request_id.$repeat[1])
      : given.request_id;
  try {
    // No server listens on port 1.
    const client = createClient(given.target ?? "localhost:1", {
      key: given.key,
      upstreamKey: given.upstream_key,
      timeoutMs: milliseconds(given.client_timeout_s),
      maxReconnectBackoffMs: milliseconds(given.max_reconnect_backoff_s),
      retries: false,
    });
    if (given.target === undefined) {
      await client.complete(
        { model: "m", messages: String.fromCharCode(...(given.text_utf16 ?? [72, 105])) },
        {
          timeoutMs: milliseconds(given.timeout_s),
          requestId,
          headers: Object.fromEntries(given.metadata ?? []),
        },
      );
    }
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) {
      return error.message;
    }
    assert.ok(error instanceof ChatError, String(error));
    assert.equal(error.reason, "NOT_CONNECTED");
  }
  return "";
}

for (const each of LIST.cases) {
  if (each.languages?.includes(LANGUAGE) ?? true) {
    test(`argument ${each.id} is ${each.message === undefined ? "accepted" : "rejected in the shared words"}`, async () => {
      assert.equal(await rejection(each.arguments), expected(each));
    });
  }
}

for (const { form, example, languages } of LIST.target_forms) {
  const supported = languages.includes(LANGUAGE);
  test(`a target of the form ${form} is ${supported ? "accepted" : "rejected"}`, async () => {
    assert.equal((await rejection({ target: example })) === "", supported);
  });
}
