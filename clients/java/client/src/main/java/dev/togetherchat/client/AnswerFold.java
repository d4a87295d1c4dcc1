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
import dev.togetherchat.v1.Role;
import dev.togetherchat.v1.Started;
import dev.togetherchat.v1.StreamCompleteResponse;
import dev.togetherchat.v1.ToolCall;
import dev.togetherchat.v1.ToolCallDelta;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * Folds the events of a stream into the answer that Complete would have given.
 *
 * <p>The law is written at {@code ChatService.StreamComplete}: text is appended to text, a
 * tool call's arguments to the arguments of the call with the same index, each choice by itself, and an event that is
 * not known is none. Knows no channel. For one thread at a time.
 */
public final class AnswerFold {
    private final SortedMap<Integer, ChoicePieces> choices = new TreeMap<>();
    private Started started = Started.getDefaultInstance();
    private Completed completed;
    private boolean empty = true;

    /** Takes the next event. One that this version does not know changes nothing. */
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

    /** Whether the last event came: nothing is missing. */
    public boolean whole() {
        return completed != null;
    }

    /** Whether no event that is known came. */
    public boolean empty() {
        return empty;
    }

    /** The answer; of a stream that is not {@link #whole()}, the part that came. */
    public CompleteResponse response() {
        CompleteResponse.Builder response = CompleteResponse.newBuilder()
                .setId(started.getId())
                .setModel(started.getModel())
                .setSystemFingerprint(started.getSystemFingerprint());
        if (started.hasCreateTime()) {
            response.setCreateTime(started.getCreateTime());
        }
        choices.forEach((index, pieces) -> response.addChoices(pieces.fold(index)));
        if (completed != null) {
            response.addAllWarnings(completed.getWarningsList()).setAttempts(completed.getAttempts());
            if (completed.hasUsage()) {
                response.setUsage(completed.getUsage());
            }
        }
        return response.build();
    }

    private ChoicePieces choice(int index) {
        return choices.computeIfAbsent(index, absent -> new ChoicePieces());
    }

    private static final class ChoicePieces {
        private final StringBuilder text = new StringBuilder();
        private final StringBuilder reasoning = new StringBuilder();
        private final SortedMap<Integer, ToolCallPieces> toolCalls = new TreeMap<>();
        // By its number, for a later version of the contract may know more of them.
        private int role = Role.ROLE_ASSISTANT_VALUE;
        private String reasoningKey = "";
        private Logprobs.Builder logprobs;
        private ChoiceFinished finished;

        void add(Delta delta) {
            role = delta.getRoleValue() == 0 ? role : delta.getRoleValue();
            reasoningKey = delta.getReasoningKey().isEmpty() ? reasoningKey : delta.getReasoningKey();
            text.append(delta.getText());
            reasoning.append(delta.getReasoning());
            for (ToolCallDelta piece : delta.getToolCallsList()) {
                toolCalls.computeIfAbsent(piece.getIndex(), absent -> new ToolCallPieces()).add(piece);
            }
            if (delta.hasLogprobs()) {
                logprobs = logprobs == null ? Logprobs.newBuilder() : logprobs;
                logprobs.addAllTokens(delta.getLogprobs().getTokensList());
            }
        }

        Choice fold(int index) {
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
                    .setReasoningKey(reasoningKey);
            if (!text.isEmpty()) {
                message.addContent(ContentPart.newBuilder().setText(text.toString()));
            }
            toolCalls.values().forEach(pieces -> message.addToolCalls(pieces.fold()));
            return message.build();
        }
    }

    private static final class ToolCallPieces {
        private final StringBuilder arguments = new StringBuilder();
        private String id = "";
        private String name = "";

        void add(ToolCallDelta piece) {
            id = piece.getId().isEmpty() ? id : piece.getId();
            name = piece.getName().isEmpty() ? name : piece.getName();
            arguments.append(piece.getArguments());
        }

        ToolCall fold() {
            FunctionCall.Builder function = FunctionCall.newBuilder().setName(name).setArguments(arguments.toString());
            return ToolCall.newBuilder().setId(id).setFunction(function).build();
        }
    }
}
