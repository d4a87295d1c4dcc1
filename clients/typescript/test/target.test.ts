/** Targets, encryption and keys, checked before a connection is opened. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient } from "../src/client.js";
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
  ["chat.example.com", undefined, "https://chat.example.com:443"],
  ["localhost.example.com:1", undefined, "https://localhost.example.com:1"],
  ["10.0.0.1:50051", undefined, "https://10.0.0.1:50051"],
  ["2001:db8::1", undefined, "https://[2001:db8::1]:443"],
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

for (const target of ["", "https://chat.example.com", "a:1,b:2", "host:port", "user@host:1", "host:1/path"]) {
  test(`the target ${JSON.stringify(target)} is rejected`, () => {
    assert.throws(() => addressOf(target, undefined), TypeError);
  });
}

for (const key of ["", "  ", "two words", "line\nbreak", "clé"]) {
  test(`the key ${JSON.stringify(key)} is rejected, and the error does not repeat it`, () => {
    assert.throws(
      () => createClient("localhost:1", { key }),
      (error: Error) =>
        error instanceof TypeError && (key.trim() === "" || !error.message.includes(key.trim())),
    );
  });
}
