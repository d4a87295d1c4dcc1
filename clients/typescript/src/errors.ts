/**
 * The error that a failed call rejects with.
 *
 * Owns `ChatError` and the translation of connect-node's errors. It uses status and details, never
 * the text of a message; `details.ts` reads the details.
 */
import { Code, ConnectError } from "@connectrpc/connect";

import { type CallInfo, callInfoOf } from "./call_info.js";
import { type Details, readDetails, type Violation } from "./details.js";
import type { CompleteResponse } from "./gen/togetherchat/v1/chat_service_pb.js";
import type { ErrorReason } from "./reasons.js";
import { statusOf, type StatusName } from "./status.js";

/** A reason that this library sets itself, beside those of `client_reasons.ts`: a stream ended with OK but without its last event. */
export const STREAM_INCOMPLETE = "STREAM_INCOMPLETE";

interface Failure {
  readonly code: StatusName;
  readonly message: string;
  readonly details: Details;
  readonly info: CallInfo;
  readonly partial: CompleteResponse | undefined;
  readonly cause: unknown;
}

/** The error of a failed call. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  /** gRPC's status, such as `RESOURCE_EXHAUSTED`. */
  readonly code: StatusName;
  /**
   * The service's reason, such as `ErrorReason.RATE_LIMITED`, or one of a later version. If the service sent
   * none, one of the client's, such as `NOT_CONNECTED`, or empty.
   */
  readonly reason: ErrorReason | (string & {});
  /** One sentence about what to check, if the reason is the client's. Else empty. */
  readonly hint: string;
  readonly requestId: string;
  /** Whether the same call may succeed later; undefined if that is not known. */
  readonly retryable: boolean | undefined;
  /** Milliseconds to wait before a retry, if the service or the provider requested a wait. */
  readonly retryAfterMs: number | undefined;
  /** All that is wrong with the request, or the limits that were reached. */
  readonly violations: readonly Violation[];
  /** Facts such as `upstreamHttpStatus`, `upstreamErrorCode`, `model`, `phase`, `partialOutput`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The resource that the failure is about: the model if `reason` is `MODEL_NOT_FOUND`. Else empty. */
  readonly resourceName: string;
  readonly helpUrls: readonly string[];
  /** The call's ids, rate limits and trailers. */
  readonly info: CallInfo;
  /** What a stream received before it failed; undefined if nothing was received. */
  readonly partial: CompleteResponse | undefined;

  constructor(failure: Failure) {
    super(failure.message, { cause: failure.cause });
    this.code = failure.code;
    this.reason = failure.details.reason;
    this.hint = failure.details.hint;
    this.requestId = failure.details.requestId || failure.info.requestId;
    this.retryable = failure.details.retryable;
    this.retryAfterMs = failure.details.retryAfterMs;
    this.violations = failure.details.violations;
    this.metadata = failure.details.metadata;
    this.resourceName = failure.details.resourceName;
    this.helpUrls = failure.details.helpUrls;
    this.info = failure.info;
    this.partial = failure.partial;
  }

  override toString(): string {
    return `${this.reason || this.code}: ${this.message} (request ${this.requestId})`;
  }
}

/** Translates what a call threw; `requestId` is the id that was sent. */
export function chatErrorOf(thrown: unknown, requestId: string, partial?: CompleteResponse): ChatError {
  if (thrown instanceof ChatError) {
    return thrown;
  }
  const error = ConnectError.from(thrown);
  return new ChatError({
    code: statusOf(error),
    message: error.rawMessage,
    details: readDetails(error),
    info: callInfoOf(error.metadata, requestId),
    partial,
    cause: error,
  });
}

/** Returns the error of a stream that ended with OK but without its last event. */
export function incompleteStream(
  trailers: Headers,
  requestId: string,
  partial: CompleteResponse | undefined,
): ChatError {
  const error = new ConnectError("the stream ended before its last event", Code.Internal, trailers);
  const details = { ...readDetails(error), reason: STREAM_INCOMPLETE };
  const info = callInfoOf(trailers, requestId);
  return new ChatError({
    code: "INTERNAL",
    message: error.rawMessage,
    details,
    info,
    partial,
    cause: error,
  });
}
