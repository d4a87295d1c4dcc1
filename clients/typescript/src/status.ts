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

/**
 * The status of a failure.
 *
 * A connection that cannot be had or is lost is UNAVAILABLE, as in every other gRPC client;
 * connect-node calls it aborted, internal or unknown, by the error of Node beneath it.
 */
export function statusOf(error: ConnectError): StatusName {
  const local = !error.metadata.has("grpc-status") && OF_THE_CONNECTION.has(error.code);
  return local && comesFromNode(error) ? "UNAVAILABLE" : NAME_BY_CODE[error.code];
}

function comesFromNode(error: ConnectError): boolean {
  let cause: unknown = error.cause;
  for (let depth = 0; depth < CAUSES_MAX && cause instanceof Error; depth += 1) {
    if (!(cause instanceof ConnectError) && "code" in cause && typeof cause.code === "string") {
      return true;
    }
    cause = cause.cause;
  }
  return false;
}
