/**
 * A stream as its reader sees it: events or text as they come, and the answer they add up to.
 *
 * Owns the end of a stream: whole, broken, or left by its reader. Knows neither the connection
 * nor retries; `client.ts` gives it a way to begin the call.
 */
import { type CallInfo, callInfoOf } from "./call_info.js";
import { type ChatError, chatErrorOf, incompleteAnswer } from "./errors.js";
import { Accumulator } from "./fold.js";
import type { CompleteResponse, StreamCompleteResponse } from "./gen/togetherchat/v1/chat_service_pb.js";
import { callerLeft } from "./status.js";

type Event = StreamCompleteResponse;

/** How a stream is begun, and what is to be told of its end. */
export interface StreamCall {
  readonly requestId: string;
  readonly begin: (signal: AbortSignal, onTrailer: (trailers: Headers) => void) => AsyncIterable<Event>;
  readonly signal: AbortSignal | undefined;
  readonly onInfo: ((info: CallInfo) => void) | undefined;
}

/**
 * Iterate over it for the events, or over `text()` for the text alone.
 *
 * The call begins when the first event is asked for. Iteration ends normally only when the
 * answer is whole; every other end is a `ChatError`, with what had come in its `partial`.
 * Leaving the loop (`break`, `return`, an exception) cancels the call, and so does the signal.
 */
export class AnswerStream implements AsyncIterableIterator<Event> {
  readonly #call: StreamCall;
  readonly #fold = new Accumulator();
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
        this.#fold.add(result.value);
        return result;
      }
      this.#finish();
    } catch (thrown) {
      this.#failure ??= chatErrorOf(thrown, this.requestId, this.#partial());
      this.#end();
    }
    // Outside of the try: an exception of the caller's own is the caller's.
    if (this.#info !== undefined) {
      this.#call.onInfo?.(this.#info);
    }
    return this.#over();
  }

  /** What leaving a `for await` does: it ends the call. */
  return(): Promise<IteratorResult<Event, undefined>> {
    this.#left = true;
    this.cancel();
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** The pieces of one choice's text as they come. */
  async *text(choiceIndex = 0): AsyncGenerator<string, void, undefined> {
    for await (const { event } of this) {
      if (event.case === "delta" && event.value.text !== "" && event.value.choiceIndex === choiceIndex) {
        yield event.value.text;
      }
    }
  }

  /** Read what is left and return the whole answer. */
  async finish(): Promise<CompleteResponse> {
    while ((await this.next()).done !== true);
    return this.response;
  }

  /** Stop the answer. Whoever is still iterating gets a `ChatError` with code CANCELLED. */
  cancel(): void {
    if (!this.#ended) {
      this.#controller.abort(callerLeft("the stream was cancelled", this.#call.signal?.reason));
      void this.#drain();
    }
  }

  /** The answer as far as it has come; see `whole`. */
  get response(): CompleteResponse {
    return this.#fold.response();
  }

  /** Whether the end of the answer came. */
  get whole(): boolean {
    return this.#fold.whole;
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

  /** Reads a cancelled call to its end, where connect-node clears the timer of its deadline. */
  async #drain(): Promise<void> {
    try {
      for (let left = await this.#events?.next(); left?.done === false; left = await this.#events?.next()) {
        this.#fold.add(left.value);
      }
    } catch (thrown) {
      this.#failure ??= chatErrorOf(thrown, this.requestId, this.#partial());
      this.#end();
    }
  }

  #finish(): void {
    this.#end();
    if (!this.#fold.whole) {
      throw incompleteAnswer(this.#trailers, this.requestId, this.#partial());
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
    return this.#fold.empty ? undefined : this.#fold.response();
  }
}
