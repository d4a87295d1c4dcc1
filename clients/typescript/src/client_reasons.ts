/**
 * The reasons that the client sets itself when the service sent none.
 *
 * The table is that of `clients/conformance/client_reasons.json`, which is the same in all clients.
 */
import type { ConnectError } from "@connectrpc/connect";

import { statusOf } from "./status.js";

/** A reason, whether the same call may succeed later, and what to check. */
export interface NamedByClient {
  readonly reason: string;
  readonly retryable: boolean | undefined;
  readonly hint: string;
}

const NOT_CONNECTED: NamedByClient = {
  reason: "NOT_CONNECTED",
  retryable: true,
  hint:
    "the service was not reached, or the connection was lost; " +
    "check the target, TLS on both sides, and that the service is running",
};
const ACCESS_DENIED: NamedByClient = {
  reason: "PROXY_ACCESS_DENIED",
  retryable: false,
  hint: "a proxy rejected the call; check its access rules",
};
const UNAVAILABLE: NamedByClient = {
  reason: "PROXY_UNAVAILABLE",
  retryable: true,
  hint:
    "a proxy did not reach the service; check the address that the proxy calls, " +
    "and that it speaks HTTP/2 to the service",
};
const OTHER: NamedByClient = {
  reason: "PROXY_ERROR",
  retryable: undefined,
  hint: "a proxy answered with an HTTP error instead of a gRPC status; see its log",
};
const BY_HTTP_STATUS: ReadonlyMap<string, NamedByClient> = new Map([
  ["401", ACCESS_DENIED],
  ["403", ACCESS_DENIED],
  [
    "404",
    {
      reason: "PROXY_NO_ROUTE",
      retryable: false,
      hint: "an HTTP server without this method answered; check the target and the routes of the proxy",
    },
  ],
  [
    "413",
    {
      reason: "PROXY_REQUEST_TOO_LARGE",
      retryable: false,
      hint: "a proxy rejected the size of the request; raise its limit (in nginx, client_max_body_size)",
    },
  ],
  [
    "429",
    {
      reason: "PROXY_RATE_LIMITED",
      retryable: true,
      hint: "a proxy limits the calls; wait before the next one",
    },
  ],
  ["502", UNAVAILABLE],
  ["503", UNAVAILABLE],
  ["504", UNAVAILABLE],
]);

/** Returns the entry for a failure without a reason of the service, or undefined if there is none. */
export function namedByClient(error: ConnectError): NamedByClient | undefined {
  // connect-node reports the HTTP status of a response that is not gRPC's only in the text of the error.
  const httpStatus = error.metadata.has("grpc-status") ? null : /^HTTP (\d+)$/.exec(error.rawMessage);
  if (httpStatus !== null) {
    return BY_HTTP_STATUS.get(httpStatus[1] ?? "") ?? OTHER;
  }
  return statusOf(error) === "UNAVAILABLE" ? NOT_CONNECTED : undefined;
}
