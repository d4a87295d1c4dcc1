/**
 * The client: one connection, and a method for each thing that the service does.
 *
 * Owns the defaults of the connection and what goes out with every call. Retries are
 * `retry.ts`'s, failures `errors.ts`'s.
 */
import { randomUUID } from "node:crypto";

import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CallOptions as ConnectCallOptions,
  type Client as ConnectClient,
  createClient as createConnectClient,
  type Interceptor,
} from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { AnswerStream } from "./answer_stream.js";
import { type CallInfo, callInfoOf, REQUEST_ID } from "./call_info.js";
import { chatErrorOf } from "./errors.js";
import {
  ChatService,
  type CompleteRequest,
  type CompleteResponse,
  type ListModelsRequestSchema,
  type ListModelsResponse,
} from "./gen/togetherchat/v1/chat_service_pb.js";
import type { Model } from "./gen/togetherchat/v1/models_pb.js";
import { type Completion, requestOf } from "./messages.js";
import { retrying } from "./retry.js";
import { policyOf } from "./service_config.js";
import { callerLeft } from "./status.js";
import { addressOf, type Tls } from "./target.js";

const MEBIBYTE = 1024 * 1024;
const RECEIVE_BYTES_MAX = 64 * MEBIBYTE;
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
// grpc-timeout has at most eight digits.
const TIMEOUT_MS_MAX = 99_999_999;
const USER_AGENT = "togetherchat-typescript";

export interface ClientOptions {
  /** What the service knows this caller by; sent as `authorization: Bearer ...`. */
  readonly key?: string | undefined;
  /** The caller's own Together key, where the service takes one. */
  readonly upstreamKey?: string | undefined;
  /** Deadline of every call that sets none. Unset: 600 s for an answer, 30 s for a page of models. */
  readonly timeoutMs?: number | undefined;
  /** True, false or options. Unset: plain text on this machine, TLS elsewhere. */
  readonly tls?: boolean | Tls | undefined;
  /** False for a client that never sends a call twice. Default true. */
  readonly retries?: boolean | undefined;
  /** The largest message that is accepted. Default 64 MiB. */
  readonly receiveBytesMax?: number | undefined;
  /** The largest message that is sent. Unset: the service is the judge. */
  readonly sendBytesMax?: number | undefined;
  /** A connection in use is asked for a sign of life after so long a silence. Default 30 s. */
  readonly keepaliveMs?: number | undefined;
  /** How long that sign may take before the connection is given up. Default 10 s. */
  readonly keepaliveTimeoutMs?: number | undefined;
  /** More interceptors of Connect's, around the retries. */
  readonly interceptors?: readonly Interceptor[] | undefined;
}

export interface CallOptions {
  /** Aborting it cancels the call, and with it the generation. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline of this call. */
  readonly timeoutMs?: number | undefined;
  /** 1 to 128 printable ASCII characters; one is made up where it is unset. */
  readonly requestId?: string | undefined;
  /** More metadata to send. */
  readonly headers?: Headers | Readonly<Record<string, string>> | undefined;
  /** Called after the call succeeded. A failure has the same in the error's `info`. */
  readonly onInfo?: ((info: CallInfo) => void) | undefined;
}

/** The fields of ListModelsRequest. */
export type ModelFilters = MessageInitShape<typeof ListModelsRequestSchema>;

/**
 * A client of the service at `target`: `host:port`, or `dns:///host:port`, `unix:/path`.
 *
 * @throws TypeError when the target or a key is malformed.
 */
export function createClient(target: string, options: ClientOptions = {}): Client {
  return new Client(target, options);
}

/** Calls the service. Safe to share; every failure of a call is a `ChatError`. */
export class Client {
  readonly #chat: ConnectClient<typeof ChatService>;
  readonly #sessions: Http2SessionManager;
  readonly #headers: Headers;
  readonly #timeoutMs: number | undefined;

