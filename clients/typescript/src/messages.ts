/**
 * Builders of the contract's messages, and a function that reads the text of a response.
 *
 * A builder returns the generated type. Set on it any field that the builder does not support.
 */
import { create, isMessage, type MessageInitShape } from "@bufbuild/protobuf";

import {
  type Audio,
  AudioSchema,
  type ContentPart,
  ContentPartSchema,
  type Image,
  ImageSchema,
  type Message,
  MessageSchema,
  type ResponseFormat,
  ResponseFormatSchema,
  Role,
  type Tool,
  type ToolCall,
  ToolSchema,
} from "./gen/togetherchat/v1/chat_pb.js";
import {
  type CompleteRequest,
  CompleteRequestSchema,
  type CompleteResponse,
} from "./gen/togetherchat/v1/chat_service_pb.js";

/** A content part of a user message. */
export type Content = string | Image | Audio | ContentPart;

/** A conversation, oldest message first. A plain string is a user message. */
export type Conversation = string | Message | readonly (string | Message)[];

/** The fields of CompleteRequest, where a plain string is a user message. */
export type CompletionParams = Omit<Fields, "$typeName" | "$unknown" | "messages"> & {
  readonly model: string;
  readonly messages: Conversation;
};
type Fields = Exclude<MessageInitShape<typeof CompleteRequestSchema>, CompleteRequest>;

/** Instructions for the whole conversation. */
export function system(text: string): Message {
  return message(Role.SYSTEM, [text]);
}

/** Instructions from the developer. */
export function developer(text: string): Message {
  return message(Role.DEVELOPER, [text]);
}

/** A user message: text, images and audio in order. */
export function user(...content: readonly Content[]): Message {
  return message(Role.USER, content);
}

/** A message of the model. The message of a response can be appended unchanged. */
export function assistant(text: string): Message {
  return message(Role.ASSISTANT, [text]);
}

/** The result of a tool call, given by the `ToolCall` or its id. */
export function toolResult(call: ToolCall | string, text: string): Message {
  const result = message(Role.TOOL, [text]);
  result.toolCallId = typeof call === "string" ? call : call.id;
  return result;
}

/** An image: an http, https or data URL, or bytes with their media type. */
export function image(source: string): Image;
export function image(source: Uint8Array, mediaType: string): Image;
export function image(source: string | Uint8Array, mediaType = ""): Image {
  return create(ImageSchema, {
    source: typeof source === "string" ? { case: "url", value: source } : { case: "data", value: source },
    mediaType,
  });
}

/** The options of a function tool. */
export interface FunctionToolOptions {
  readonly description?: string;
  /** A JSON Schema. A string is sent byte for byte. */
  readonly parameters?: string | object;
  readonly strict?: boolean;
}

/** A function that the model may call. */
export function functionTool(
  name: string,
  { description = "", parameters, strict }: FunctionToolOptions = {},
): Tool {
  const parametersJson = json(parameters);
  const value = { name, description, parametersJson, ...(strict !== undefined && { strict }) };
  return create(ToolSchema, { tool: { case: "function", value } });
}

/** Requires a completion that is JSON and follows `schema`. A string is sent byte for byte. */
export function jsonSchema(
  name: string,
  schema: string | object,
  { description = "", strict }: { readonly description?: string; readonly strict?: boolean } = {},
): ResponseFormat {
  const value = { name, description, schemaJson: json(schema), ...(strict !== undefined && { strict }) };
  return create(ResponseFormatSchema, { format: { case: "jsonSchema", value } });
}

/** The text of a message, or of one choice of a response; "" if there is none. */
export function textOf(response: CompleteResponse | Message | undefined, choiceIndex = 0): string {
  if (response === undefined) {
    return "";
  }
  if (isMessage(response, MessageSchema)) {
    return response.content.map(({ part }) => (part.case === "text" ? part.value : "")).join("");
  }
  return textOf(response.choices.find(({ index }) => index === choiceIndex)?.message);
}

/** Builds the request; a `CompleteRequest` is returned unchanged. */
export function requestOf(params: CompletionParams | CompleteRequest): CompleteRequest {
  if (isMessage(params, CompleteRequestSchema)) {
    return params;
  }
  return create(CompleteRequestSchema, { ...params, messages: messagesOf(params.messages) });
}

function messagesOf(conversation: Conversation): Message[] {
  const single = typeof conversation === "string" || isMessage(conversation, MessageSchema);
  const list = single ? [conversation] : conversation;
  return list.map((each) => (typeof each === "string" ? user(each) : each));
}

function message(role: Role, content: readonly Content[]): Message {
  return create(MessageSchema, { role, content: content.map(part) });
}

function part(piece: Content): ContentPart {
  if (typeof piece === "string") {
    return create(ContentPartSchema, { part: { case: "text", value: piece } });
  }
  if (isMessage(piece, ImageSchema)) {
    return create(ContentPartSchema, { part: { case: "image", value: piece } });
  }
  if (isMessage(piece, AudioSchema)) {
    return create(ContentPartSchema, { part: { case: "audio", value: piece } });
  }
  return piece;
}

function json(value: string | object | undefined): string {
  return typeof value === "object" ? JSON.stringify(value) : (value ?? "");
}
