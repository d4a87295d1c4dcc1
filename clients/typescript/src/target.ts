/**
 * Parses targets and decides between TLS and plaintext.
 *
 * Opens nothing; `client.ts` opens the connection. The words of the errors are those of
 * `clients/conformance/arguments.json`.
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

const FORM = 'write "host:port", such as "localhost:50051"';
const URL_SCHEME = /^(https?|grpcs?|wss?|tcp|tls|ssl):\/\//i;
const OTHER_SCHEME = /^([a-z][a-z0-9+.-]*):\/\//i;
const SCHEMES = ["dns:///", "dns:", "ipv4:", "ipv6:"];
const PORT_MAX = 65535;
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
  checkCharacters(target);
  const socket = socketPath(target);
  const address = socket === undefined ? hostAndPort(withoutScheme(target)) : { host: "localhost", port: 80 };
  const local = socket !== undefined || isLocalHost(address.host);
  const encrypted = tls ?? !local;
  const host = isIP(address.host) === 6 ? `[${address.host}]` : address.host;
  return {
    baseUrl: `${encrypted === false ? "http" : "https"}://${host}:${String(address.port)}`,
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

function checkCharacters(target: string): void {
  if (target === "") {
    throw new TypeError(`target: must not be empty; ${FORM}`);
  }
  if (/[\s\p{Cc}]/u.test(target)) {
    throw new TypeError(`target: must not contain spaces or control characters; ${FORM}`);
  }
  if (URL_SCHEME.test(target)) {
    throw new TypeError(`target: must not be a URL; ${FORM}, and choose TLS with the option tls`);
  }
}

/** Returns the path of a unix socket, or undefined for another target. */
function socketPath(target: string): string | undefined {
  const [, scheme, path] = /^(unix|unix-abstract):(?:\/\/(?=\/|$))?(.*)$/.exec(target) ?? [];
  if (path === "") {
    throw new TypeError(
      'target: the path of the socket is missing; write "unix:PATH", such as "unix:/run/togetherchat.sock"',
    );
  }
  return scheme === "unix-abstract" ? `\0${path ?? ""}` : path;
}

function withoutScheme(target: string): string {
  const scheme = SCHEMES.find((each) => target.startsWith(each));
  const address = target.slice(scheme?.length ?? 0);
  const unsupported = scheme === "dns:" && address.startsWith("//") ? "dns" : OTHER_SCHEME.exec(target)?.[1];
  if (unsupported !== undefined && scheme !== "dns:///") {
    throw new TypeError(`target: this client does not support the scheme "${unsupported}"; ${FORM}`);
  }
  return address;
}

function hostAndPort(address: string): { host: string; port: number } {
  if (/[/?#@]/.test(address)) {
    throw new TypeError(`target: must not have a path, a query or a user name; ${FORM}`);
  }
  if (address.includes(",")) {
    throw new TypeError(
      "target: must be one address; several servers are one name in DNS, " +
        'such as "dns:///chat.example.com:50051"',
    );
  }
  const [, inBrackets, plain, port] = /^(?:\[([^\]]*)\]|([^:[]*))(?::([^:]*))?$/.exec(address) ?? [];
  if ((inBrackets ?? plain) === undefined || (inBrackets && isIP(inBrackets) !== 6)) {
    throw new TypeError('target: an IPv6 address needs brackets and a port, such as "[::1]:50051"');
  }
  const host = inBrackets ?? plain ?? "";
  if (host === "") {
    throw new TypeError(`target: the host is missing; ${FORM}`);
  }
  if (port === undefined || port === "") {
    throw new TypeError(`target: the port is missing; ${FORM}`);
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > PORT_MAX) {
    throw new TypeError('target: the port must be a number from 1 to 65535, such as "localhost:50051"');
  }
  return { host, port: Number(port) };
}

function isLocalHost(host: string): boolean {
  const family = isIP(host);
  return host === "localhost" || (family !== 0 && LOOPBACK.check(host, family === 6 ? "ipv6" : "ipv4"));
}
