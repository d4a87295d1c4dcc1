/**
 * What a call's trailers say beside the answer: ids, who answered, rate limits.
 *
 * Owns the names of the trailers. Knows nothing of failures; `details.ts` does.
 */

export const REQUEST_ID = "x-request-id";
const UPSTREAM_REQUEST_ID = "x-upstream-request-id";
const UPSTREAM = "x-upstream";
const RATE_LIMIT_PREFIXES = ["x-ratelimit", "x-tokenlimit"];

/** The facts of one finished call. */
export interface CallInfo {
  /** The id of the call: the one that was sent, unless the service replaced it. */
  readonly requestId: string;
  /** The provider's own id, for its support. Empty where it gave none. */
  readonly upstreamRequestId: string;
  /** Who answered: `together` or `sandbox`. Empty where nobody was asked. */
  readonly upstream: string;
  /** The provider's rate-limit headers, lower case. */
  readonly rateLimits: Readonly<Record<string, string>>;
  /** Every trailer, as it came. */
  readonly trailers: Headers;
}

/** Read `trailers`; `requestId` is the one that was sent. */
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
