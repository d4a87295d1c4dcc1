/** The connection: encryption, keys, sockets, lost connections. A relay forwards to the service. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";

import { type Client, type ClientOptions, createClient } from "../src/client.js";
import { ChatError } from "../src/errors.js";
import { textOf } from "../src/messages.js";
import { type Running, startServer } from "./processes.js";

const PARAMS = { model: "meta-llama/Llama-3.3-70B-Instruct-Turbo", messages: "echo: through" };

let server: Running;
let folder: string;

before(async () => {
  server = await startServer();
  folder = mkdtempSync(join(tmpdir(), "togetherchat-"));
});

after(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

/** The text of a call's completion, or the code of its error. */
async function outcome(client: Client): Promise<string> {
  try {
    return textOf(await client.complete(PARAMS));
  } catch (error) {
    assert(error instanceof ChatError);
    return error.code;
  } finally {
    client.close();
  }
}

/** Forwards `inbound` to the service, and adds both sockets to `sockets`. */
function relayed(inbound: Socket, sockets: Socket[]): void {
  const [host, port] = server.address.split(":");
  const outbound = connect(Number(port), host);
  for (const socket of [inbound, outbound]) {
    sockets.push(socket);
    socket.on("error", () => socket.destroy());
  }
  inbound.pipe(outbound).pipe(inbound);
}

async function listening(relay: Server, path?: string): Promise<number> {
  relay.listen(path === undefined ? { host: "127.0.0.1", port: 0 } : { path });
  await once(relay, "listening");
  return path === undefined ? (relay.address() as AddressInfo).port : 0;
}

interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Creates a certificate for `name` and its key, so that none is stored in the repository. */
function certificateFor(name: string): Certificate {
  const [cert, key] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  const what = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`, "-days", "2"];
  const how = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  execFileSync("openssl", [...how, ...what, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}

/** The outcome of a call to a service with a TLS certificate for `name`. */
async function overTls(name: string, options: (certificate: Certificate) => ClientOptions): Promise<string> {
  const certificate = certificateFor(name);
  const relay = createTlsServer({ ...certificate, ALPNProtocols: ["h2"] }, (inbound) => {
    relayed(inbound, []);
  });
  const port = await listening(relay);
  try {
    return await outcome(
      createClient(`localhost:${String(port)}`, { retries: false, ...options(certificate) }),
    );
  } finally {
    relay.close();
  }
}

test("a certificate is accepted if its root is given", async () => {
  assert.equal(await overTls("localhost", ({ cert }) => ({ tls: { rootCertificates: cert } })), "through");
});

test("a certificate with an unknown root is rejected", async () => {
  assert.equal(await overTls("localhost", () => ({ tls: true })), "UNAVAILABLE");
});

test("a certificate for another name than the target's is rejected", async () => {
  const seen = await overTls("chat.internal", ({ cert }) => ({ tls: { rootCertificates: cert } }));
  assert.equal(seen, "UNAVAILABLE");
});

test("a certificate for serverName is accepted", async () => {
  const seen = await overTls("chat.internal", ({ cert }) => ({
    tls: { rootCertificates: cert, serverName: "chat.internal" },
  }));
  assert.equal(seen, "through");
});

test("a TLS client does not fall back to plaintext", async () => {
  assert.equal(await outcome(createClient(server.address, { tls: true, retries: false })), "UNAVAILABLE");
});

test("a unix socket is a target", async () => {
  const relay = createServer((inbound) => {
    relayed(inbound, []);
  });
  const path = join(folder, "chat.sock");
  await listening(relay, path);
  assert.equal(await outcome(createClient(`unix:${path}`)), "through");
  relay.close();
});

test("keys, request id and deadline are sent as metadata", async () => {
  const seen: Record<string, string> = {};
  const client = createClient(server.address, {
    key: " gateway-key\n",
    upstreamKey: "provider-key",
    interceptors: [
      (next) => (request) => {
        request.header.forEach((value, name) => (seen[name] = value));
        return next(request);
      },
    ],
  });
  await client.complete(PARAMS, {
    requestId: "ts-metadata",
    timeoutMs: 5000.2,
    headers: { "x-mine": "1" },
  });
  client.close();
  const names = [
    "authorization",
    "x-together-api-key",
    "x-request-id",
    "grpc-timeout",
    "x-mine",
    "user-agent",
  ];
  assert.deepEqual(
    names.map((name) => seen[name]),
    ["Bearer gateway-key", "provider-key", "ts-metadata", "5001m", "1", "togetherchat-typescript"],
  );
});

test("a connection that does not answer pings is closed", async () => {
  const sockets: Socket[] = [];
  const relay = createServer((inbound) => {
    relayed(inbound, sockets);
  });
  const client = createClient(`127.0.0.1:${String(await listening(relay))}`, {
    keepaliveMs: 500,
    keepaliveTimeoutMs: 2000,
    retries: false,
  });
  const stream = client.stream({ model: "sandbox/stall-after-3", messages: "Hi" });
  await stream.next();
  for (const socket of sockets) {
    socket.unpipe().pause();
  }
  await assert.rejects(stream.finish(), { code: "UNAVAILABLE" });
  for (const socket of sockets) {
    socket.destroy();
  }
  relay.close();
});

test("after a lost connection the next call opens a new one", async () => {
  const sockets: Socket[] = [];
  const relay = createServer((inbound) => {
    relayed(inbound, sockets);
  });
  const client = createClient(`127.0.0.1:${String(await listening(relay))}`);
  await client.complete(PARAMS);
  for (const socket of sockets) {
    socket.destroy();
  }
  assert.equal(await outcome(client), "through");
  relay.close();
});
