/**
 * What a call rejects with.
 *
 * Owns `ChatError` and how one is made of connect-node's. Decides by status and reason alone,
 * never by text; details are read in `details.ts`.
 */
import { Code, ConnectError } from "@connectrpc/connect";

import { type CallInfo, callInfoOf } from "./call_info.js";
import { type Details, readDetails, type Violation } from "./details.js";
import type { CompleteResponse } from "./gen/togetherchat/v1/chat_service_pb.js";
import { statusOf, type StatusName } from "./status.js";

/** The one reason that is this library's own: a stream that ended well without its last event. */
export const STREAM_INCOMPLETE = "STREAM_INCOMPLETE";

interface Failure {
  readonly code: StatusName;
  readonly message: string;
  readonly details: Details;
  readonly info: CallInfo;
  readonly partial: CompleteResponse | undefined;
  readonly cause: unknown;
}

/** A call failed. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  /** gRPC's status, such as `RESOURCE_EXHAUSTED`. */
  readonly code: StatusName;
  /** The service's word for it, such as `RATE_LIMITED`. Empty when it did not get to say one. */
  readonly reason: string;
  readonly requestId: string;
  /** Whether the same call may succeed later; undefined when the service did not get to say so. */
  readonly retryable: boolean | undefined;
  /** Milliseconds to wait before a retry, where the service or the provider asked for a wait. */
  readonly retryAfterMs: number | undefined;
  /** Everything that is wrong with the request, or the limits that were met. */
  readonly violations: readonly Violation[];
  /** Facts such as `upstreamHttpStatus`, `upstreamErrorCode`, `model`, `phase`, `partialOutput`. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly helpUrls: readonly string[];
  /** The call's ids, rate limits and trailers. */
  readonly info: CallInfo;
  /** What a stream had gathered before it failed; undefined when it had nothing. */
  readonly partial: CompleteResponse | undefined;

  constructor(failure: Failure) {
    super(failure.message, { cause: failure.cause });
    this.code = failure.code;
    this.reason = failure.details.reason;
    this.requestId = failure.details.requestId || failure.info.requestId;
    this.retryable = failure.details.retryable;
    this.retryAfterMs = failure.details.retryAfterMs;
    this.violations = failure.details.violations;
    this.metadata = failure.details.metadata;
    this.helpUrls = failure.details.helpUrls;
    this.info = failure.info;
    this.partial = failure.partial;
  }

  override toString(): string {
    return `${this.reason || this.code}: ${this.message} (request ${this.requestId})`;
  }
}

/** The error of a call that `thrown` ended; `requestId` is the one that was sent. */
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

/** The error of a stream whose status was OK although the end of the answer did not come. */
export function incompleteAnswer(
  trailers: Headers,
  requestId: string,
  partial: CompleteResponse | undefined,
): ChatError {
  const error = new ConnectError("the stream ended without the end of the answer", Code.Internal, trailers);
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
