/**
 * Small builders of the contract's own messages, and the shortest way to read an answer.
 *
 * Nothing here wraps or copies a message: what a builder returns is the generated type, and
 * whatever a builder does not know can be set on it.
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

/** A piece of a user's turn. */
export type Content = string | Image | Audio | ContentPart;

/** A conversation, oldest first. A plain string is a turn of the user. */
export type Conversation = string | Message | readonly (string | Message)[];

/** A request: the fields of CompleteRequest, with strings for turns of the user. */
export type Completion = Omit<Fields, "$typeName" | "$unknown" | "messages"> & {
  readonly model: string;
  readonly messages: Conversation;
};
type Fields = Exclude<MessageInitShape<typeof CompleteRequestSchema>, CompleteRequest>;

/** Instructions for the whole conversation. */
export function system(text: string): Message {
  return message(Role.SYSTEM, [text]);
}

/** Instructions of the developer. */
export function developer(text: string): Message {
  return message(Role.DEVELOPER, [text]);
}

/** A question: text, pictures and recordings in order. */
export function user(...content: readonly Content[]): Message {
  return message(Role.USER, content);
}

/** An answer of the model. One that came from a call can be appended as it is. */
export function assistant(text: string): Message {
  return message(Role.ASSISTANT, [text]);
}

/** What a tool gave back, for the `ToolCall` (or its id) that asked for it. */
export function toolResult(call: ToolCall | string, text: string): Message {
  const result = message(Role.TOOL, [text]);
  result.toolCallId = typeof call === "string" ? call : call.id;
  return result;
}

/** A picture: an http, https or data URL, or its bytes with their media type. */
export function image(source: string): Image;
export function image(source: Uint8Array, mediaType: string): Image;
export function image(source: string | Uint8Array, mediaType = ""): Image {
  return create(ImageSchema, {
    source: typeof source === "string" ? { case: "url", value: source } : { case: "data", value: source },
    mediaType,
  });
}

/** What a tool is, besides its name. */
export interface FunctionToolOptions {
  readonly description?: string;
  /** A JSON Schema; text goes out byte for byte. */
  readonly parameters?: string | object;
  readonly strict?: boolean;
}

/** A function that the model may ask for. */
export function functionTool(
  name: string,
  { description = "", parameters, strict }: FunctionToolOptions = {},
): Tool {
  const parametersJson = json(parameters);
  const value = { name, description, parametersJson, ...(strict !== undefined && { strict }) };
  return create(ToolSchema, { tool: { case: "function", value } });
}

/** The answer must be JSON that follows `schema`; text goes out byte for byte. */
export function jsonSchema(
  name: string,
  schema: string | object,
  { description = "", strict }: { readonly description?: string; readonly strict?: boolean } = {},
): ResponseFormat {
  const value = { name, description, schemaJson: json(schema), ...(strict !== undefined && { strict }) };
  return create(ResponseFormatSchema, { format: { case: "jsonSchema", value } });
}

/** The text of a message, or of one choice of an answer; empty where there is none. */
export function textOf(answer: CompleteResponse | Message | undefined, choiceIndex = 0): string {
  if (answer === undefined) {
    return "";
  }
  if (isMessage(answer, MessageSchema)) {
    return answer.content.map(({ part }) => (part.case === "text" ? part.value : "")).join("");
  }
  return textOf(answer.choices.find(({ index }) => index === choiceIndex)?.message);
}

/** The request that `completion` says; one that is ready is taken as it is. */
export function requestOf(completion: Completion | CompleteRequest): CompleteRequest {
  if (isMessage(completion, CompleteRequestSchema)) {
    return completion;
  }
  return create(CompleteRequestSchema, { ...completion, messages: turns(completion.messages) });
}

function turns(messages: Conversation): Message[] {
  const list = typeof messages === "string" || isMessage(messages, MessageSchema) ? [messages] : messages;
  return list.map((turn) => (typeof turn === "string" ? user(turn) : turn));
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
