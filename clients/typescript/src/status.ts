/**
 * The names of gRPC's status codes, and the status of a failure.
 *
 * Owns the names and the translation of connect-node's own failures (no connection, a lost
 * connection). `details.ts` reads the service's details.
 */
import { Code, ConnectError } from "@connectrpc/connect";

/** The names of gRPC's status codes, as its specification spells them. */
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
const CONNECTING: ReadonlySet<unknown> = new Set(["connect", "getaddrinfo"]);
const CAUSES_MAX = 8;

class CancelledByCaller extends Error {}

class NotServing extends Error {}

/**
 * Returns the error with which a call is aborted when its caller cancels it, for `reason`.
 *
 * A ConnectError with code CANCELLED makes connect-node reset the stream with CANCEL and throw the
 * error unchanged. From any other value it makes an internal error.
 */
export function cancelledByCaller(message: string, reason?: unknown): ConnectError {
  const cause = new CancelledByCaller(message, { cause: reason });
  return new ConnectError(message, Code.Canceled, undefined, undefined, cause);
}

/** Returns the error of a call that was not sent because the service reports NOT_SERVING. */
export function notServing(): ConnectError {
  const message = "the service reports NOT_SERVING";
  return new ConnectError(message, Code.Unavailable, undefined, undefined, new NotServing(message));
}

/** Whether the call was not sent: no connection could be opened, or the service reports NOT_SERVING. */
export function isNotReady(error: ConnectError): boolean {
  return causesOf(error).some((cause) => cause instanceof NotServing || isOfConnecting(cause));
}

function isOfConnecting(cause: unknown): boolean {
  // Node tries all addresses of a name, and reports all their errors.
  if (cause instanceof AggregateError) {
    return cause.errors.every(isOfConnecting);
  }
  return cause instanceof Error && "syscall" in cause && CONNECTING.has(cause.syscall);
}

/**
 * Returns the status of a failure.
 *
 * A connection that cannot be opened or is lost is UNAVAILABLE, as in every other gRPC client.
 * connect-node reports it as aborted, internal or unknown, depending on Node's error, and as
 * cancelled where Node resets the streams of a dead connection. CANCELLED is therefore kept only
 * if the caller or the server cancelled.
 */
export function statusOf(error: ConnectError): StatusName {
  if (error.metadata.has("grpc-status")) {
    return NAME_BY_CODE[error.code];
  }
  const causes = causesOf(error);
  const lost =
    error.code === Code.Canceled
      ? !causes.some((cause) => cause instanceof CancelledByCaller)
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
