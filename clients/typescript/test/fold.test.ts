/** The fold of a stream: what the events add up to. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { Accumulator } from "../src/fold.js";
import {
  FinishReason,
  type Logprobs,
  LogprobsSchema,
  Role,
  type Choice,
} from "../src/gen/togetherchat/v1/chat_pb.js";
import {
  type CompleteResponse,
  CompleteResponseSchema,
  type DeltaSchema,
  type StreamCompleteResponse,
  StreamCompleteResponseSchema,
} from "../src/gen/togetherchat/v1/chat_service_pb.js";
import { seeded } from "./seeded.js";

type Event = NonNullable<
  Exclude<MessageInitShape<typeof StreamCompleteResponseSchema>, StreamCompleteResponse>["event"]
>;

function event(each: Event): StreamCompleteResponse {
  return create(StreamCompleteResponseSchema, { event: each });
}

function delta(value: MessageInitShape<typeof DeltaSchema>): StreamCompleteResponse {
  return event({ case: "delta", value });
}

function fold(events: Iterable<StreamCompleteResponse>): CompleteResponse {
  const accumulator = new Accumulator();
  for (const each of events) {
    accumulator.add(each);
  }
  return accumulator.response();
}

function tokens(...texts: string[]): Logprobs {
  return create(LogprobsSchema, { tokens: texts.map((token) => ({ token, logprob: -0.5 })) });
}

const BIG = 2n ** 63n + 1n;

test("a whole stream is the answer of Complete: every field has its event, big seeds included", () => {
  const createTime = timestampFromMs(1_700_000_000_000);
  const usage = { promptTokens: 1, completionTokens: 2, totalTokens: 3, costNanoUsd: 2n ** 60n };
  const answer = fold([
    event({ case: "started", value: { id: "chat-1", model: "m", createTime, systemFingerprint: "fp" } }),
    delta({ role: Role.ASSISTANT, reasoning: "Hm", reasoningKey: "reasoning_content" }),
    delta({ text: "Hel", logprobs: tokens("Hel") }),
    delta({ text: "lo", logprobs: tokens("lo") }),
    event({
      case: "choiceFinished",
      value: { finishReason: FinishReason.STOP, finishReasonRaw: "eos", seed: BIG },
    }),
    event({ case: "completed", value: { usage, warnings: [{ message: "w" }], attempts: 2 } }),
  ]);
  const expected = create(CompleteResponseSchema, {
    id: "chat-1",
    model: "m",
    createTime,
    systemFingerprint: "fp",
    choices: [
      {
        message: {
          role: Role.ASSISTANT,
          content: [{ part: { case: "text", value: "Hello" } }],
          reasoning: "Hm",
          reasoningKey: "reasoning_content",
        },
        finishReason: FinishReason.STOP,
        finishReasonRaw: "eos",
        logprobs: tokens("Hel", "lo"),
        seed: BIG,
      },
    ],
    usage,
    warnings: [{ message: "w" }],
    attempts: 2,
  });
  assert.deepEqual(answer, expected);
});

test("an empty stream is an empty answer", () => {
  assert.deepEqual(fold([]), create(CompleteResponseSchema));
});

test("an event that is not known changes nothing: field 99 is not ours", () => {
  const unknown = fromBinary(StreamCompleteResponseSchema, Buffer.from("9a0603616263", "hex"));
  const accumulator = new Accumulator();
  accumulator.add(unknown);
  assert.deepEqual(
    [unknown.event.case, accumulator.empty, accumulator.response()],
    [undefined, true, create(CompleteResponseSchema)],
  );
});

test("an answer is whole only with its last event, whatever choices have finished", () => {
  const accumulator = new Accumulator();
  accumulator.add(event({ case: "choiceFinished", value: {} }));
  const before = accumulator.whole;
  accumulator.add(event({ case: "completed", value: {} }));
  assert.deepEqual([before, accumulator.whole], [false, true]);
});

test("a choice finishes once: a seed of zero is a seed, and none is none", () => {
  const [zero, none] = [{ seed: 0n }, {}].map((value) => fold([event({ case: "choiceFinished", value })]));
  assert.deepEqual([zero?.choices[0]?.seed, none?.choices[0]?.seed], [0n, undefined]);
});

test("no text is no content, as Complete gives it where only tools are called", () => {
  const answer = fold([delta({ role: Role.ASSISTANT }), event({ case: "choiceFinished", value: {} })]);
  assert.deepEqual(answer.choices[0]?.message?.content, []);
});

test("tool calls are merged by index and come in its order, though pieces come mixed", () => {
  const pieces = [
    { index: 1, id: "b", name: "second", arguments: '{"y"' },
    { index: 0, id: "a", name: "first", arguments: "{}" },
    { index: 1, arguments: ":12345678901234567890}" },
  ];
  const answer = fold(pieces.map((piece) => delta({ toolCalls: [piece] })));
  assert.deepEqual(
    answer.choices[0]?.message?.toolCalls.map(({ id, call }) => [
      id,
      call.value?.name,
      call.value?.arguments,
    ]),
    [
      ["a", "first", "{}"],
      ["b", "second", '{"y":12345678901234567890}'],
    ],
  );
});

test("a response can be read in the middle: it takes nothing away from what follows", () => {
  const accumulator = new Accumulator();
  const texts = ["Hel", "lo"].map((text) => {
    accumulator.add(delta({ text, logprobs: tokens(text) }));
    return accumulator.response();
  });
  assert.deepEqual(
    texts.map(({ choices }) => [
      choices[0]?.message?.content[0]?.part.value,
      choices[0]?.logprobs?.tokens.length,
    ]),
    [
      ["Hel", 1],
      ["Hello", 2],
    ],
  );
});

test("however an answer is cut, its fold is the same", () => {
  for (let seed = 0; seed < 200; seed += 1) {
    const random = seeded(seed);
    const answer = someAnswer(random);
    const events = [
      event({ case: "started", value: { id: answer.id, model: answer.model } }),
      ...interleaved(
        random,
        answer.choices.map((choice) => deltasOf(random, choice)),
      ),
      ...answer.choices.map(({ index, finishReason, finishReasonRaw }) =>
        event({ case: "choiceFinished", value: { choiceIndex: index, finishReason, finishReasonRaw } }),
      ),
      event({ case: "completed", value: { usage: { totalTokens: 7 }, attempts: 1 } }),
    ];
    assert.deepEqual(fold(events), answer, `seed ${String(seed)}`);
  }
});

type Random = (below: number) => number;

const ALPHABET = ["a", "ß", "漢", "🦀", "\r\n", '"', "\\"];

function someText(random: Random, longest: number): string {
  return Array.from({ length: random(longest + 1) }, () => ALPHABET[random(ALPHABET.length)]).join("");
}

function someAnswer(random: Random): CompleteResponse {
  const indexes = [0, 1, 2, 3, 4, 5].filter(() => random(3) === 0);
  return create(CompleteResponseSchema, {
    id: "chat-1",
    model: "m",
    usage: { totalTokens: 7 },
    attempts: 1,
    choices: indexes.map((index) => {
      const [text, reasoning] = [someText(random, 20), someText(random, 20)];
      const calls = Array.from({ length: random(3) }, () => someText(random, 12));
      return {
        index,
        message: {
          role: Role.ASSISTANT,
          content: text ? [{ part: { case: "text" as const, value: text } }] : [],
          reasoning,
          reasoningKey: reasoning ? "reasoning" : "",
          toolCalls: calls.map((text, place) => ({
            id: `c${String(place)}`,
            call: { case: "function" as const, value: { name: "f", arguments: text } },
          })),
        },
        finishReason: FinishReason.STOP,
        finishReasonRaw: "stop",
      };
    }),
  });
}

/** `text` in pieces, cut anywhere, but not within a character. */
function cut(random: Random, text: string): string[] {
  const characters = Array.from(text);
  const places = Array.from({ length: random(5) }, () => random(characters.length + 1)).sort((a, b) => a - b);
  return [0, ...places].map((start, piece) =>
    characters.slice(start, places[piece] ?? characters.length).join(""),
  );
}