  constructor(target: string, options: ClientOptions) {
    const address = addressOf(target, options.tls);
    this.#headers = headersOf(options);
    this.#timeoutMs = options.timeoutMs;
    this.#sessions = new Http2SessionManager(
      address.baseUrl,
      {
        pingIntervalMs: options.keepaliveMs ?? KEEPALIVE_MS,
        pingTimeoutMs: options.keepaliveTimeoutMs ?? KEEPALIVE_TIMEOUT_MS,
      },
      address.nodeOptions,
    );
    const transport = createGrpcTransport({
      baseUrl: address.baseUrl,
      sessionManager: this.#sessions,
      readMaxBytes: options.receiveBytesMax ?? RECEIVE_BYTES_MAX,
      ...(options.sendBytesMax !== undefined && { writeMaxBytes: options.sendBytesMax }),
      interceptors: [...(options.interceptors ?? []), ...(options.retries === false ? [] : [retrying()])],
    });
    this.#chat = createConnectClient(ChatService, transport);
  }

  /** The whole answer. */
  async complete(
    completion: Completion | CompleteRequest,
    call: CallOptions = {},
  ): Promise<CompleteResponse> {
    const request = requestOf(completion);
    return this.#unary("Complete", call, (options) => this.#chat.complete(request, options));
  }

  /** The answer while it is made. */
  stream(completion: Completion | CompleteRequest, call: CallOptions = {}): AnswerStream {
    const request = requestOf(completion);
    const requestId = call.requestId ?? randomUUID();
    const options = this.#options("StreamComplete", call, requestId);
    return new AnswerStream({
      requestId,
      begin: (signal, onTrailer) => this.#chat.streamComplete(request, { ...options, signal, onTrailer }),
      signal: call.signal,
      onInfo: call.onInfo,
    });
  }

  /** One page of the models that the filters let through, with what it says beside them. */
  async listModels(filters: ModelFilters = {}, call: CallOptions = {}): Promise<ListModelsResponse> {
    return this.#unary("ListModels", call, (options) => this.#chat.listModels(filters, options));
  }

  /** Every model that the filters let through, page after page. Call options are those of each page. */
  async *models(filters: ModelFilters = {}, call: CallOptions = {}): AsyncGenerator<Model, void, undefined> {
    let pageToken = filters.pageToken ?? "";
    do {
      const page = await this.listModels({ ...filters, pageToken }, call);
      yield* page.models;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /** Close the connection; calls that are under way are cancelled. */
  close(): void {
    this.#sessions.abort(callerLeft("the client was closed"));
  }

  async #unary<T>(
    method: string,
    call: CallOptions,
    send: (options: ConnectCallOptions) => Promise<T>,
  ): Promise<T> {
    const requestId = call.requestId ?? randomUUID();
    const options = this.#options(method, call, requestId);
    const controller = new AbortController();
    const abort = (): void => {
      controller.abort(callerLeft("the call was aborted", call.signal?.reason));
    };
    call.signal?.addEventListener("abort", abort, { once: true });
    if (call.signal?.aborted === true) {
      abort();
    }
    let trailers = new Headers();
    let answer: T;
    try {
      const { signal } = controller;
      answer = await send({ ...options, signal, onTrailer: (each) => (trailers = each) });
    } catch (thrown) {
      throw chatErrorOf(thrown, requestId);
    } finally {
      call.signal?.removeEventListener("abort", abort);
    }
    // Outside of the try: an exception of the caller's own is the caller's.
    call.onInfo?.(callInfoOf(trailers, requestId));
    return answer;
  }

  #options(method: string, call: CallOptions, requestId: string): ConnectCallOptions {
    const headers = new Headers(call.headers);
    this.#headers.forEach((value, name) => {
      headers.set(name, value);
    });
    headers.set(REQUEST_ID, requestId);
    const timeoutMs = call.timeoutMs ?? this.#timeoutMs ?? policyOf(ChatService.typeName, method).timeoutMs;
    // Connect takes 0 for "none" and writes fractions as they are, which no server can read.
    return { headers, timeoutMs: Math.min(Math.max(1, Math.ceil(timeoutMs)), TIMEOUT_MS_MAX) };
  }
}

function headersOf({ key, upstreamKey }: ClientOptions): Headers {
  const headers = new Headers({ "user-agent": USER_AGENT });
  if (key !== undefined) {
    headers.set("authorization", `Bearer ${checked(key, "key")}`);
  }
  if (upstreamKey !== undefined) {
    headers.set("x-together-api-key", checked(upstreamKey, "upstreamKey"));
  }
  return headers;
}

/** `key` without the white space around it. Node would put an illegal one into its exception. */
function checked(key: string, name: string): string {
  const stripped = key.trim();
  if (!/^[\x21-\x7e]+$/.test(stripped)) {
    throw new TypeError(`${name} is empty or has a character that metadata cannot carry`);
  }
  return stripped;
}
