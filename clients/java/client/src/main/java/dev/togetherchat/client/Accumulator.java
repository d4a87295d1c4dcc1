package dev.togetherchat.client;

import dev.togetherchat.v1.Choice;
import dev.togetherchat.v1.ChoiceFinished;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.Completed;
import dev.togetherchat.v1.ContentPart;
import dev.togetherchat.v1.Delta;
import dev.togetherchat.v1.FunctionCall;
import dev.togetherchat.v1.Logprobs;
import dev.togetherchat.v1.Message;
import dev.togetherchat.v1.ReasoningField;
import dev.togetherchat.v1.Role;
import dev.togetherchat.v1.Started;
import dev.togetherchat.v1.StreamCompleteResponse;
import dev.togetherchat.v1.ToolCall;
import dev.togetherchat.v1.ToolCallDelta;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * Collects the events of a stream into the response that Complete would have returned.
 *
 * <p>The contract documents the rules at {@code ChatService.StreamComplete}: text is appended to text, and a tool
 * call's arguments to the arguments of the call with the same index. Each choice is collected separately, and unknown
 * events are ignored. The service numbers the tool calls of a response, so their indexes are trusted and never changed.
 * Use an accumulator from one thread at a time.
 */
public final class Accumulator {
    private final SortedMap<Integer, ChoiceParts> choices = new TreeMap<>();
    private Started started = Started.getDefaultInstance();
    private Completed completed;
    private boolean empty = true;

    /** Adds the next event. An unknown event changes nothing. */
    public void add(StreamCompleteResponse event) {
        switch (event.getEventCase()) {
            case STARTED -> started = event.getStarted();
            case DELTA -> choice(event.getDelta().getChoiceIndex()).add(event.getDelta());
            case CHOICE_FINISHED -> {
                ChoiceFinished finished = event.getChoiceFinished();
                choice(finished.getChoiceIndex()).finished = finished;
            }
            case COMPLETED -> completed = event.getCompleted();
            case EVENT_NOT_SET -> {
                return;
            }
        }
        empty = false;
    }

    /** Whether the last event was added. */
    public boolean whole() {
        return completed != null;
    }

    /** Whether no known event was added. */
    public boolean empty() {
        return empty;
    }

    /** Returns what was collected so far; see {@link #whole()}. */
    public CompleteResponse response() {
        CompleteResponse.Builder response = CompleteResponse.newBuilder()
                .setId(started.getId())
                .setModel(started.getModel())
                .setSystemFingerprint(started.getSystemFingerprint());
        if (started.hasCreateTime()) {
            response.setCreateTime(started.getCreateTime());
        }
        choices.forEach((index, parts) -> response.addChoices(parts.build(index)));
        if (completed != null) {
            response.addAllWarnings(completed.getWarningsList()).setAttempts(completed.getAttempts());
            if (completed.hasUsage()) {
                response.setUsage(completed.getUsage());
            }
            if (completed.hasTimings()) {
                response.setTimings(completed.getTimings());
            }
        }
        return response.build();
    }

    private ChoiceParts choice(int index) {
        return choices.computeIfAbsent(index, absent -> new ChoiceParts());
    }

    private static final class ChoiceParts {
        private final StringBuilder text = new StringBuilder();
        private final StringBuilder reasoning = new StringBuilder();
        private final StringBuilder refusal = new StringBuilder();
        private final SortedMap<Integer, ToolCallParts> toolCalls = new TreeMap<>();
        // The numbers, not the enums: a later version of the contract may add values.
        private int role = Role.ROLE_ASSISTANT_VALUE;
        private int reasoningField = ReasoningField.REASONING_FIELD_UNSPECIFIED_VALUE;
        private Logprobs.Builder logprobs;
        private ChoiceFinished finished;

        void add(Delta delta) {
            role = delta.getRoleValue() == 0 ? role : delta.getRoleValue();
            reasoningField = delta.getReasoningFieldValue() == 0 ? reasoningField : delta.getReasoningFieldValue();
            text.append(delta.getText());
            reasoning.append(delta.getReasoning());
            refusal.append(delta.getRefusal());
            for (ToolCallDelta piece : delta.getToolCallsList()) {
                toolCalls.computeIfAbsent(piece.getIndex(), absent -> new ToolCallParts()).add(piece);
            }
            if (delta.hasLogprobs()) {
                logprobs = logprobs == null ? Logprobs.newBuilder() : logprobs;
                logprobs.addAllTokens(delta.getLogprobs().getTokensList());
            }
        }

        Choice build(int index) {
            Choice.Builder choice = Choice.newBuilder().setIndex(index).setMessage(message());
            if (logprobs != null) {
                choice.setLogprobs(logprobs.build());
            }
            if (finished != null) {
                choice.setFinishReasonValue(finished.getFinishReasonValue())
                        .setFinishReasonRaw(finished.getFinishReasonRaw());
                if (finished.hasSeed()) {
                    choice.setSeed(finished.getSeed());
                }
            }
            return choice.build();
        }

        private Message message() {
            Message.Builder message = Message.newBuilder()
                    .setRoleValue(role)
                    .setReasoning(reasoning.toString())
                    .setReasoningFieldValue(reasoningField)
                    .setRefusal(refusal.toString());
            if (!text.isEmpty()) {
                message.addContent(ContentPart.newBuilder().setText(text.toString()));
            }
            toolCalls.values().forEach(parts -> message.addToolCalls(parts.build()));
            return message.build();
        }
    }

    private static final class ToolCallParts {
        private final StringBuilder arguments = new StringBuilder();
        private String id = "";
        private String name = "";

        void add(ToolCallDelta piece) {
            id = piece.getId().isEmpty() ? id : piece.getId();
            name = piece.getName().isEmpty() ? name : piece.getName();
            arguments.append(piece.getArguments());
        }

        ToolCall build() {
            FunctionCall.Builder function = FunctionCall.newBuilder().setName(name).setArguments(arguments.toString());
            return ToolCall.newBuilder().setId(id).setFunction(function).build();
        }
    }
}
