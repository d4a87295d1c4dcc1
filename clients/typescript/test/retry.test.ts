/** Retries by the service config: gRPC's rules, tested without a connection or a real clock. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createClient,
  createRouterTransport,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";

import {
  ChatService,
  CompleteResponseSchema,
  StreamCompleteResponseSchema,
} from "../src/gen/togetherchat/v1/chat_service_pb.js";
import { SERVICE_CONFIG } from "../src/gen/service_config.js";
import { type FailedAttempt, retrying, Throttle, waitMs } from "../src/retry.js";
import { METHOD_POLICIES, policyOf, THROTTLE_POLICY } from "../src/service_config.js";
import { REPOSITORY } from "./processes.js";

const SERVICE = "togetherchat.v1.ChatService";
const USAGE_SERVICE = "togetherchat.v1.UsageService";
const LIST = policyOf(SERVICE, "ListModels").retry;

test("the service config of the package equals the one beside the protos", () => {
  const file = readFileSync(`${REPOSITORY}protos/togetherchat/v1/service_config.json`, "utf8");
  assert.deepEqual(SERVICE_CONFIG, JSON.parse(file));
});

test("every method of the service has the policy of the file", () => {
  assert.deepEqual(
    [...METHOD_POLICIES].map(([name, { timeoutMs, retry }]) => [name, timeoutMs, retry.attemptsMax]),
    [
      [`${SERVICE}/Complete`, 600_000, 2],
      [`${SERVICE}/StreamComplete`, 600_000, 2],
      [`${SERVICE}/ListModels`, 30_000, 4],
      [`${SERVICE}/GetModel`, 30_000, 4],
      [`${USAGE_SERVICE}/QueryUsage`, 30_000, 4],
      [`${USAGE_SERVICE}/ListQuotas`, 30_000, 4],
      [`${USAGE_SERVICE}/ResetQuota`, 30_000, 4],
    ],
  );
  assert.deepEqual(
    [LIST.initialBackoffMs, LIST.backoffMsMax, LIST.backoffMultiplier, [...LIST.retryable], THROTTLE_POLICY],
    [500, 10_000, 2, ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"], { tokensMax: 400, tokenRatio: 0.1 }],
  );
});

function failed(changes: Partial<FailedAttempt>): FailedAttempt {
  return { status: "UNAVAILABLE", pushback: null, attempt: 1, backoffs: 0, ...changes };
}

const WAITS: [string, Partial<FailedAttempt>, number | undefined][] = [
  ["half of the first cap", {}, 250],
  ["half of a cap that doubled twice", { attempt: 3, backoffs: 2 }, 1000],
  ["the server's wait, exactly", { pushback: "1234" }, 1234],
  ["the server's wait of zero", { pushback: "0" }, 0],
  ["none, if the pushback is -1", { pushback: "-1" }, undefined],
  ["none, if the pushback cannot be parsed", { pushback: "soon" }, undefined],
  ["none, if no attempts are left", { attempt: 4 }, undefined],
  ["none, if the status is not retryable", { status: "INTERNAL", pushback: "5" }, undefined],
];
for (const [expected, changes, ms] of WAITS) {
  test(`the wait before a retry is ${expected}: ${JSON.stringify(changes)}`, () => {
    assert.equal(waitMs(LIST, failed(changes), 0.5), ms);
  });
}

test("the cap of a wait does not exceed the maximum back-off", () => {
  assert.equal(waitMs({ ...LIST, attemptsMax: 99 }, failed({ backoffs: 40 }), 1), 10_000);
});

test("retries stop when half of the tokens are used, and successes allow them again", () => {
  const throttle = new Throttle({ tokensMax: 10, tokenRatio: 0.5 });
  const seen = [1, 2, 3, 4, 5].map(() => {
    throttle.failed();
    return throttle.allowsRetries;
  });
  throttle.succeeded();
  assert.deepEqual([seen, throttle.allowsRetries], [[true, true, true, true, false], true]);
});

/** A clock that advances only by sleeping, and records the waits. */
function clock(): {
  readonly slept: number[];
  nowMs(): number;
  random(): number;
  sleep(ms: number): Promise<void>;
} {
  const slept: number[] = [];
  return {
    slept,
    nowMs: () => slept.reduce((sum, ms) => sum + ms, 0),
    random: () => 0.5,
    sleep: (ms) => Promise.resolve(void slept.push(ms)),
  };
}

type Handler = (context: HandlerContext, attempt: number) => void;

