/**
 * Folds the events of a stream into the answer that Complete would have given.
 *
 * Pure: no connection, no clock. The law it follows is written at `ChatService.StreamComplete`:
 * text is appended to text, a tool call's arguments to the arguments of the call with the same
 * index, each choice by itself, and an event that is not known is none.
 */
import { create } from "@bufbuild/protobuf";

import {
  type Choice,
  ChoiceSchema,
  FinishReason,
  LogprobsSchema,
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

interface CallPieces {
  id: string;
  name: string;
  arguments: string;
}

interface ChoicePieces {
  role: Role;
  text: string;
  reasoning: string;
  reasoningKey: string;
  readonly toolCalls: Map<number, CallPieces>;
  tokens: TokenLogprob[] | undefined;
  finished: ChoiceFinished | undefined;
}

/** Takes events one by one; `response()` is the answer as far as it has come. */
export class Accumulator {
  readonly #choices = new Map<number, ChoicePieces>();
  #started: Started | undefined;
  #completed: Completed | undefined;
  #empty = true;

  /** Whether the last event came: nothing is missing. */
  get whole(): boolean {
    return this.#completed !== undefined;
  }

  /** Whether no event that is known came. */
  get empty(): boolean {
    return this.#empty;
  }

  /** Take the next event. One that this version does not know changes nothing. */
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

  /** The answer; of a stream that is not `whole`, the part that came. */
  response(): CompleteResponse {
    const started = this.#started;
    const completed = this.#completed;
    return create(CompleteResponseSchema, {
      id: started?.id ?? "",
      model: started?.model ?? "",
      ...(started?.createTime && { createTime: started.createTime }),
      systemFingerprint: started?.systemFingerprint ?? "",
      choices: inOrder(this.#choices).map(([index, choice]) => foldChoice(index, choice)),
      ...(completed?.usage && { usage: completed.usage }),
      warnings: [...(completed?.warnings ?? [])],
      attempts: completed?.attempts ?? 0,
    });
  }

  #choice(index: number): ChoicePieces {
    let choice = this.#choices.get(index);
    if (choice === undefined) {
      choice = emptyChoice();
      this.#choices.set(index, choice);
    }
    return choice;
  }
}

function emptyChoice(): ChoicePieces {
  return {
    role: Role.ASSISTANT,
    text: "",
    reasoning: "",
    reasoningKey: "",
    toolCalls: new Map(),
    tokens: undefined,
    finished: undefined,
  };
}

function addDelta(choice: ChoicePieces, delta: Delta): void {
  choice.role = delta.role || choice.role;
  choice.reasoningKey = delta.reasoningKey || choice.reasoningKey;
  choice.text += delta.text;
  choice.reasoning += delta.reasoning;
  for (const piece of delta.toolCalls) {
    addPiece(choice.toolCalls, piece);
  }
  if (delta.logprobs !== undefined) {
    choice.tokens ??= [];
    choice.tokens.push(...delta.logprobs.tokens);
  }
}

function addPiece(calls: Map<number, CallPieces>, piece: ToolCallDelta): void {
  const call = calls.get(piece.index) ?? { id: "", name: "", arguments: "" };
  call.id = piece.id || call.id;
  call.name = piece.name || call.name;
  call.arguments += piece.arguments;
  calls.set(piece.index, call);
}

function foldChoice(index: number, pieces: ChoicePieces): Choice {
  const { text, tokens, finished } = pieces;
  const choice = create(ChoiceSchema, {
    index,
    message: {
      role: pieces.role,
      content: text ? [{ part: { case: "text", value: text } }] : [],
      toolCalls: inOrder(pieces.toolCalls).map(([, call]) => foldCall(call)),
      reasoning: pieces.reasoning,
      reasoningKey: pieces.reasoningKey,
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

function foldCall({ id, name, arguments: text }: CallPieces): ToolCall {
  return create(ToolCallSchema, { id, call: { case: "function", value: { name, arguments: text } } });
}

function inOrder<T>(byIndex: ReadonlyMap<number, T>): [number, T][] {
  return [...byIndex].sort(([left], [right]) => left - right);
}
