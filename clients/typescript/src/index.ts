/**
 * The togetherchat client library.
 *
 *     const client = createClient("localhost:50051");
 *     const response = await client.complete({ model: "openai/gpt-oss-120b", messages: "Hello!" });
 *     console.log(textOf(response));
 *
 * Messages are the generated types of `togetherchat.v1`; `togetherchat/protos` exports all of them.
 */
export { CompletionStream } from "./completion_stream.js";
export type { CallInfo } from "./call_info.js";
export {
  type CallOptions,
  Client,
  type ClientOptions,
  createClient,
  type ModelFilters,
  type UsageQuery,
} from "./client.js";
export type { Violation } from "./details.js";
export { ChatError, STREAM_INCOMPLETE } from "./errors.js";
export { Accumulator } from "./accumulator.js";
export {
  type Choice,
  ContextLengthExceededBehavior,
  FinishReason,
  type Message,
  ReasoningField,
  Role,
  type Timings,
  type Tool,
  type ToolCall,
  type Usage,
} from "./gen/togetherchat/v1/chat_pb.js";
export type {
  CompleteRequest,
  CompleteResponse,
  GetModelResponse,
  ListModelsResponse,
  StreamCompleteResponse,
} from "./gen/togetherchat/v1/chat_service_pb.js";
export {
  type ListQuotasResponse,
  type QueryUsageResponse,
  type Quota,
  QuotaMetric,
  type ResetQuotaResponse,
  UsageDimension,
  type UsageRow,
} from "./gen/togetherchat/v1/usage_service_pb.js";
export { toJson } from "./json.js";
export type { Model } from "./gen/togetherchat/v1/models_pb.js";
export {
  assistant,
  type CompletionParams,
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
export { ErrorReason } from "./reasons.js";
export { retrying } from "./retry.js";
export type { StatusName } from "./status.js";
export type { Tls } from "./target.js";
