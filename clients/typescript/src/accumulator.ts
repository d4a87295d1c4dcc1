/**
 * Collects the events of a stream into the response that Complete would have returned.
 *
 * Pure: no connection, no clock. The contract documents the rules at `ChatService.StreamComplete`:
 * text is appended to text, and a tool call's arguments to the arguments of the call with the same
 * index. Each choice is collected separately, and unknown events are ignored. The service numbers
 * the tool calls of a response, so their indexes are trusted and never changed.
 */
import { create } from "@bufbuild/protobuf";

import {
  type Choice,
  ChoiceSchema,
  FinishReason,
  LogprobsSchema,
  ReasoningField,
  Role,
  type TokenLogprob,
  type ToolCall,
  ToolCallSchema,
} from "./gen/togetherchat/v1/chat_pb.js";
import {
  type ChoiceFinished,
  type Completed,
  type CompleteResponse,
  CompleteResponseSchema,
  type Delta,
  type Started,
  type StreamCompleteResponse,
  type ToolCallDelta,
} from "./gen/togetherchat/v1/chat_service_pb.js";

interface CallParts {
  id: string;
  name: string;
  arguments: string;
}

interface ChoiceParts {
  role: Role;
  text: string;
  reasoning: string;
  reasoningField: ReasoningField;
  refusal: string;
  readonly toolCalls: Map<number, CallParts>;
  tokens: TokenLogprob[] | undefined;
  finished: ChoiceFinished | undefined;
}

/** Collects events one by one; `response()` returns the response so far. */
export class Accumulator {
  readonly #choices = new Map<number, ChoiceParts>();
  #started: Started | undefined;
  #completed: Completed | undefined;
  #empty = true;

  /** Whether the last event was added. */
  get whole(): boolean {
    return this.#completed !== undefined;
  }

  /** Whether no known event was added. */
  get empty(): boolean {
    return this.#empty;
  }

  /** Adds the next event. An unknown event changes nothing. */
  add({ event }: StreamCompleteResponse): void {
    switch (event.case) {
      case "started":
        this.#started = event.value;
        break;
      case "delta":
        addDelta(this.#choice(event.value.choiceIndex), event.value);
        break;
      case "choiceFinished":
        this.#choice(event.value.choiceIndex).finished = event.value;
        break;
      case "completed":
        this.#completed = event.value;
        break;
      case undefined:
        return;
    }
    this.#empty = false;
  }

  /** Returns what was collected so far; see `whole`. */
  response(): CompleteResponse {
    const started = this.#started;
    const completed = this.#completed;
    return create(CompleteResponseSchema, {
      id: started?.id ?? "",
      model: started?.model ?? "",
      ...(started?.createTime && { createTime: started.createTime }),
      systemFingerprint: started?.systemFingerprint ?? "",
      choices: inOrder(this.#choices).map(([index, choice]) => buildChoice(index, choice)),
      ...(completed?.usage && { usage: completed.usage }),
      warnings: [...(completed?.warnings ?? [])],
      attempts: completed?.attempts ?? 0,
      ...(completed?.timings && { timings: completed.timings }),
    });
  }

  #choice(index: number): ChoiceParts {
    let choice = this.#choices.get(index);
    if (choice === undefined) {
      choice = emptyChoice();
      this.#choices.set(index, choice);
    }
    return choice;
  }
}

function emptyChoice(): ChoiceParts {
  return {
    role: Role.ASSISTANT,
    text: "",
    reasoning: "",
    reasoningField: ReasoningField.UNSPECIFIED,
    refusal: "",
    toolCalls: new Map(),
    tokens: undefined,
    finished: undefined,
  };
}

function addDelta(choice: ChoiceParts, delta: Delta): void {
  choice.role = delta.role || choice.role;
  choice.reasoningField = delta.reasoningField || choice.reasoningField;
  choice.text += delta.text;
  choice.reasoning += delta.reasoning;
  choice.refusal += delta.refusal;
  for (const piece of delta.toolCalls) {
    addPiece(choice.toolCalls, piece);
  }
  if (delta.logprobs !== undefined) {
    choice.tokens ??= [];
    choice.tokens.push(...delta.logprobs.tokens);
  }
}

function addPiece(calls: Map<number, CallParts>, piece: ToolCallDelta): void {
  const call = calls.get(piece.index) ?? { id: "", name: "", arguments: "" };
  call.id = piece.id || call.id;
  call.name = piece.name || call.name;
  call.arguments += piece.arguments;
  calls.set(piece.index, call);
}

function buildChoice(index: number, pieces: ChoiceParts): Choice {
  const { text, tokens, finished } = pieces;
  const choice = create(ChoiceSchema, {
    index,
    message: {
      role: pieces.role,
      content: text ? [{ part: { case: "text", value: text } }] : [],
      toolCalls: inOrder(pieces.toolCalls).map(([, call]) => buildCall(call)),
      reasoning: pieces.reasoning,
      reasoningField: pieces.reasoningField,
      refusal: pieces.refusal,
    },
    finishReason: finished?.finishReason ?? FinishReason.UNSPECIFIED,
    finishReasonRaw: finished?.finishReasonRaw ?? "",
  });
  if (tokens !== undefined) {
    choice.logprobs = create(LogprobsSchema, { tokens: [...tokens] });
  }
  if (finished?.seed !== undefined) {
    choice.seed = finished.seed;
  }
  return choice;
}

function buildCall({ id, name, arguments: text }: CallParts): ToolCall {
  return create(ToolCallSchema, { id, call: { case: "function", value: { name, arguments: text } } });
}

function inOrder<T>(byIndex: ReadonlyMap<number, T>): [number, T][] {
  return [...byIndex].sort(([left], [right]) => left - right);
}
