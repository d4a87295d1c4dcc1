/**
 * What the trailers of a call report: ids, provider, rate limits.
 *
 * Owns the names of the trailers. `details.ts` reads failures.
 */

export const REQUEST_ID = "x-request-id";
const UPSTREAM_REQUEST_ID = "x-upstream-request-id";
const UPSTREAM = "x-upstream";
const RATE_LIMIT_PREFIXES = ["x-ratelimit", "x-tokenlimit"];

/** The facts of one finished call. */
export interface CallInfo {
  /** The id that was sent, unless the service replaced it. */
  readonly requestId: string;
  /** The provider's own id, for its support. Empty if the provider sent none. */
  readonly upstreamRequestId: string;
  /** The provider: `together` or `sandbox`. Empty if no request was sent to a provider. */
  readonly upstream: string;
  /** The provider's rate-limit headers, lower case. */
  readonly rateLimits: Readonly<Record<string, string>>;
  /** All trailers, unchanged. */
  readonly trailers: Headers;
}

/** Reads `trailers`; `requestId` is the id that was sent. */
export function callInfoOf(trailers: Headers, requestId: string): CallInfo {
  const limits = [...trailers].filter(([name]) =>
    RATE_LIMIT_PREFIXES.some((prefix) => name.startsWith(prefix)),
  );
  return {
    requestId: trailers.get(REQUEST_ID) ?? requestId,
    upstreamRequestId: trailers.get(UPSTREAM_REQUEST_ID) ?? "",
    upstream: trailers.get(UPSTREAM) ?? "",
    rateLimits: Object.fromEntries(limits),
    trailers,
  };
}