/** A service in memory that fails as `handler` does, and its client. */
function scripted(handler: Handler, interceptors: Interceptor[]) {
  let attempts = 0;
  const seen: (string | null)[] = [];
  const take = (context: HandlerContext): void => {
    attempts += 1;
    seen.push(context.requestHeader.get("grpc-previous-rpc-attempts"));
    handler(context, attempts);
  };
  const transport = createRouterTransport(
    ({ service }) => {
      service(ChatService, {
        complete(_, context) {
          take(context);
          return create(CompleteResponseSchema);
        },
        listModels(_, context) {
          take(context);
          return {};
        },
        async *streamComplete(_, context) {
          if (context.requestHeader.has("break-late")) {
            yield create(StreamCompleteResponseSchema);
          }
          take(context);
          yield create(StreamCompleteResponseSchema);
        },
      });
    },
    { transport: { interceptors } },
  );
  return { chat: createClient(ChatService, transport), seen, attempts: () => attempts };
}

function unavailable(pushback?: string): ConnectError {
  const headers = pushback === undefined ? {} : { "grpc-retry-pushback-ms": pushback };
  return new ConnectError("down", Code.Unavailable, { "grpc-status": "14", ...headers });
}

test("a call is retried up to the policy's attempts, with growing caps and numbered attempts", async () => {
  const time = clock();
  const { chat, seen } = scripted(() => {
    throw unavailable();
  }, [retrying(new Throttle(), time)]);
  await assert.rejects(chat.listModels({}), { code: Code.Unavailable });
  assert.deepEqual(
    [seen, time.slept],
    [
      [null, "1", "2", "3"],
      [250, 500, 1000],
    ],
  );
});

test("the server's wait is used, and the next back-off starts from the initial cap", async () => {
  const time = clock();
  const { chat } = scripted(
    (_, attempt) => {
      throw unavailable(attempt === 2 ? "77" : undefined);
    },
    [retrying(new Throttle(), time)],
  );
  await assert.rejects(chat.listModels({}));
  assert.deepEqual(time.slept, [250, 77, 250]);
});

test("pushback -1 stops retries and counts as a failure of the channel", async () => {
  const [time, throttle] = [clock(), new Throttle({ tokensMax: 2, tokenRatio: 0 })];
  const { chat, attempts } = scripted(() => {
    throw unavailable("-1");
  }, [retrying(throttle, time)]);
  await assert.rejects(chat.listModels({}));
  assert.deepEqual([attempts(), time.slept, throttle.allowsRetries], [1, [], false]);
});

test("a stream that fails before its first message is retried", async () => {
  const { chat, attempts } = scripted(
    (_, attempt) => {
      if (attempt === 1) {
        throw unavailable();
      }
    },
    [retrying(new Throttle(), clock())],
  );
  let messages = 0;
  for await (const _ of chat.streamComplete({ model: "m" })) {
    messages += 1;
  }
  assert.deepEqual([messages, attempts()], [1, 2]);
});

test("a stream that fails after its first message is not retried", async () => {
  const time = clock();
  const { chat, attempts } = scripted(() => {
    throw unavailable();
  }, [retrying(new Throttle(), time)]);
  const messages = chat.streamComplete({ model: "m" }, { headers: { "break-late": "1" } });
  const stream = messages[Symbol.asyncIterator]();
  await stream.next();
  await assert.rejects(stream.next(), { code: Code.Unavailable });
  assert.deepEqual([attempts(), time.slept], [1, []]);
});

test("a call that its caller cancelled is not retried", async () => {
  const controller = new AbortController();
  const { chat, attempts } = scripted(() => {
    controller.abort();
    throw unavailable();
  }, [retrying(new Throttle(), clock())]);
  await assert.rejects(chat.listModels({}, { signal: controller.signal }), { code: Code.Canceled });
  assert.equal(attempts(), 1);
});

test("a call whose next wait exceeds the deadline fails at once with its reason", async () => {
  const time = clock();
  const { chat, attempts } = scripted(() => {
    throw unavailable("60000");
  }, [
    (next) => (request) => {
      request.header.set("grpc-timeout", "30000m");
      return next(request);
    },
    retrying(new Throttle(), time),
  ]);
  await assert.rejects(chat.listModels({}), { code: Code.Unavailable });
  assert.deepEqual([attempts(), time.slept], [1, []]);
});

test("a retry gets what is left of the deadline", async () => {
  const timeouts: (string | null)[] = [];
  const { chat } = scripted(
    (context) => {
      timeouts.push(context.requestHeader.get("grpc-timeout"));
      throw unavailable("10000");
    },
    [
      (next) => (request) => {
        request.header.set("grpc-timeout", "30000m");
        return next(request);
      },
      retrying(new Throttle(), clock()),
    ],
  );
  await assert.rejects(chat.complete({}));
  assert.deepEqual(timeouts, ["30000m", "20000m"]);
});
