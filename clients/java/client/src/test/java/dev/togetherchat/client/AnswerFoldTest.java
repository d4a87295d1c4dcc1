package dev.togetherchat.client;

import static dev.togetherchat.client.Events.completed;
import static dev.togetherchat.client.Events.delta;
import static dev.togetherchat.client.Events.finished;
import static dev.togetherchat.client.Events.started;
import static dev.togetherchat.client.Events.text;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
import dev.togetherchat.v1.Role;
import dev.togetherchat.v1.Started;
import dev.togetherchat.v1.StreamCompleteResponse;
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

/** The fold of a stream: what the events add up to. */
class AnswerFoldTest {
    private static final long SEED = Long.parseUnsignedLong("9223372036854775809");

    private static CompleteResponse fold(List<StreamCompleteResponse> events) {
        AnswerFold fold = new AnswerFold();
        events.forEach(fold::add);
        return fold.response();
    }

    private static Logprobs tokens(String... texts) {
        Logprobs.Builder logprobs = Logprobs.newBuilder();
        for (String text : texts) {
            logprobs.addTokens(TokenLogprob.newBuilder().setToken(text).setLogprob(-0.5));
        }
        return logprobs.build();
    }

    /** Every field of the answer has its event. */
    @Test
    void aWholeStreamIsTheAnswerOfComplete() {
        Timestamp created = Timestamp.newBuilder().setSeconds(1_700_000_000).build();
        Usage usage = Usage.newBuilder().setPromptTokens(1).setTotalTokens(3).build();
        Warning warning = Warning.newBuilder().setMessage("w").build();
        CompleteResponse answer = fold(List.of(
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
                        .setReasoningKey("reasoning_content")),
                delta(Delta.newBuilder().setText("Hel").setLogprobs(tokens("Hel"))),
                delta(Delta.newBuilder().setText("lo").setLogprobs(tokens("lo"))),
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
                                .setAttempts(2))
                        .build()));
        Message.Builder message = Message.newBuilder()
                .setRole(Role.ROLE_ASSISTANT)
                .addContent(ContentPart.newBuilder().setText("Hello"))
                .setReasoning("Hm")
                .setReasoningKey("reasoning_content");
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
                .build();
        assertEquals(expected, answer);
    }

    /** A seed above the largest long is itself when it is read as unsigned. */
    @Test
    void aSeedIsUnsigned() {
        ChoiceFinished.Builder finished = ChoiceFinished.newBuilder().setSeed(SEED);
        CompleteResponse answer = fold(List.of(
                StreamCompleteResponse.newBuilder().setChoiceFinished(finished).build()));
        assertEquals("9223372036854775809", Long.toUnsignedString(answer.getChoices(0).getSeed()));
    }

    /** Nothing came, nothing is made up. */
    @Test
    void anEmptyStreamIsAnEmptyAnswer() {
        assertEquals(CompleteResponse.getDefaultInstance(), fold(List.of()));
    }

    /** A later version of the contract may send more. */
    @Test
    void anEventThatIsNotKnownChangesNothing() {
        AnswerFold fold = new AnswerFold();
        fold.add(Events.unknown());
        assertTrue(fold.empty());
        assertEquals(CompleteResponse.getDefaultInstance(), fold.response());
    }

    /** Every choice may have finished, and still the end did not come. */
    @Test
    void anAnswerIsWholeOnlyWithItsLastEvent() {
        AnswerFold fold = new AnswerFold();
        fold.add(finished(0));
        assertFalse(fold.whole());
        fold.add(completed());
        assertTrue(fold.whole());
    }

    /** An answer that only calls tools has an empty content, as Complete gives it. */
    @Test
    void noTextIsNoContent() {
        CompleteResponse answer = fold(List.of(delta(Delta.newBuilder().setRole(Role.ROLE_ASSISTANT)), finished(0)));
        assertEquals(List.of(), answer.getChoices(0).getMessage().getContentList());
    }

    /** Pieces of two calls may come mixed, and the later one first. */
    @Test
    void toolCallsAreMergedByIndexAndComeInItsOrder() {
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
        assertEquals(expected, fold(events).getChoices(0).getMessage().getToolCallsList());
    }

    /** Looking at it takes nothing away from what follows. */
    @Test
    void aResponseCanBeReadInTheMiddle() {
        AnswerFold fold = new AnswerFold();
        fold.add(delta(Delta.newBuilder().setText("Hel").setLogprobs(tokens("Hel"))));
        CompleteResponse early = fold.response();
        fold.add(delta(Delta.newBuilder().setText("lo").setLogprobs(tokens("lo"))));
        assertEquals("Hel", Messages.textOf(early));
        assertEquals(1, early.getChoices(0).getLogprobs().getTokensCount());
        assertEquals("Hello", Messages.textOf(fold.response()));
    }

    /** A role and a finish reason of a later version keep their numbers. */
    @Test
    void valuesThatAreNotKnownAreKept() {
        CompleteResponse answer = fold(List.of(
                delta(Delta.newBuilder().setRoleValue(77)),
                StreamCompleteResponse.newBuilder()
                        .setChoiceFinished(ChoiceFinished.newBuilder().setFinishReasonValue(78))
                        .build()));
        assertEquals(77, answer.getChoices(0).getMessage().getRoleValue());
        assertEquals(78, answer.getChoices(0).getFinishReasonValue());
    }

    /** The law of the stream, from the reader's side: cuts and interleaving do not matter. */
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
    void howeverAnAnswerIsCutItsFoldIsTheSame(long seed) {
        Random random = new Random(seed);
        CompleteResponse.Builder answer =
                CompleteResponse.newBuilder().setId("chat-1").setModel("m").setAttempts(1);
        List<Deque<StreamCompleteResponse>> sequences = new ArrayList<>();
        for (int index = 0; index < 1 + random.nextInt(3); index++) {
            Choice choice = anyChoice(random, index);
            answer.addChoices(choice);
            sequences.add(new ArrayDeque<>(deltasOf(random, choice)));
        }
        List<StreamCompleteResponse> events = new ArrayList<>(List.of(started("chat-1")));
        while (!sequences.isEmpty()) {
            Deque<StreamCompleteResponse> chosen = sequences.get(random.nextInt(sequences.size()));
            events.add(chosen.remove());
            sequences.removeIf(Deque::isEmpty);
        }
        answer.getChoicesList().forEach(choice -> events.add(finished(choice.getIndex())));
        events.add(completed());
        assertEquals(answer.build(), fold(events));
    }

    private static ToolCall call(String id, String name, String arguments) {
        FunctionCall.Builder function = FunctionCall.newBuilder().setName(name).setArguments(arguments);
        return ToolCall.newBuilder().setId(id).setFunction(function).build();
    }

    private static Choice anyChoice(Random random, int index) {
        String text = anyText(random);
        String reasoning = anyText(random);
        Message.Builder message = Message.newBuilder()
                .setRole(Role.ROLE_ASSISTANT)
                .setReasoning(reasoning)
                .setReasoningKey(reasoning.isEmpty() ? "" : "reasoning");
        if (!text.isEmpty()) {
            message.addContent(ContentPart.newBuilder().setText(text));
        }
        for (int place = 0; place < random.nextInt(3); place++) {
            message.addToolCalls(call("c" + place, "f", anyText(random)));
        }
        return Choice.newBuilder()
                .setIndex(index)
                .setMessage(message)
                .setFinishReason(FinishReason.FINISH_REASON_STOP)
                .setFinishReasonRaw("stop")
                .build();
    }

    private static String anyText(Random random) {
        StringBuilder text = new StringBuilder();
        for (int place = 0; place < random.nextInt(20); place++) {
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
                        Delta.newBuilder().setReasoning(piece).setReasoningKey(message.getReasoningKey())));
        cut(random, Messages.textOf(message))
                .forEach(piece -> deltas.add(Delta.newBuilder().setText(piece)));
        for (int place = 0; place < message.getToolCallsCount(); place++) {
            deltas.addAll(deltasOf(random, place, message.getToolCalls(place)));
        }
        return each(deltas, delta -> delta(delta.setChoiceIndex(choice.getIndex())));
    }

    private static List<Delta.Builder> deltasOf(Random random, int place, ToolCall call) {
        List<ToolCallDelta.Builder> pieces = each(
                cut(random, call.getFunction().getArguments()),
                piece -> ToolCallDelta.newBuilder().setIndex(place).setArguments(piece));
        pieces.get(0).setId(call.getId()).setName(call.getFunction().getName());
        return each(pieces, piece -> Delta.newBuilder().addToolCalls(piece));
    }

    /** The text in pieces, cut anywhere. */
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
