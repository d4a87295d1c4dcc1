package dev.togetherchat.client;

import static dev.togetherchat.client.Events.completed;
import static dev.togetherchat.client.Events.delta;
import static dev.togetherchat.client.Events.finished;
import static dev.togetherchat.client.Events.started;
import static dev.togetherchat.client.Events.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Duration;
import com.google.protobuf.Timestamp;
import dev.togetherchat.v1.Choice;
import dev.togetherchat.v1.ChoiceFinished;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.Completed;
import dev.togetherchat.v1.ContentPart;
import dev.togetherchat.v1.Delta;
import dev.togetherchat.v1.FinishReason;
import dev.togetherchat.v1.FunctionCall;
import dev.togetherchat.v1.Logprobs;
import dev.togetherchat.v1.Message;
import dev.togetherchat.v1.ReasoningField;
import dev.togetherchat.v1.Role;
import dev.togetherchat.v1.Started;
import dev.togetherchat.v1.StreamCompleteResponse;
import dev.togetherchat.v1.Timings;
import dev.togetherchat.v1.TokenLogprob;
import dev.togetherchat.v1.ToolCall;
import dev.togetherchat.v1.ToolCallDelta;
import dev.togetherchat.v1.Usage;
import dev.togetherchat.v1.Warning;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The accumulator: the response that the events of a stream add up to. */
class AccumulatorTest {
    private static final long SEED = Long.parseUnsignedLong("9223372036854775809");

    private static CompleteResponse accumulate(List<StreamCompleteResponse> events) {
        Accumulator accumulator = new Accumulator();
        events.forEach(accumulator::add);
        return accumulator.response();
    }

    private static Logprobs tokens(String... texts) {
        Logprobs.Builder logprobs = Logprobs.newBuilder();
        for (String text : texts) {
            logprobs.addTokens(TokenLogprob.newBuilder().setToken(text).setLogprob(-0.5));
        }
        return logprobs.build();
    }

    /** An accumulated stream equals the response of Complete, in every field. */
    @Test
    void aWholeStreamEqualsTheResponseOfComplete() {
        Timestamp created = Timestamp.newBuilder().setSeconds(1_700_000_000).build();
        Usage usage = Usage.newBuilder().setPromptTokens(1).setTotalTokens(3).build();
        Warning warning = Warning.newBuilder().setMessage("w").build();
        Timings timings = Timings.newBuilder()
                .setTotalDuration(Duration.newBuilder().setSeconds(2).setNanos(500_000_000))
                .build();
        CompleteResponse response = accumulate(List.of(
                StreamCompleteResponse.newBuilder()
                        .setStarted(Started.newBuilder()
                                .setId("chat-1")
                                .setModel("m")
                                .setCreateTime(created)
                                .setSystemFingerprint("fp"))
                        .build(),
                delta(Delta.newBuilder()
                        .setRole(Role.ROLE_ASSISTANT)
                        .setReasoning("Hm")
                        .setReasoningField(ReasoningField.REASONING_FIELD_REASONING_CONTENT)),
                delta(Delta.newBuilder().setText("Hel").setLogprobs(tokens("Hel")).setRefusal("N")),
                delta(Delta.newBuilder().setText("lo").setLogprobs(tokens("lo")).setRefusal("o")),
                StreamCompleteResponse.newBuilder()
                        .setChoiceFinished(ChoiceFinished.newBuilder()
                                .setFinishReason(FinishReason.FINISH_REASON_STOP)
                                .setFinishReasonRaw("eos")
                                .setSeed(SEED))
                        .build(),
                StreamCompleteResponse.newBuilder()
                        .setCompleted(Completed.newBuilder()
                                .setUsage(usage)
                                .addWarnings(warning)
                                .setAttempts(2)
                                .setTimings(timings))
                        .build()));
        Message.Builder message = Message.newBuilder()
                .setRole(Role.ROLE_ASSISTANT)
                .addContent(ContentPart.newBuilder().setText("Hello"))
                .setReasoning("Hm")
                .setReasoningField(ReasoningField.REASONING_FIELD_REASONING_CONTENT)
                .setRefusal("No");
        CompleteResponse expected = CompleteResponse.newBuilder()
                .setId("chat-1")
                .setModel("m")
                .setCreateTime(created)
                .setSystemFingerprint("fp")
                .addChoices(Choice.newBuilder()
                        .setMessage(message)
                        .setFinishReason(FinishReason.FINISH_REASON_STOP)
                        .setFinishReasonRaw("eos")
                        .setLogprobs(tokens("Hel", "lo"))
                        .setSeed(SEED))
                .setUsage(usage)
                .addWarnings(warning)
                .setAttempts(2)
                .setTimings(timings)
                .build();
        assertEquals(expected, response);
    }

