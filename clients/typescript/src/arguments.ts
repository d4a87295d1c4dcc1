/**
 * Checks of what a caller passes to the client: keys, timeouts, request ids, metadata and text.
 *
 * The words are those of `clients/conformance/arguments.json`, which are the same in all clients.
 * `target.ts` checks targets. Nothing here repeats a key.
 */
import { isMessage, type Message } from "@bufbuild/protobuf";

const DAY_MS = 24 * 60 * 60 * 1000;
const PRINTABLE = /^[\x20-\x7e]*$/;
const REQUEST_ID = /^[\x20-\x7e]{1,128}$/;
const METADATA_NAME = /^[a-z0-9_.-]+$/;
// With the flag `u`, only half of a pair is a surrogate.
const HALF_OF_A_PAIR = /\p{Surrogate}/u;

/** Returns `key` without surrounding white space. */
export function checkedKey(key: string, argument: string): string {
  const stripped = key.trim();
  if (stripped === "") {
    throw new TypeError(`${argument}: must not be empty; leave it out to send no key`);
  }
  if (!PRINTABLE.test(stripped) || stripped.includes(" ")) {
    throw new TypeError(`${argument}: must be printable ASCII without spaces (the key is not shown)`);
  }
  return stripped;
}

/** Returns a duration in milliseconds, or undefined if it is not set. */
export function checkedMs<T extends number | undefined>(ms: T, argument: string): T {
  if (ms !== undefined && !(ms > 0 && ms <= DAY_MS)) {
    throw new RangeError(`${argument}: must be above 0 and at most one day; leave it out for the default`);
  }
  return ms;
}

/** Returns the request id. */
export function checkedRequestId(id: string): string {
  if (!REQUEST_ID.test(id)) {
    throw new TypeError(
      "requestId: must be 1 to 128 printable ASCII characters; leave it out for a random id",
    );
  }
  return id;
}

/** Returns the metadata of a call as headers. */
export function checkedHeaders(metadata: Headers | Readonly<Record<string, string>> | undefined): Headers {
  const pairs = metadata instanceof Headers ? [...metadata] : Object.entries(metadata ?? {});
  for (const [name, value] of pairs) {
    checkMetadata(name.toLowerCase(), value);
  }
  return new Headers(pairs);
}

function checkMetadata(name: string, value: string): void {
  const allowed = 'letters, digits, "-", "_" and "."';
  if (name === "") {
    throw new TypeError("metadata: a name must not be empty");
  }
  if (!/^[\0-\x7f]*$/.test(name)) {
    throw new TypeError(`metadata: a name must be ASCII; use ${allowed}`);
  }
  if (!METADATA_NAME.test(name)) {
    throw new TypeError(`metadata: the name "${name}" must have only ${allowed}`);
  }
  if (name.startsWith("grpc-")) {
    throw new TypeError(
      `metadata: the name "${name}" is reserved; names that start with "grpc-" belong to gRPC`,
    );
  }
  if (!PRINTABLE.test(value)) {
    throw new TypeError(
      `metadata: the value of "${name}" must be printable ASCII; ` +
        "encode other text, for example with percent signs",
    );
  }
}

/** Returns the request. Half of a surrogate pair in any text is an error: UTF-8 would replace it silently. */
export function checkedText<T extends Message>(request: T): T {
  checkTextOf(request, "");
  return request;
}

function checkTextOf(value: unknown, place: string): void {
  if (typeof value === "string") {
    if (HALF_OF_A_PAIR.test(value)) {
      throw new TypeError(
        `${place}: is not valid Unicode: it has half of a surrogate pair; cut text between whole characters`,
      );
    }
  } else if (Array.isArray(value)) {
    value.forEach((each, index) => {
      checkTextOf(each, `${place}[${String(index)}]`);
    });
  } else if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value)) {
    checkFieldsOf(value, place);
  }
}

function checkFieldsOf(value: object, place: string): void {
  for (const [name, field] of Object.entries(value) as [string, unknown][]) {
    if (isOneof(field)) {
      checkTextOf(field.value, inside(place, field.case));
    } else if (isMessage(value)) {
      checkTextOf(field, inside(place, name));
    } else {
      checkTextOf(field, `${place}[${JSON.stringify(name)}]`);
    }
  }
}

function isOneof(field: unknown): field is { case: string; value: unknown } {
  return (
    typeof field === "object" && field !== null && "case" in field && "value" in field && !isMessage(field)
  );
}

/** The path of a field, with the name that it has in the contract. */
function inside(place: string, name: string): string {
  const field = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return place === "" ? field : `${place}.${field}`;
}
