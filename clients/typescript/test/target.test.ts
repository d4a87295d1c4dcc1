/** Targets, encryption and keys, checked before a connection is opened. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import { test } from "node:test";

import { createClient } from "../src/client.js";
import { functionTool } from "../src/messages.js";
import { addressOf, type Tls } from "../src/target.js";

const TARGETS: [string, boolean | Tls | undefined, string][] = [
  ["localhost:50051", undefined, "http://localhost:50051"],
  ["127.0.0.1:50051", undefined, "http://127.0.0.1:50051"],
  ["127.9.9.9:50051", undefined, "http://127.9.9.9:50051"],
  ["[::1]:50051", undefined, "http://[::1]:50051"],
  ["ipv4:127.0.0.1:50051", undefined, "http://127.0.0.1:50051"],
  ["ipv6:[::1]:50051", undefined, "http://[::1]:50051"],
  ["unix:///run/chat.sock", undefined, "http://localhost:80"],
  ["unix:chat.sock", undefined, "http://localhost:80"],
  ["chat.example.com:50051", undefined, "https://chat.example.com:50051"],
  ["dns:///chat.example.com:50051", undefined, "https://chat.example.com:50051"],
  ["unix-abstract:chat", undefined, "http://localhost:80"],
  ["localhost.example.com:1", undefined, "https://localhost.example.com:1"],
  ["10.0.0.1:50051", undefined, "https://10.0.0.1:50051"],
  ["[2001:db8::1]:443", undefined, "https://[2001:db8::1]:443"],
  ["chat.example.com:50051", false, "http://chat.example.com:50051"],
  ["localhost:50051", true, "https://localhost:50051"],
  ["localhost:50051", { rootCertificates: "PEM" }, "https://localhost:50051"],
];
for (const [target, tls, expected] of TARGETS) {
  test(`${target} with tls ${tls === undefined ? "unset" : JSON.stringify(tls)} is ${expected}`, () => {
    assert.equal(addressOf(target, tls).baseUrl, expected);
  });
}

test("TLS options reach Node under its own names", () => {
  const bytes = new TextEncoder().encode("ROOTS");
  const tls = { rootCertificates: bytes, privateKey: "KEY", certificateChain: "CHAIN", serverName: "chat" };
  const { ca, key, cert, servername } = addressOf("localhost:1", tls).nodeOptions as Record<string, unknown>;
  assert.deepEqual(
    { ca, key, cert, servername },
    { ca: "ROOTS", key: "KEY", cert: "CHAIN", servername: "chat" },
  );
});

for (const target of ["unix:/run/chat.sock", "unix:///run/chat.sock"]) {
  test(`${target} is a socket with an absolute path`, async () => {
    const { createConnection } = addressOf(target, undefined).nodeOptions as {
      createConnection: () => Socket;
    };
    const [error] = (await once(createConnection(), "error")) as [
      NodeJS.ErrnoException & { address: string },
    ];
    assert.equal(error.address, "/run/chat.sock");
  });
}

test("a target is checked, and its error names the rule and the fix", () => {
  assert.throws(() => addressOf("https://chat.example.com", undefined), {
    name: "TypeError",
    message:
      'target: must not be a URL; write "host:port", such as "localhost:50051", and choose TLS with the option tls',
  });
});

test("a key that metadata cannot carry is rejected, and the error does not repeat it", () => {
  for (const key of ["two words", "line\nbreak", "clé"]) {
    assert.throws(
      () => createClient("localhost:1", { key }),
      (error: Error) => error instanceof TypeError && !error.message.includes(key),
    );
  }
});

test("half of a surrogate pair is rejected with its place, wherever it is", async () => {
  const client = createClient("localhost:1");
  const half = "🦀".slice(0, 1);
  const tools = [functionTool("f", { description: `a crab ${half}` })];
  await assert.rejects(client.complete({ model: "m", messages: "Hi", tools }), {
    name: "TypeError",
    message: /^tools\[0\]\.function\.description: is not valid Unicode/,
  });
  assert.throws(() => client.stream({ model: `m${half}`, messages: "🦀" }), /^TypeError: model: is not/);
  await assert.rejects(client.getModel(half), /^TypeError: id: is not/);
});
