/**
 * Retries calls by the service config as gRPC's own clients do; connect-node does not support it.
 *
 * Implements gRPC's proposal A6. A call is retried if nothing of its response has arrived, the policy
 * lists its status, attempts are left, the server does not forbid it, and the throttle has enough
 * tokens. The wait is the server's (`grpc-retry-pushback-ms`), or full jitter below a growing cap.
 * One rule differs: if the wait does not fit the deadline, the call fails at once. Waiting would
 * only replace its reason by DEADLINE_EXCEEDED.
 *
 * Waits for a server, where the call requests it (gRPC's wait-for-ready). Until a connection is open,
 * failures are not attempts: the call tries again until its deadline.
 */
import { setTimeout as sleep } from "node:timers/promises";

import {
  ConnectError,
  createContextKey,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";

import { METHOD_POLICIES, type RetryPolicy, THROTTLE_POLICY, type ThrottlePolicy } from "./service_config.js";
import { isNotReady, statusOf, type StatusName } from "./status.js";

const PUSHBACK = "grpc-retry-pushback-ms";
const PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts";
const TIMEOUT = "grpc-timeout";
const RECONNECT_MS = 250;
const RECONNECT_MULTIPLIER = 1.6;
const RECONNECT_JITTER = 0.2;

/** Whether a call waits for a server until its deadline. */
export const WAIT_FOR_READY = createContextKey(false, { description: "wait for a server" });

type Request = UnaryRequest | StreamRequest;
type Response = UnaryResponse | StreamResponse;
type Next = (request: Request) => Promise<Response>;

/** The retry tokens of one channel: calls are retried while more than half of the tokens are left. */
export class Throttle {
  readonly #policy: ThrottlePolicy;
  #tokens: number;

  constructor(policy: ThrottlePolicy = THROTTLE_POLICY) {
    this.#policy = policy;
    this.#tokens = policy.tokensMax;
  }

  get allowsRetries(): boolean {
    return this.#tokens > this.#policy.tokensMax / 2;
  }

  failed(): void {
    this.#tokens = Math.max(0, this.#tokens - 1);
  }

  succeeded(): void {
    this.#tokens = Math.min(this.#policy.tokensMax, this.#tokens + this.#policy.tokenRatio);
  }
}

/** An attempt that failed. */
export interface FailedAttempt {
  readonly status: StatusName;
  /** The value of `grpc-retry-pushback-ms`. */
  readonly pushback: string | null;
  /** This attempt's number, from 1. */
  readonly attempt: number;
  /** The number of back-off waits since the last wait that the server chose. */
  readonly backoffs: number;
}

/**
 * Milliseconds to wait before the next attempt, or undefined for none.
 *
 * @param fraction random, 0 to 1.
 */
export function waitMs(policy: RetryPolicy, failed: FailedAttempt, fraction: number): number | undefined {
  if (!policy.retryable.has(failed.status) || failed.attempt >= policy.attemptsMax) {
    return undefined;
  }
  if (failed.pushback !== null) {
    return /^\d{1,9}$/.test(failed.pushback) ? Number(failed.pushback) : undefined;
  }
  const cap = policy.initialBackoffMs * policy.backoffMultiplier ** failed.backoffs;
  return fraction * Math.min(cap, policy.backoffMsMax);
}

/** Clock, randomness and sleep, as arguments for tests. */
export interface RetryClock {
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

const CLOCK: RetryClock = {
  nowMs: () => performance.now(),
  random: Math.random,
  sleep: (ms, signal) => sleep(ms, undefined, { signal }),
};

/** What a client sets for all its calls. */
export interface RetrySettings {
  /** False: a call that was sent is never sent again. */
  readonly retries: boolean;
  /** The longest wait between two attempts to connect, for calls that wait for a server. */
  readonly maxReconnectBackoffMs: number;
}

const SETTINGS: RetrySettings = { retries: true, maxReconnectBackoffMs: 5000 };

/** Creates an interceptor that retries by the service config. Use one per channel: it holds the channel's throttle. */
export function retrying(throttle = new Throttle(), clock = CLOCK, settings = SETTINGS): Interceptor {
  return (next) => async (request) => {
    const policy = METHOD_POLICIES.get(`${request.service.typeName}/${request.method.name}`);
    if (policy === undefined || request.method.methodKind === "client_streaming") {
      return next(request);
    }
    return new Retries(policy.retry, throttle, clock, settings, next).run(await repeatable(request));
  };
}

class Retries {
  readonly #startedAtMs: number;
  #attempt = 1;
  #backoffs = 0;
  #reconnects = 0;

  constructor(
    readonly policy: RetryPolicy,
    readonly throttle: Throttle,
    readonly clock: RetryClock,
    readonly settings: RetrySettings,
    readonly next: Next,
  ) {
    this.#startedAtMs = clock.nowMs();
  }

  async run(again: () => Request): Promise<Response> {
    const msLeftAtStart = timeoutMs(again().header);
    for (;;) {
      const request = again();
      const msLeft = msLeftAtStart - (this.clock.nowMs() - this.#startedAtMs);
      if (this.#attempt > 1 || this.#reconnects > 0) {
        mark(request.header, this.#attempt, msLeft);
      }
      try {
        return await begin(this.next, request, this.throttle);
      } catch (thrown) {
        if (waitsForReady(request, thrown)) {
          await this.clock.sleep(this.#reconnectMs(), request.signal);
          continue;
        }
        const ms = this.settings.retries ? this.#wait(thrown, request.signal) : undefined;
        if (ms === undefined || ms >= msLeftAtStart - (this.clock.nowMs() - this.#startedAtMs)) {
          throw thrown;
        }
        await this.clock.sleep(ms, request.signal);
        this.#attempt += 1;
      }
    }
  }

  /** Returns the wait before the next attempt to connect. */
  #reconnectMs(): number {
    const ms = RECONNECT_MS * RECONNECT_MULTIPLIER ** this.#reconnects;
    this.#reconnects += 1;
    const jitter = 1 - RECONNECT_JITTER * this.clock.random();
    return Math.min(ms, this.settings.maxReconnectBackoffMs) * jitter;
  }

  /** Counts the failure and returns the wait before the next attempt, or undefined for none. */
  #wait(thrown: unknown, signal: AbortSignal): number | undefined {
    if (signal.aborted) {
      return undefined;
    }
    const error = ConnectError.from(thrown);
    const status = statusOf(error);
    const pushback = error.metadata.get(PUSHBACK);
    const ms = waitMs(
      this.policy,
      { status, pushback, attempt: this.#attempt, backoffs: this.#backoffs },
      this.clock.random(),
    );
    if (this.policy.retryable.has(status) || pushback === "-1") {
      this.throttle.failed();
    }
    this.#backoffs = pushback === null ? this.#backoffs + 1 : 0;
    return this.throttle.allowsRetries ? ms : undefined;
  }
}

function waitsForReady(request: Request, thrown: unknown): boolean {
  const waits = request.contextValues.get(WAIT_FOR_READY) && !request.signal.aborted;
  return waits && isNotReady(ConnectError.from(thrown));
}

/** Returns a factory of copies of a request; the one message of a stream request is read and kept. */
async function repeatable(request: Request): Promise<() => Request> {
  if (!request.stream) {
    return () => ({ ...request, header: new Headers(request.header) });
  }
  const messages = await all(request.message);
  return () => ({ ...request, header: new Headers(request.header), message: each(messages) });
}

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = [];
  for await (const value of values) {
    read.push(value);
  }
  return read;
}

// eslint-disable-next-line @typescript-eslint/require-await -- connect requires an async iterable
async function* each<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}

/** Makes one attempt up to the point after which it is not retried: a response, or the first message of a stream. */
async function begin(next: Next, request: Request, throttle: Throttle): Promise<Response> {
  const response = await next(request);
  if (!response.stream) {
    throttle.succeeded();
    return response;
  }
  const messages = response.message[Symbol.asyncIterator]();
  const first = await messages.next();
  return { ...response, message: resumed(first, messages, throttle) };
}

async function* resumed<T>(
  first: IteratorResult<T>,
  messages: AsyncIterator<T>,
  throttle: Throttle,
): AsyncGenerator<T> {
  for (let result = first; result.done !== true; result = await messages.next()) {
    yield result.value;
  }
  throttle.succeeded();
}

/** Sets the number of the attempt, and what is left of the call's deadline. */
function mark(header: Headers, attempt: number, msLeft: number): void {
  if (attempt > 1) {
    header.set(PREVIOUS_ATTEMPTS, String(attempt - 1));
  }
  if (header.has(TIMEOUT)) {
    header.set(TIMEOUT, `${String(Math.max(1, Math.ceil(msLeft)))}m`);
  }
}

/** The timeout that connect-node set, always in milliseconds. */
function timeoutMs(header: Headers): number {
  const text = header.get(TIMEOUT);
  return text === null ? Infinity : Number(text.slice(0, -1));
}
