/** The accumulator: the response that the events of a stream add up to. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";

import { Accumulator } from "../src/accumulator.js";
import {
  FinishReason,
  type Logprobs,
  LogprobsSchema,
  ReasoningField,
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

function accumulate(events: Iterable<StreamCompleteResponse>): CompleteResponse {
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

test("a whole stream equals the response of Complete in every field, with a seed above 2^63", () => {
  const createTime = timestampFromMs(1_700_000_000_000);
  const usage = { promptTokens: 1, completionTokens: 2, totalTokens: 3, costNanoUsd: 2n ** 60n };
  const timings = { totalDuration: durationFromMs(2500) };
  const response = accumulate([
    event({ case: "started", value: { id: "chat-1", model: "m", createTime, systemFingerprint: "fp" } }),
    delta({ role: Role.ASSISTANT, reasoning: "Hm", reasoningField: ReasoningField.REASONING_CONTENT }),
    delta({ text: "Hel", logprobs: tokens("Hel"), refusal: "N" }),
    delta({ text: "lo", logprobs: tokens("lo"), refusal: "o" }),
    event({
      case: "choiceFinished",
      value: { finishReason: FinishReason.STOP, finishReasonRaw: "eos", seed: BIG },
    }),
    event({ case: "completed", value: { usage, warnings: [{ message: "w" }], attempts: 2, timings } }),
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
          reasoningField: ReasoningField.REASONING_CONTENT,
          refusal: "No",
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
    timings,
  });
  assert.deepEqual(response, expected);
});

test("without events the response is empty", () => {
  assert.deepEqual(accumulate([]), create(CompleteResponseSchema));
});

test("an unknown event changes nothing", () => {
  const unknown = fromBinary(StreamCompleteResponseSchema, Buffer.from("9a0603616263", "hex"));
  const accumulator = new Accumulator();
  accumulator.add(unknown);
  assert.deepEqual(
    [unknown.event.case, accumulator.empty, accumulator.response()],
    [undefined, true, create(CompleteResponseSchema)],
  );
});

test("a response is whole only after the last event, even if every choice has finished", () => {
  const accumulator = new Accumulator();
  accumulator.add(event({ case: "choiceFinished", value: {} }));
  const before = accumulator.whole;
  accumulator.add(event({ case: "completed", value: {} }));
  assert.deepEqual([before, accumulator.whole], [false, true]);
});

test("a seed of zero is kept, and a missing seed stays undefined", () => {
  const [zero, none] = [{ seed: 0n }, {}].map((value) =>
    accumulate([event({ case: "choiceFinished", value })]),
  );
  assert.deepEqual([zero?.choices[0]?.seed, none?.choices[0]?.seed], [0n, undefined]);
});

test("a message without text has no content, as in a response of Complete", () => {
  const response = accumulate([
    delta({ role: Role.ASSISTANT }),
    event({ case: "choiceFinished", value: {} }),
  ]);
  assert.deepEqual(response.choices[0]?.message?.content, []);
});

test("tool calls are merged and ordered by index, even if their deltas arrive mixed", () => {
  const pieces = [
    { index: 1, id: "b", name: "second", arguments: '{"y"' },
    { index: 0, id: "a", name: "first", arguments: "{}" },
    { index: 1, arguments: ":12345678901234567890}" },
  ];
  const response = accumulate(pieces.map((piece) => delta({ toolCalls: [piece] })));
  assert.deepEqual(
    response.choices[0]?.message?.toolCalls.map(({ id, call }) => [
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

test("the index alone identifies a tool call", () => {
  const pieces = [
    { index: 4, id: "same", name: "f", arguments: "1" },
    { index: 2, id: "same", name: "f", arguments: "2" },
  ];
  const response = accumulate([delta({ toolCalls: pieces })]);
  assert.deepEqual(
    response.choices[0]?.message?.toolCalls.map(({ call }) => call.value?.arguments),
    ["2", "1"],
  );
});

test("reading the response in the middle of a stream does not affect later events", () => {
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

test("splitting the text and interleaving the choices do not change the response", () => {
  for (let seed = 0; seed < 200; seed += 1) {
    const random = seeded(seed);
    const response = randomResponse(random);
    const events = [
      event({ case: "started", value: { id: response.id, model: response.model } }),
      ...interleaved(
        random,
        response.choices.map((choice) => deltasOf(random, choice)),
      ),
      ...response.choices.map(({ index, finishReason, finishReasonRaw }) =>
        event({ case: "choiceFinished", value: { choiceIndex: index, finishReason, finishReasonRaw } }),
      ),
      event({ case: "completed", value: { usage: { totalTokens: 7 }, attempts: 1 } }),
    ];
    assert.deepEqual(accumulate(events), response, `seed ${String(seed)}`);
  }
});

type Random = (below: number) => number;

const ALPHABET = ["a", "ß", "漢", "🦀", "\r\n", '"', "\\"];

function randomText(random: Random, longest: number): string {
  return Array.from({ length: random(longest + 1) }, () => ALPHABET[random(ALPHABET.length)]).join("");
}

function randomResponse(random: Random): CompleteResponse {
  const indexes = [0, 1, 2, 3, 4, 5].filter(() => random(3) === 0);
  return create(CompleteResponseSchema, {
    id: "chat-1",
    model: "m",
    usage: { totalTokens: 7 },
    attempts: 1,
    choices: indexes.map((index) => {
      const [text, reasoning] = [randomText(random, 20), randomText(random, 20)];
      const calls = Array.from({ length: random(3) }, () => randomText(random, 12));
      return {
        index,
        message: {
          role: Role.ASSISTANT,
          content: text ? [{ part: { case: "text" as const, value: text } }] : [],
          reasoning,
          reasoningField: reasoning ? ReasoningField.REASONING : ReasoningField.UNSPECIFIED,
          toolCalls: calls.map((text, callIndex) => ({
            id: `c${String(callIndex)}`,
            call: { case: "function" as const, value: { name: "f", arguments: text } },
          })),
        },
        finishReason: FinishReason.STOP,
        finishReasonRaw: "stop",
      };
    }),
  });
}

/** Splits `text` anywhere, but not within a character. */
function cut(random: Random, text: string): string[] {
  const characters = Array.from(text);
  const cuts = Array.from({ length: random(5) }, () => random(characters.length + 1)).sort((a, b) => a - b);
  return [0, ...cuts].map((start, piece) =>
    characters.slice(start, cuts[piece] ?? characters.length).join(""),
  );
}