    /** A seed above the largest long is read as unsigned. */
    @Test
    void aSeedIsUnsigned() {
        ChoiceFinished.Builder finished = ChoiceFinished.newBuilder().setSeed(SEED);
        CompleteResponse response = accumulate(List.of(
                StreamCompleteResponse.newBuilder().setChoiceFinished(finished).build()));
        assertEquals("9223372036854775809", Long.toUnsignedString(response.getChoices(0).getSeed()));
    }

    /** Without events the response is empty. */
    @Test
    void anEmptyStreamIsAnEmptyResponse() {
        assertEquals(CompleteResponse.getDefaultInstance(), accumulate(List.of()));
    }

    /** An unknown event of a later contract version changes nothing. */
    @Test
    void anUnknownEventChangesNothing() {
        Accumulator accumulator = new Accumulator();
        accumulator.add(Events.unknown());
        assertTrue(accumulator.empty());
        assertEquals(CompleteResponse.getDefaultInstance(), accumulator.response());
    }

    /** A response is whole only after the last event, even if every choice has finished. */
    @Test
    void aResponseIsWholeOnlyAfterTheLastEvent() {
        Accumulator accumulator = new Accumulator();
        accumulator.add(finished(0));
        assertFalse(accumulator.whole());
        accumulator.add(completed());
        assertTrue(accumulator.whole());
    }

    /** A message without text has no content, as in a response of Complete. */
    @Test
    void noTextIsNoContent() {
        CompleteResponse response = accumulate(List.of(delta(Delta.newBuilder().setRole(Role.ROLE_ASSISTANT)), finished(0)));
        assertEquals(List.of(), response.getChoices(0).getMessage().getContentList());
    }

    /** Tool calls are merged by index and ordered by it, even if their deltas arrive mixed. */
    @Test
    void toolCallsAreMergedAndOrderedByIndex() {
        ToolCallDelta.Builder[] pieces = {
            ToolCallDelta.newBuilder().setIndex(1).setId("b").setName("second").setArguments("{\"y\""),
            ToolCallDelta.newBuilder().setIndex(0).setId("a").setName("first").setArguments("{}"),
            ToolCallDelta.newBuilder().setIndex(1).setArguments(":2}"),
        };
        List<StreamCompleteResponse> events = new ArrayList<>();
        for (ToolCallDelta.Builder piece : pieces) {
            events.add(delta(Delta.newBuilder().addToolCalls(piece)));
        }
        List<ToolCall> expected = List.of(call("a", "first", "{}"), call("b", "second", "{\"y\":2}"));
        assertEquals(expected, accumulate(events).getChoices(0).getMessage().getToolCallsList());
    }

    /** The index alone identifies a tool call: the accumulator does not number calls itself. */
    @Test
    void theIndexAloneIdentifiesAToolCall() {
        Delta.Builder both = Delta.newBuilder()
                .addToolCalls(ToolCallDelta.newBuilder().setIndex(4).setId("same").setName("f").setArguments("1"))
                .addToolCalls(ToolCallDelta.newBuilder().setIndex(2).setId("same").setName("f").setArguments("2"));
        List<ToolCall> expected = List.of(call("same", "f", "2"), call("same", "f", "1"));
        assertEquals(expected, accumulate(List.of(delta(both))).getChoices(0).getMessage().getToolCallsList());
    }

    /** Reading a response in the middle of a stream does not affect later events. */
    @Test
    void aResponseCanBeReadInTheMiddle() {
        Accumulator accumulator = new Accumulator();
        accumulator.add(delta(Delta.newBuilder().setText("Hel").setLogprobs(tokens("Hel"))));
        CompleteResponse early = accumulator.response();
        accumulator.add(delta(Delta.newBuilder().setText("lo").setLogprobs(tokens("lo"))));
        assertEquals("Hel", Messages.textOf(early));
        assertEquals(1, early.getChoices(0).getLogprobs().getTokensCount());
        assertEquals("Hello", Messages.textOf(accumulator.response()));
    }

    /** An unknown role, reasoning field and finish reason keep their numbers. */
    @Test
    void unknownEnumValuesAreKept() {
        CompleteResponse response = accumulate(List.of(
                delta(Delta.newBuilder().setRoleValue(77).setReasoningFieldValue(76)),
                StreamCompleteResponse.newBuilder()
                        .setChoiceFinished(ChoiceFinished.newBuilder().setFinishReasonValue(78))
                        .build()));
        assertEquals(77, response.getChoices(0).getMessage().getRoleValue());
        assertEquals(76, response.getChoices(0).getMessage().getReasoningFieldValue());
        assertEquals(78, response.getChoices(0).getFinishReasonValue());
    }

