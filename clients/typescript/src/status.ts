/**
 * The names of gRPC's status codes, and which of them a failure has.
 *
 * Owns the words and the reading of connect-node's own failures (no answer, a lost
 * connection). Knows nothing of the service's details.
 */
import { Code, ConnectError } from "@connectrpc/connect";

/** gRPC's status codes by the names that its specification gives them. */
export type StatusName =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

export const NAME_BY_CODE: Readonly<Record<Code, StatusName>> = {
  [Code.Canceled]: "CANCELLED",
  [Code.Unknown]: "UNKNOWN",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.ResourceExhausted]: "RESOURCE_EXHAUSTED",
  [Code.FailedPrecondition]: "FAILED_PRECONDITION",
  [Code.Aborted]: "ABORTED",
  [Code.OutOfRange]: "OUT_OF_RANGE",
  [Code.Unimplemented]: "UNIMPLEMENTED",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.DataLoss]: "DATA_LOSS",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
};

const OF_THE_CONNECTION: ReadonlySet<Code> = new Set([Code.Aborted, Code.Internal, Code.Unknown]);
const CAUSES_MAX = 8;

class CallerLeft extends Error {}

/**
 * What calls are aborted with when their caller leaves, for `reason`.
 *
 * A ConnectError that says CANCELLED, so that connect-node resets the stream with CANCEL and
 * hands on the error as it is; of any other reason it would make an internal error.
 */
export function callerLeft(message: string, reason?: unknown): ConnectError {
  const cause = new CallerLeft(message, { cause: reason });
  return new ConnectError(message, Code.Canceled, undefined, undefined, cause);
}

/**
 * The status of a failure.
 *
 * A connection that cannot be had or is lost is UNAVAILABLE, as in every other gRPC client.
 * connect-node calls it aborted, internal or unknown by the error of Node beneath it, and
 * cancelled where Node resets the streams of a dead connection: a call is cancelled only where
 * the caller did it, or the server says so.
 */
export function statusOf(error: ConnectError): StatusName {
  if (error.metadata.has("grpc-status")) {
    return NAME_BY_CODE[error.code];
  }
  const causes = causesOf(error);
  const lost =
    error.code === Code.Canceled
      ? !causes.some((cause) => cause instanceof CallerLeft)
      : OF_THE_CONNECTION.has(error.code) && causes.some(isOfNode);
  return lost ? "UNAVAILABLE" : NAME_BY_CODE[error.code];
}

function isOfNode(cause: Error): boolean {
  return !(cause instanceof ConnectError) && "code" in cause && typeof cause.code === "string";
}

function causesOf(error: Error): Error[] {
  const causes: Error[] = [];
  let cause = error.cause;
  while (cause instanceof Error && causes.length < CAUSES_MAX) {
    causes.push(cause);
    cause = cause.cause;
  }
  return causes;
}