function deltasOf(random: Random, { index, message }: Choice): StreamCompleteResponse[] {
  assert(message !== undefined);
  const here = { choiceIndex: index };
  const text = message.content.map(({ part }) => (part.case === "text" ? part.value : "")).join("");
  return [
    delta({ ...here, role: message.role }),
    ...cut(random, message.reasoning).map((reasoning) =>
      delta({ ...here, reasoning, reasoningKey: message.reasoningKey }),
    ),
    ...cut(random, text).map((piece) => delta({ ...here, text: piece })),
    ...message.toolCalls.flatMap(({ id, call }, place) =>
      cut(random, call.value?.arguments ?? "").map((text, piece) =>
        delta({
          ...here,
          toolCalls: [
            { index: place, arguments: text, ...(piece === 0 && { id, name: call.value?.name ?? "" }) },
          ],
        }),
      ),
    ),
  ];
}

/** The events of all sequences, mixed in any way that keeps the order of each. */
function interleaved<T>(random: Random, sequences: T[][]): T[] {
  const left = sequences.map((sequence) => [...sequence]).filter(({ length }) => length > 0);
  const mixed: T[] = [];
  while (left.length > 0) {
    const place = random(left.length);
    mixed.push(...(left[place]?.splice(0, 1) ?? []));
    if (left[place]?.length === 0) {
      left.splice(place, 1);
    }
  }
  return mixed;
}
