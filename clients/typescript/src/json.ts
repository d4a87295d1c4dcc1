/**
 * The JSON of the contract's messages.
 *
 * Owns the mapping: proto3 JSON, as every protobuf library writes it. 64-bit numbers are strings, names
 * are in camel case, enums are names, and fields with their default value are absent. Without it
 * `JSON.stringify` throws at the first `bigint`.
 */
import { createRegistry, type JsonObject, type Message, toJson as encode } from "@bufbuild/protobuf";
import { DurationSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";

import { file_togetherchat_v1_chat } from "./gen/togetherchat/v1/chat_pb.js";
import { file_togetherchat_v1_chat_service } from "./gen/togetherchat/v1/chat_service_pb.js";
import { file_togetherchat_v1_models } from "./gen/togetherchat/v1/models_pb.js";
import { file_togetherchat_v1_usage_service } from "./gen/togetherchat/v1/usage_service_pb.js";

const SCHEMAS = createRegistry(
  file_togetherchat_v1_chat,
  file_togetherchat_v1_chat_service,
  file_togetherchat_v1_models,
  file_togetherchat_v1_usage_service,
  DurationSchema,
  TimestampSchema,
);

/**
 * Returns a message of the contract as proto3 JSON, for `JSON.stringify`, logs and files.
 *
 * @throws TypeError when the message is not one of the contract.
 */
export function toJson(message: Message): JsonObject {
  const schema = SCHEMAS.getMessage(message.$typeName);
  if (schema === undefined) {
    throw new TypeError(`message: ${message.$typeName} is not a message of togetherchat.v1`);
  }
  return encode(schema, message) as JsonObject;
}

/**
 * Gives a message, and every message in it, the method `toJSON` that `JSON.stringify` calls.
 *
 * The method is not enumerable: copies, comparisons and `create` do not see it.
 */
export function withJson<T extends Message>(message: T): T {
  addTo(message);
  return message;
}

function addTo(value: unknown): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) {
    return;
  }
  if (isKnown(value)) {
    Object.defineProperty(value, "toJSON", { value: toJsonOfThis, writable: true, configurable: true });
  }
  for (const part of Object.values(value)) {
    addTo(part);
  }
}

function isKnown(value: object): value is Message {
  return "$typeName" in value && SCHEMAS.getMessage(String(value.$typeName)) !== undefined;
}

function toJsonOfThis(this: Message): unknown {
  return toJson(this);
}
