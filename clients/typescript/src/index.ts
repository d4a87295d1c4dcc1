/**
 * The togetherchat client library.
 *
 *     const client = createClient("localhost:50051");
 *     const answer = await client.complete({ model: "openai/gpt-oss-120b", messages: "Hello!" });
 *     console.log(textOf(answer));
 *
 * Messages are the generated ones of `togetherchat.v1`; all of them are in `togetherchat/protos`.
 */
export { AnswerStream } from "./answer_stream.js";
export type { CallInfo } from "./call_info.js";
export { type CallOptions, Client, type ClientOptions, createClient, type ModelFilters } from "./client.js";
export type { Violation } from "./details.js";
export { ChatError, STREAM_INCOMPLETE } from "./errors.js";
export { Accumulator } from "./fold.js";
export {
  type Choice,
  FinishReason,
  type Message,
  Role,
  type Tool,
  type ToolCall,
  type Usage,
} from "./gen/togetherchat/v1/chat_pb.js";
export type {
  CompleteRequest,
  CompleteResponse,
  StreamCompleteResponse,
} from "./gen/togetherchat/v1/chat_service_pb.js";
export type { Model } from "./gen/togetherchat/v1/models_pb.js";
export {
  assistant,
  type Completion,
  type Conversation,
  developer,
  functionTool,
  image,
  jsonSchema,
  system,
  textOf,
  toolResult,
  user,
} from "./messages.js";
export { retrying } from "./retry.js";
export type { StatusName } from "./status.js";
export type { Tls } from "./target.js";
