/**
 * The contract's service config: timeouts and retry policies of the methods.
 *
 * `gen/service_config.ts` contains the file beside the protos. gRPC's own clients take that file
 * directly; connect-node does not support service configs, so `retry.ts` implements it.
 */
import { SERVICE_CONFIG } from "./gen/service_config.js";
import type { StatusName } from "./status.js";

/** When, how often and after which wait a method is retried. */
export interface RetryPolicy {
  readonly attemptsMax: number;
  readonly initialBackoffMs: number;
  readonly backoffMsMax: number;
  readonly backoffMultiplier: number;
  readonly retryable: ReadonlySet<StatusName>;
}

/** The config of one method. */
export interface MethodPolicy {
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
}

/** How many failures stop all retries, and how fast successes allow them again. */
export interface ThrottlePolicy {
  readonly tokensMax: number;
  readonly tokenRatio: number;
}

interface ServiceConfigJson {
  readonly methodConfig: readonly {
    readonly name: readonly { readonly service: string; readonly method: string }[];
    readonly timeout: string;
    readonly retryPolicy: {
      readonly maxAttempts: number;
      readonly initialBackoff: string;
      readonly maxBackoff: string;
      readonly backoffMultiplier: number;
      readonly retryableStatusCodes: readonly StatusName[];
    };
  }[];
  readonly retryThrottling: { readonly maxTokens: number; readonly tokenRatio: number };
}

const CONFIG: ServiceConfigJson = SERVICE_CONFIG;

/** Policies by `package.Service/Method`. */
export const METHOD_POLICIES: ReadonlyMap<string, MethodPolicy> = new Map(
  CONFIG.methodConfig.flatMap(({ name, timeout, retryPolicy }) =>
    name.map(({ service, method }) => [
      `${service}/${method}`,
      {
        timeoutMs: milliseconds(timeout),
        retry: {
          attemptsMax: retryPolicy.maxAttempts,
          initialBackoffMs: milliseconds(retryPolicy.initialBackoff),
          backoffMsMax: milliseconds(retryPolicy.maxBackoff),
          backoffMultiplier: retryPolicy.backoffMultiplier,
          retryable: new Set(retryPolicy.retryableStatusCodes),
        },
      },
    ]),
  ),
);

export const THROTTLE_POLICY: ThrottlePolicy = {
  tokensMax: CONFIG.retryThrottling.maxTokens,
  tokenRatio: CONFIG.retryThrottling.tokenRatio,
};

/** Returns the policy of a method of the contract. */
export function policyOf(service: string, method: string): MethodPolicy {
  const policy = METHOD_POLICIES.get(`${service}/${method}`);
  if (policy === undefined) {
    throw new Error(`service_config.json has no entry for ${service}/${method}`);
  }
  return policy;
}

function milliseconds(duration: string): number {
  return Number(duration.slice(0, -1)) * 1000;
}
