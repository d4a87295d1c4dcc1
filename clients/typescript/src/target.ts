/**
 * Parses targets and decides between TLS and plaintext.
 *
 * Opens nothing; `client.ts` opens the connection.
 *
 * The default is plaintext for a target on this machine (localhost, 127.x, ::1, a unix socket) and
 * TLS for any other, so that no key crosses a network unencrypted by mistake. `tls` overrides it.
 */
import type { ClientSessionOptions, SecureClientSessionOptions } from "node:http2";
import { BlockList, connect, isIP } from "node:net";

/** TLS options. Certificates and keys are PEM. Default roots: Node's own. */
export interface Tls {
  readonly rootCertificates?: string | Uint8Array;
  /** With `certificateChain`: the client certificate, for mutual TLS. */
  readonly privateKey?: string | Uint8Array;
  readonly certificateChain?: string | Uint8Array;
  /** The name in the server's certificate, if it differs from the target's. */
  readonly serverName?: string;
}

/** Where and how to connect. */
export interface Address {
  readonly baseUrl: string;
  readonly nodeOptions: ClientSessionOptions | SecureClientSessionOptions;
}

const SCHEMES = ["dns:///", "dns:", "ipv4:", "ipv6:"];
const DEFAULT_PORT = "443";
// Node rejects new calls while more than 10 MB, its default, wait to be sent.
const SESSION_MEGABYTES_MAX = 256;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * Parses `target`: `host:port`, `dns:///host:port`, `ipv4:`, `ipv6:` or `unix:`, as gRPC spells them.
 *
 * @throws TypeError when it is none of these, or names several addresses.
 */
export function addressOf(target: string, tls: boolean | Tls | undefined): Address {
  const socket = socketPath(target);
  const address = socket === undefined ? hostAndPort(target) : { host: "localhost", port: "80" };
  const local = socket !== undefined || isLocalHost(address.host);
  const encrypted = tls ?? !local;
  const host = isIP(address.host) === 6 ? `[${address.host}]` : address.host;
  return {
    baseUrl: `${encrypted === false ? "http" : "https"}://${host}:${address.port}`,
    nodeOptions: {
      maxSessionMemory: SESSION_MEGABYTES_MAX,
      ...(socket !== undefined && { createConnection: () => connect(socket) }),
      ...(typeof encrypted === "object" && tlsOptions(encrypted)),
    },
  };
}

function tlsOptions(tls: Tls): SecureClientSessionOptions {
  return {
    ...(tls.rootCertificates !== undefined && { ca: pem(tls.rootCertificates) }),
    ...(tls.privateKey !== undefined && { key: pem(tls.privateKey) }),
    ...(tls.certificateChain !== undefined && { cert: pem(tls.certificateChain) }),
    ...(tls.serverName !== undefined && { servername: tls.serverName }),
  };
}

function pem(text: string | Uint8Array): string {
  return typeof text === "string" ? text : new TextDecoder().decode(text);
}

function socketPath(target: string): string | undefined {
  if (target.startsWith("unix-abstract:")) {
    return `\0${target.slice("unix-abstract:".length)}`;
  }
  return target.startsWith("unix:") ? target.slice("unix:".length).replace(/^\/\/(?=\/)/, "") : undefined;
}

function hostAndPort(target: string): { host: string; port: string } {
  const scheme = SCHEMES.find((each) => target.startsWith(each)) ?? "";
  const address = target.slice(scheme.length);
  const found = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(address);
  const host = isIP(address) === 6 ? address : (found?.[1] ?? found?.[2]);
  if (host === undefined || /[\s,/@?#]/.test(host)) {
    throw new TypeError("target must be one address such as localhost:50051");
  }
  return { host, port: found?.[3] ?? DEFAULT_PORT };
}

function isLocalHost(host: string): boolean {
  const family = isIP(host);
  return host === "localhost" || (family !== 0 && LOOPBACK.check(host, family === 6 ? "ipv6" : "ipv4"));
}
