/**
 * The client: one connection, and a method for each RPC of the service.
 *
 * Owns the defaults of the connection and the metadata of every call. `retry.ts` retries,
 * `errors.ts` translates failures.
 */
import { randomUUID } from "node:crypto";

import { create, type DescMethod, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type CallOptions as ConnectCallOptions,
  type Client as ConnectClient,
  createClient as createConnectClient,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { checkedHeaders, checkedKey, checkedMs, checkedRequestId, checkedText } from "./arguments.js";
import { CompletionStream } from "./completion_stream.js";
import { type CallInfo, callInfoOf, REQUEST_ID } from "./call_info.js";
import { chatErrorOf } from "./errors.js";
import {
  ChatService,
  type CompleteRequest,
  type CompleteResponse,
  GetModelRequestSchema,
  type GetModelResponse,
  ListModelsRequestSchema,
  type ListModelsResponse,
} from "./gen/togetherchat/v1/chat_service_pb.js";
import type { Model } from "./gen/togetherchat/v1/models_pb.js";
import {
  ListQuotasRequestSchema,
  type ListQuotasResponse,
  QueryUsageRequestSchema,
  type QueryUsageResponse,
  ResetQuotaRequestSchema,
  type ResetQuotaResponse,
  UsageService,
} from "./gen/togetherchat/v1/usage_service_pb.js";
import { healthChecking } from "./health.js";
import { withJson } from "./json.js";
import { type CompletionParams, requestOf } from "./messages.js";
import { retrying, WAIT_FOR_READY } from "./retry.js";
import { policyOf } from "./service_config.js";
import { cancelledByCaller } from "./status.js";
import { addressOf, type Tls } from "./target.js";

const MEBIBYTE = 1024 * 1024;
const RECEIVE_BYTES_MAX = 64 * MEBIBYTE;
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
const RECONNECT_BACKOFF_MS_MAX = 5000;
const USER_AGENT = "togetherchat-typescript";

export interface ClientOptions {
  /** The caller's key, sent as `authorization: Bearer ...`. */
  readonly key?: string | undefined;
  /** The caller's own Together key, for a service that accepts one. */
  readonly upstreamKey?: string | undefined;
  /** Deadline of every call that sets none. Default 600 s for a completion, 30 s for models and usage. */
  readonly timeoutMs?: number | undefined;
  /** True, false or options. Default: plaintext to this machine, TLS to any other. */
  readonly tls?: boolean | Tls | undefined;
  /** False disables all retries. Default true. */
  readonly retries?: boolean | undefined;
  /** Calls wait for a server until their deadline, instead of failing when it is not reached. Default false. */
  readonly waitForReady?: boolean | undefined;
  /** The longest wait between two attempts to connect, for calls that wait for a server. Default 5 s. */
  readonly maxReconnectBackoffMs?: number | undefined;
  /** A service that reports NOT_SERVING gets no calls: the client asks before a call. Default false. */
  readonly healthChecking?: boolean | undefined;
  /** The largest message that the client receives. Default 64 MiB. */
  readonly receiveBytesMax?: number | undefined;
  /** The largest message that the client sends. Unset: only the service's limit applies. */
  readonly sendBytesMax?: number | undefined;
  /** During a call, a ping is sent after this time without data. Default 30 s. */
  readonly keepaliveMs?: number | undefined;
  /** The connection is closed if a ping is not answered within this time. Default 10 s. */
  readonly keepaliveTimeoutMs?: number | undefined;
  /** Connect interceptors, outside the retries. */
  readonly interceptors?: readonly Interceptor[] | undefined;
}

export interface CallOptions {
  /** Aborting the signal cancels the call, and the provider stops generating. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline of this call. */
  readonly timeoutMs?: number | undefined;
  /** Whether this call waits for a server until its deadline. Default: the client's. */
  readonly waitForReady?: boolean | undefined;
  /** 1 to 128 printable ASCII characters. Default, also for an empty text: a random id. */
  readonly requestId?: string | undefined;
  /** Further metadata to send. */
  readonly headers?: Headers | Readonly<Record<string, string>> | undefined;
  /** Called after the call succeeded. After a failure, see `info` of the error. */
  readonly onInfo?: ((info: CallInfo) => void) | undefined;
}

/** The fields of ListModelsRequest. */
export type ModelFilters = MessageInitShape<typeof ListModelsRequestSchema>;
/** The fields of QueryUsageRequest: a period, dimensions and filters. */
export type UsageQuery = MessageInitShape<typeof QueryUsageRequestSchema>;

/**
 * Creates a client of the service at `target`: `host:port`, `dns:///host:port` or `unix:/path`.
 *
 * @throws TypeError when the target or a key is malformed.
 * @throws RangeError when a duration is not above 0, or longer than a day.
 */
export function createClient(target: string, options: ClientOptions = {}): Client {
  return new Client(target, options);
}

/** Calls the service. Share one client; every failed call rejects with a `ChatError`. */
export class Client {
  readonly #chat: ConnectClient<typeof ChatService>;
  readonly #usage: ConnectClient<typeof UsageService>;
  readonly #sessions: Http2SessionManager;
  readonly #headers: Headers;
  readonly #timeoutMs: number | undefined;
  readonly #waitForReady: boolean;

  constructor(target: string, options: ClientOptions) {
    const address = addressOf(target, options.tls);
    this.#headers = headersOf(options);
    this.#timeoutMs = checkedMs(options.timeoutMs, "timeoutMs");
    this.#waitForReady = options.waitForReady ?? false;
    const settings = {
      retries: options.retries ?? true,
      maxReconnectBackoffMs: checkedMs(
        options.maxReconnectBackoffMs ?? RECONNECT_BACKOFF_MS_MAX,
        "maxReconnectBackoffMs",
      ),
    };
    this.#sessions = new Http2SessionManager(
      address.baseUrl,
      {
        pingIntervalMs: options.keepaliveMs ?? KEEPALIVE_MS,
        pingTimeoutMs: options.keepaliveTimeoutMs ?? KEEPALIVE_TIMEOUT_MS,
      },
      address.nodeOptions,
    );
    const connection = { baseUrl: address.baseUrl, sessionManager: this.#sessions };
    const transport = createGrpcTransport({
      ...connection,
      readMaxBytes: options.receiveBytesMax ?? RECEIVE_BYTES_MAX,
      ...(options.sendBytesMax !== undefined && { writeMaxBytes: options.sendBytesMax }),
      interceptors: [
        ...(options.interceptors ?? []),
        retrying(undefined, undefined, settings),
        ...(options.healthChecking === true ? [healthChecking(createGrpcTransport(connection))] : []),
      ],
    });
    this.#chat = createConnectClient(ChatService, transport);
    this.#usage = createConnectClient(UsageService, transport);
  }

  /** Returns the completion in one message. */
  async complete(
    params: CompletionParams | CompleteRequest,
    call: CallOptions = {},
  ): Promise<CompleteResponse> {
    const request = checkedText(requestOf(params));
    return this.#unary(ChatService.method.complete, call, (options) => this.#chat.complete(request, options));
  }

  /** Streams the completion. */
  stream(params: CompletionParams | CompleteRequest, call: CallOptions = {}): CompletionStream {
    const request = checkedText(requestOf(params));
    const requestId = requestIdOf(call);
    const options = this.#options(ChatService.method.streamComplete, call, requestId);
    return new CompletionStream({
      requestId,
      begin: (signal, onTrailer) => this.#chat.streamComplete(request, { ...options, signal, onTrailer }),
      signal: call.signal,
      onInfo: call.onInfo,
    });
  }

  /** Returns one page of the models that match the filters, with warnings and total. */
  async listModels(filters: ModelFilters = {}, call: CallOptions = {}): Promise<ListModelsResponse> {
    const request = checkedText(create(ListModelsRequestSchema, filters));
    return this.#unary(ChatService.method.listModels, call, (options) =>
      this.#chat.listModels(request, options),
    );
  }

  /** Yields every model that matches the filters, across all pages. The call options apply to each page. */
  async *models(filters: ModelFilters = {}, call: CallOptions = {}): AsyncGenerator<Model, void, undefined> {
    let pageToken = filters.pageToken ?? "";
    do {
      const page = await this.listModels({ ...filters, pageToken }, call);
      yield* page.models;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /** Returns one model by its id or an alias. For an unknown id, the error's `resourceName` is the id. */
  async getModel(id: string, call: CallOptions = {}): Promise<GetModelResponse> {
    const request = checkedText(create(GetModelRequestSchema, { id }));
    return this.#unary(ChatService.method.getModel, call, (options) => this.#chat.getModel(request, options));
  }

  /**
   * Returns one page of a report: the calls of a period, summed by the dimensions of the query. The key sees its
   * own tenant, or all tenants if it has the scope `admin`.
   */
  async queryUsage(query: UsageQuery = {}, call: CallOptions = {}): Promise<QueryUsageResponse> {
    const request = checkedText(create(QueryUsageRequestSchema, query));
    return this.#unary(UsageService.method.queryUsage, call, (options) =>
      this.#usage.queryUsage(request, options),
    );
  }

  /** Returns what is used, reserved and left of the limits of these tenants, or of all that the key may see. */
  async listQuotas(tenants: readonly string[] = [], call: CallOptions = {}): Promise<ListQuotasResponse> {
    const request = checkedText(create(ListQuotasRequestSchema, { tenants: [...tenants] }));
    return this.#unary(UsageService.method.listQuotas, call, (options) =>
      this.#usage.listQuotas(request, options),
    );
  }

  /** Forgets the requests and tokens per minute that a tenant has used. The key needs the scope `admin`. */
  async resetQuota(tenant: string, call: CallOptions = {}): Promise<ResetQuotaResponse> {
    const request = checkedText(create(ResetQuotaRequestSchema, { tenant }));
    return this.#unary(UsageService.method.resetQuota, call, (options) =>
      this.#usage.resetQuota(request, options),
    );
  }

  /** Closes the connection and cancels every call in flight. */
  close(): void {
    this.#sessions.abort(cancelledByCaller("the client was closed"));
  }

  async #unary<T extends Message>(
    method: DescMethod,
    call: CallOptions,
    send: (options: ConnectCallOptions) => Promise<T>,
  ): Promise<T> {
    const requestId = requestIdOf(call);
    const options = this.#options(method, call, requestId);
    const controller = new AbortController();
    const abort = (): void => {
      controller.abort(cancelledByCaller("the call was aborted", call.signal?.reason));
    };
    call.signal?.addEventListener("abort", abort, { once: true });
    if (call.signal?.aborted === true) {
      abort();
    }
    let trailers = new Headers();
    let response: T;
    try {
      const { signal } = controller;
      response = withJson(await send({ ...options, signal, onTrailer: (each) => (trailers = each) }));
    } catch (thrown) {
      throw chatErrorOf(thrown, requestId);
    } finally {
      call.signal?.removeEventListener("abort", abort);
    }
    // Not inside the try: an exception of the caller's callback must reach the caller unchanged.
    call.onInfo?.(callInfoOf(trailers, requestId));
    return response;
  }

  #options(method: DescMethod, call: CallOptions, requestId: string): ConnectCallOptions {
    const headers = checkedHeaders(call.headers);
    this.#headers.forEach((value, name) => {
      headers.set(name, value);
    });
    headers.set(REQUEST_ID, requestId);
    const timeoutMs =
      checkedMs(call.timeoutMs, "timeoutMs") ??
      this.#timeoutMs ??
      policyOf(method.parent.typeName, method.name).timeoutMs;
    const contextValues = createContextValues().set(WAIT_FOR_READY, call.waitForReady ?? this.#waitForReady);
    // Connect sends fractions, which servers reject.
    return { headers, contextValues, timeoutMs: Math.ceil(timeoutMs) };
  }
}

function headersOf({ key, upstreamKey }: ClientOptions): Headers {
  const headers = new Headers({ "user-agent": USER_AGENT });
  if (key !== undefined) {
    headers.set("authorization", `Bearer ${checkedKey(key, "key")}`);
  }
  if (upstreamKey !== undefined) {
    headers.set("x-together-api-key", checkedKey(upstreamKey, "upstreamKey"));
  }
  return headers;
}

function requestIdOf(call: CallOptions): string {
  return call.requestId ? checkedRequestId(call.requestId) : randomUUID();
}
