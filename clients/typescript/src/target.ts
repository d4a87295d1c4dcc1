/**
 * How to reach the service: target and encryption.
 *
 * Owns the spelling of targets and the choice between TLS and plain text. Opens nothing;
 * `client.ts` opens the connection with what this module decides.
 *
 * A target on this machine (localhost, 127.x, ::1, a unix socket) is spoken to in plain text,
 * any other over TLS, unless `tls` says otherwise: a key must not cross a network in the clear
 * because nobody thought of it.
 */
import type { ClientSessionOptions, SecureClientSessionOptions } from "node:http2";
import { BlockList, connect, isIP } from "node:net";

/** TLS options. Certificates and keys are PEM; unset roots are Node's own. */
export interface Tls {
  readonly rootCertificates?: string | Uint8Array;
  /** With `certificateChain`: this client's own certificate, for mutual TLS. */
  readonly privateKey?: string | Uint8Array;
  readonly certificateChain?: string | Uint8Array;
  /** The name that the server's certificate must bear, where it is not the target's. */
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
 * Where `target` is: `host:port`, `dns:///host:port`, `ipv4:`, `ipv6:` or `unix:` as gRPC spells them.
 *
 * @throws TypeError when it is none of these, or names several addresses.
 */
export function addressOf(target: string, tls: boolean | Tls | undefined): Address {
  const socket = socketPath(target);
  const place = socket === undefined ? hostAndPort(target) : { host: "localhost", port: "80" };
  const local = socket !== undefined || isLocalHost(place.host);
  const encrypted = tls ?? !local;
  const host = isIP(place.host) === 6 ? `[${place.host}]` : place.host;
  return {
    baseUrl: `${encrypted === false ? "http" : "https"}://${host}:${place.port}`,
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
