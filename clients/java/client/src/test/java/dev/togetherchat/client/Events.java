package dev.togetherchat.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import dev.togetherchat.v1.ChoiceFinished;
import dev.togetherchat.v1.Completed;
import dev.togetherchat.v1.Delta;
import dev.togetherchat.v1.FinishReason;
import dev.togetherchat.v1.Started;
import dev.togetherchat.v1.StreamCompleteResponse;

/** Builders of stream events for tests. */
final class Events {
    private Events() {}

    static StreamCompleteResponse started(String id) {
        return StreamCompleteResponse.newBuilder()
                .setStarted(Started.newBuilder().setId(id).setModel("m"))
                .build();
    }

    static StreamCompleteResponse text(String text) {
        return delta(Delta.newBuilder().setText(text));
    }

    static StreamCompleteResponse delta(Delta.Builder delta) {
        return StreamCompleteResponse.newBuilder().setDelta(delta).build();
    }

    static StreamCompleteResponse finished(int choice) {
        ChoiceFinished.Builder finished = ChoiceFinished.newBuilder()
                .setChoiceIndex(choice)
                .setFinishReason(FinishReason.FINISH_REASON_STOP)
                .setFinishReasonRaw("stop");
        return StreamCompleteResponse.newBuilder().setChoiceFinished(finished).build();
    }

    static StreamCompleteResponse completed() {
        return StreamCompleteResponse.newBuilder()
                .setCompleted(Completed.newBuilder().setAttempts(1))
                .build();
    }

    /** An event of a later contract version, in field 99. */
    static StreamCompleteResponse unknown() {
        try {
            return StreamCompleteResponse.parseFrom(
                    ByteString.copyFrom(new byte[] {(byte) 0x9a, 0x06, 0x03, 'a', 'b', 'c'}));
        } catch (InvalidProtocolBufferException impossible) {
            throw new AssertionError(impossible);
        }
    }
}
