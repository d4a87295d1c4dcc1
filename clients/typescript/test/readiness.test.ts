/** Servers that are not there yet, proxies that answer in their place, and health checks. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { once } from "node:events";
import { createServer as createHttp2Server, type IncomingHttpHeaders } from "node:http2";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { after, before, test } from "node:test";

import { Code, ConnectError, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { createClient as createConnectClient } from "@connectrpc/connect";

import { type Client, createClient } from "../src/client.js";
import { ChatError } from "../src/errors.js";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../src/gen/grpc_health/v1/health_pb.js";
import { ChatService } from "../src/gen/togetherchat/v1/chat_service_pb.js";
import { healthChecking } from "../src/health.js";
import { textOf } from "../src/messages.js";
import { REPOSITORY, type Running, startServer } from "./processes.js";

const PARAMS = { model: "meta-llama/Llama-3.3-70B-Instruct-Turbo", messages: "echo: through" };
const NOT_SERVING = Buffer.from([0, 0, 0, 0, 2, 8, 2]);

let server: Running;

before(async () => {
  server = await startServer();
});

after(() => server.stop());

async function failure(client: Client, call = {}): Promise<ChatError> {
  const outcome: unknown = await client.complete(PARAMS, call).catch((error: unknown) => error);
  assert(outcome instanceof ChatError, String(outcome));
  return outcome;
}

async function portOf(listener: Server): Promise<number> {
  listener.listen({ host: "127.0.0.1", port: 0 });
  await once(listener, "listening");
  return (listener.address() as AddressInfo).port;
}

/** A port at which nothing listens. */
async function freePort(): Promise<number> {
  const listener = createServer();
  const port = await portOf(listener);
  listener.close();
  await once(listener, "close");
  return port;
}

test("a call that waits for ready reaches a server that starts later; another fails at once", async () => {
  const port = await freePort();
  const client = createClient(`localhost:${String(port)}`, {
    waitForReady: true,
    retries: false,
    maxReconnectBackoffMs: 20,
  });
  const refused = await failure(client, { waitForReady: false });
  assert.deepEqual([refused.code, refused.reason, refused.retryable], ["UNAVAILABLE", "NOT_CONNECTED", true]);
  const [completion, stream] = [client.complete(PARAMS), client.stream(PARAMS).finish()];
  const relay = createServer((inbound) => {
    const [host, at] = server.address.split(":");
    const outbound = connect(Number(at), host);
    inbound.pipe(outbound).pipe(inbound);
  });
  relay.listen({ host: "127.0.0.1", port });
  assert.deepEqual([textOf(await completion), textOf(await stream)], ["through", "through"]);
  client.close();
  relay.close();
});

test("a call that waits for ready ends with its deadline, and with its signal", async () => {
  const client = createClient(`127.0.0.1:${String(await freePort())}`, { waitForReady: true });
  assert.equal((await failure(client, { timeoutMs: 50 })).code, "DEADLINE_EXCEEDED");
  assert.equal((await failure(client, { signal: AbortSignal.timeout(50) })).code, "CANCELLED");
  client.close();
});

interface Row {
  readonly reason: string;
  readonly codes: readonly string[];
  readonly http_statuses: readonly number[];
  readonly retryable: boolean | null;
  readonly hint: string;
}

const REASONS = JSON.parse(readFileSync(`${REPOSITORY}clients/conformance/client_reasons.json`, "utf8")) as {
  client_reasons: Row[];
};
for (const row of REASONS.client_reasons.filter(({ reason }) => reason !== "NOT_CONNECTED")) {
  const statuses = row.http_statuses.length === 0 ? [418, 500] : row.http_statuses;
  for (const status of statuses) {
    test(`HTTP status ${String(status)} of a proxy is ${row.reason}`, async () => {
      const proxy = createHttp2Server((_, response) => {
        response.writeHead(status, { "content-type": "text/html" }).end("<html></html>");
      });
      const client = createClient(`127.0.0.1:${String(await portOf(proxy))}`, { retries: false });
      const error = await failure(client);
      client.close();
      proxy.close();
      assert.deepEqual(
        [error.reason, error.hint, error.retryable ?? null],
        [row.reason, row.hint, row.retryable],
      );
      assert(row.codes.length === 0 || row.codes.includes(error.code), error.code);
    });
  }
}

test("with health checks, a service that reports NOT_SERVING gets no calls; the check has the key", async () => {
  const seen: IncomingHttpHeaders[] = [];
  const listener = createHttp2Server((request, response) => {
    seen.push(request.headers);
    response.writeHead(200, { "content-type": "application/grpc+proto" });
    response.addTrailers({ "grpc-status": "0" });
    response.end(NOT_SERVING);
  });
  const target = `127.0.0.1:${String(await portOf(listener))}`;
  const checking = createClient(target, { healthChecking: true, retries: false, key: "secret" });
  assert.equal((await failure(checking)).code, "UNAVAILABLE");
  assert.deepEqual(
    seen.map((headers) => [headers[":path"], headers.authorization]),
    [["/grpc.health.v1.Health/Check", "Bearer secret"]],
  );
  const waiting = await failure(checking, { waitForReady: true, timeoutMs: 50 });
  assert.equal(waiting.code, "DEADLINE_EXCEEDED");
  checking.close();
  const plain = createClient(target, { retries: false });
  await failure(plain);
  assert.equal(seen.at(-1)?.[":path"], "/togetherchat.v1.ChatService/Complete");
  plain.close();
  listener.close();
});

/** The health service as `check` answers, a chat service behind the health checks, and their counters. */
function checked(check: () => Status, nowMs: () => number) {
  const made = { checks: 0, calls: 0 };
  const health = createRouterTransport(({ service }) => {
    service(Health, {
      check() {
        made.checks += 1;
        return { status: check() };
      },
    });
  });
  const interceptor: Interceptor = healthChecking(health, nowMs);
  const transport = createRouterTransport(
    ({ service }) => {
      service(ChatService, {
        listModels() {
          made.calls += 1;
          return {};
        },
      });
    },
    { transport: { interceptors: [interceptor] } },
  );
  return { chat: createConnectClient(ChatService, transport), made };
}

test("a health check is made at most once in a second", async () => {
  let nowMs = 0;
  const { chat, made } = checked(
    () => Status.SERVING,
    () => nowMs,
  );
  await Promise.all([chat.listModels({}), chat.listModels({})]);
  nowMs = 1000;
  await chat.listModels({});
  assert.deepEqual(made, { checks: 1, calls: 3 });
  nowMs = 1001;
  await chat.listModels({});
  assert.deepEqual(made, { checks: 2, calls: 4 });
});

test("a server that does not answer a health check gets the calls", async () => {
  const { chat, made } = checked(
    () => {
      throw new ConnectError("no", Code.Unimplemented);
    },
    () => 0,
  );
  await chat.listModels({});
  assert.deepEqual(made, { checks: 1, calls: 1 });
});