function deltasOf(random: Random, { index, message }: Choice): StreamCompleteResponse[] {
  assert(message !== undefined);
  const here = { choiceIndex: index };
  const text = message.content.map(({ part }) => (part.case === "text" ? part.value : "")).join("");
  return [
    delta({ ...here, role: message.role }),
    ...cut(random, message.reasoning).map((reasoning) =>
      delta({ ...here, reasoning, reasoningField: message.reasoningField }),
    ),
    ...cut(random, text).map((piece) => delta({ ...here, text: piece })),
    ...message.toolCalls.flatMap(({ id, call }, callIndex) =>
      cut(random, call.value?.arguments ?? "").map((text, piece) =>
        delta({
          ...here,
          toolCalls: [
            { index: callIndex, arguments: text, ...(piece === 0 && { id, name: call.value?.name ?? "" }) },
          ],
        }),
      ),
    ),
  ];
}

/** Mixes the events of all sequences at random and keeps the order of each. */
function interleaved<T>(random: Random, sequences: T[][]): T[] {
  const left = sequences.map((sequence) => [...sequence]).filter(({ length }) => length > 0);
  const mixed: T[] = [];
  while (left.length > 0) {
    const chosen = random(left.length);
    mixed.push(...(left[chosen]?.splice(0, 1) ?? []));
    if (left[chosen]?.length === 0) {
      left.splice(chosen, 1);
    }
  }
  return mixed;
}