    /** The response does not depend on how its text is split or how its choices are interleaved. */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
    void splittingAndInterleavingDoNotChangeTheResponse(long seed) {
        Random random = new Random(seed);
        CompleteResponse.Builder response =
                CompleteResponse.newBuilder().setId("chat-1").setModel("m").setAttempts(1);
        List<Deque<StreamCompleteResponse>> sequences = new ArrayList<>();
        for (int index = 0; index < 1 + random.nextInt(3); index++) {
            Choice choice = randomChoice(random, index);
            response.addChoices(choice);
            sequences.add(new ArrayDeque<>(deltasOf(random, choice)));
        }
        List<StreamCompleteResponse> events = new ArrayList<>(List.of(started("chat-1")));
        while (!sequences.isEmpty()) {
            Deque<StreamCompleteResponse> chosen = sequences.get(random.nextInt(sequences.size()));
            events.add(chosen.remove());
            sequences.removeIf(Deque::isEmpty);
        }
        response.getChoicesList().forEach(choice -> events.add(finished(choice.getIndex())));
        events.add(completed());
        assertEquals(response.build(), accumulate(events));
    }

    private static ToolCall call(String id, String name, String arguments) {
        FunctionCall.Builder function = FunctionCall.newBuilder().setName(name).setArguments(arguments);
        return ToolCall.newBuilder().setId(id).setFunction(function).build();
    }

    private static Choice randomChoice(Random random, int index) {
        String text = randomText(random);
        String reasoning = randomText(random);
        Message.Builder message = Message.newBuilder()
                .setRole(Role.ROLE_ASSISTANT)
                .setReasoning(reasoning)
                .setReasoningField(
                        reasoning.isEmpty()
                                ? ReasoningField.REASONING_FIELD_UNSPECIFIED
                                : ReasoningField.REASONING_FIELD_REASONING);
        if (!text.isEmpty()) {
            message.addContent(ContentPart.newBuilder().setText(text));
        }
        for (int callIndex = 0; callIndex < random.nextInt(3); callIndex++) {
            message.addToolCalls(call("c" + callIndex, "f", randomText(random)));
        }
        return Choice.newBuilder()
                .setIndex(index)
                .setMessage(message)
                .setFinishReason(FinishReason.FINISH_REASON_STOP)
                .setFinishReasonRaw("stop")
                .build();
    }

    private static String randomText(Random random) {
        StringBuilder text = new StringBuilder();
        for (int count = 0; count < random.nextInt(20); count++) {
            text.append("aé漢\n\"{}\\ ".charAt(random.nextInt(9)));
        }
        return text.toString();
    }

    private static List<StreamCompleteResponse> deltasOf(Random random, Choice choice) {
        Message message = choice.getMessage();
        List<Delta.Builder> deltas = new ArrayList<>();
        deltas.add(Delta.newBuilder().setRole(message.getRole()));
        cut(random, message.getReasoning())
                .forEach(piece -> deltas.add(
                        Delta.newBuilder().setReasoning(piece).setReasoningField(message.getReasoningField())));
        cut(random, Messages.textOf(message))
                .forEach(piece -> deltas.add(Delta.newBuilder().setText(piece)));
        for (int index = 0; index < message.getToolCallsCount(); index++) {
            deltas.addAll(deltasOf(random, index, message.getToolCalls(index)));
        }
        return each(deltas, delta -> delta(delta.setChoiceIndex(choice.getIndex())));
    }

    private static List<Delta.Builder> deltasOf(Random random, int index, ToolCall call) {
        List<ToolCallDelta.Builder> pieces = each(
                cut(random, call.getFunction().getArguments()),
                piece -> ToolCallDelta.newBuilder().setIndex(index).setArguments(piece));
        pieces.get(0).setId(call.getId()).setName(call.getFunction().getName());
        return each(pieces, piece -> Delta.newBuilder().addToolCalls(piece));
    }

    /** Splits a text anywhere. */
    private static List<String> cut(Random random, String text) {
        List<String> pieces = new ArrayList<>();
        int start = 0;
        for (int cuts = random.nextInt(5); cuts > 0; cuts--) {
            int end = start + random.nextInt(text.length() - start + 1);
            pieces.add(text.substring(start, end));
            start = end;
        }
        pieces.add(text.substring(start));
        return pieces;
    }

    private static <T, R> List<R> each(List<T> items, Function<T, R> function) {
        return new ArrayList<>(items.stream().map(function).toList());
    }
}
