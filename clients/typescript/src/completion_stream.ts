/**
 * A completion while the model generates it: events or text as they arrive, and the response so far.
 *
 * Owns the end of a stream: whole, failed, or cancelled by its reader. It knows neither the
 * connection nor retries; `client.ts` passes a function that begins the call.
 */
import { type CallInfo, callInfoOf } from "./call_info.js";
import { type ChatError, chatErrorOf, incompleteStream } from "./errors.js";
import { Accumulator } from "./accumulator.js";
import type { CompleteResponse, StreamCompleteResponse } from "./gen/togetherchat/v1/chat_service_pb.js";
import { withJson } from "./json.js";
import { cancelledByCaller } from "./status.js";

type Event = StreamCompleteResponse;

/** How a stream begins, and where its end is reported. */
export interface StreamCall {
  readonly requestId: string;
  readonly begin: (signal: AbortSignal, onTrailer: (trailers: Headers) => void) => AsyncIterable<Event>;
  readonly signal: AbortSignal | undefined;
  readonly onInfo: ((info: CallInfo) => void) | undefined;
}

/**
 * An async iterator of events; `text()` iterates over the text alone.
 *
 * The call begins when the first event is requested. Iteration ends normally only after the last
 * event. Every other end is a `ChatError` with the partial response in `partial`. Leaving the loop
 * (`break`, `return`, an exception) cancels the call, and so does aborting the signal.
 */
export class CompletionStream implements AsyncIterableIterator<Event> {
  readonly #call: StreamCall;
  readonly #accumulator = new Accumulator();
  readonly #controller = new AbortController();
  #events: AsyncIterator<Event> | undefined;
  #trailers = new Headers();
  #info: CallInfo | undefined;
  #failure: ChatError | undefined;
  #ended = false;
  #left = false;

  constructor(call: StreamCall) {
    this.#call = call;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Event, undefined>> {
    if (this.#ended) {
      return this.#over();
    }
    try {
      const result = await this.#begun().next();
      if (result.done !== true) {
        this.#accumulator.add(result.value);
        withJson(result.value);
        return result;
      }
      this.#finish();
    } catch (thrown) {
      this.#failure ??= chatErrorOf(thrown, this.requestId, this.#partial());
      this.#end();
    }
    // Not inside the try: an exception of the caller's callback must reach the caller unchanged.
    if (this.#info !== undefined) {
      this.#call.onInfo?.(this.#info);
    }
    return this.#over();
  }

  /** Cancels the call; leaving a `for await` loop does this. */
  return(): Promise<IteratorResult<Event, undefined>> {
    this.#left = true;
    this.cancel();
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Yields the text deltas of one choice as they arrive. */
  async *text(choiceIndex = 0): AsyncGenerator<string, void, undefined> {
    for await (const { event } of this) {
      if (event.case === "delta" && event.value.text !== "" && event.value.choiceIndex === choiceIndex) {
        yield event.value.text;
      }
    }
  }

  /** Reads the stream to its end and returns the whole response. */
  async finish(): Promise<CompleteResponse> {
    while ((await this.next()).done !== true);
    return this.response;
  }

  /** Cancels the call. A reader gets a `ChatError` with code CANCELLED. */
  cancel(): void {
    if (!this.#ended) {
      this.#controller.abort(cancelledByCaller("the stream was cancelled", this.#call.signal?.reason));
      void this.#drain();
    }
  }

  /** The response received so far; see `whole`. */
  get response(): CompleteResponse {
    return withJson(this.#accumulator.response());
  }

  /** Whether the last event was received. */
  get whole(): boolean {
    return this.#accumulator.whole;
  }

  get requestId(): string {
    return this.#info?.requestId ?? this.#call.requestId;
  }

  /** The call's ids, rate limits and trailers; undefined before its end. */
  get info(): CallInfo | undefined {
    return this.#info ?? this.#failure?.info;
  }

  #begun(): AsyncIterator<Event> {
    if (this.#events === undefined) {
      const { begin, signal } = this.#call;
      signal?.addEventListener("abort", this.#abort, { once: true });
      if (signal?.aborted === true) {
        this.cancel();
      }
      const events = begin(this.#controller.signal, (trailers) => (this.#trailers = trailers));
      this.#events = events[Symbol.asyncIterator]();
    }
    return this.#events;
  }

  readonly #abort = (): void => {
    this.cancel();
  };

  /** Reads a cancelled call to its end. Only there does connect-node clear the timer of the deadline. */
  async #drain(): Promise<void> {
    try {
      for (let left = await this.#events?.next(); left?.done === false; left = await this.#events?.next()) {
        this.#accumulator.add(left.value);
      }
    } catch (thrown) {
      this.#failure ??= chatErrorOf(thrown, this.requestId, this.#partial());
      this.#end();
    }
  }

  #finish(): void {
    this.#end();
    if (!this.#accumulator.whole) {
      throw incompleteStream(this.#trailers, this.requestId, this.#partial());
    }
    this.#info = callInfoOf(this.#trailers, this.requestId);
  }

  #over(): IteratorResult<Event, undefined> {
    if (this.#failure !== undefined && !this.#left) {
      throw this.#failure;
    }
    return { done: true, value: undefined };
  }

  #end(): void {
    this.#ended = true;
    this.#call.signal?.removeEventListener("abort", this.#abort);
  }

  #partial(): CompleteResponse | undefined {
    return this.#accumulator.empty ? undefined : this.response;
  }
}
