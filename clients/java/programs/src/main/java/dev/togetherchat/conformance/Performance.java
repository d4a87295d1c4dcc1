package dev.togetherchat.conformance;

import com.google.gson.JsonObject;
import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.ChatStream;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.StreamCompleteResponse;
import java.util.Iterator;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;

/** Makes the call of one case, and leaves it by Java's idioms: a stream is closed, a waiting thread interrupted. */
final class Performance {
    private final TogetherChat chat;
    private final Case asked;
    private final Sight sight;

    Performance(TogetherChat chat, Case asked) {
        this.chat = chat;
        this.asked = asked;
        this.sight = new Sight(asked.id());
    }

    /** Fails where the case itself is wrong; a call that fails is a sight like any other. */
    JsonObject perform() throws InterruptedException {
        FutureTask<Void> call = new FutureTask<>(this::call, null);
        Thread caller = new Thread(call, "caller of " + asked.id());
        caller.start();
        if (asked.cancelAfterMs().isPresent()) {
            caller.join(Math.max(1, asked.cancelAfterMs().getAsLong()));
            caller.interrupt();
        }
        caller.join();
        try {
            call.get();
        } catch (ExecutionException wrong) {
            throw new IllegalArgumentException("case " + asked.id(), wrong.getCause());
        }
        return sight.json();
    }

    private void call() {
        try {
            switch (asked.call()) {
                case "Complete" -> sight.answer(chat.complete(
                        asked.request(CompleteRequest.newBuilder()).build(), asked.settings()));
                case "StreamComplete" -> stream();
                case "ListModels" -> sight.answer(chat.listModels(
                        asked.request(ListModelsRequest.newBuilder()).build(), asked.settings()));
                default -> throw new IllegalArgumentException("no such call: " + asked.call());
            }
        } catch (ChatException failed) {
            sight.failure(failed);
        }
    }

    private void stream() {
        CompleteRequest request = asked.request(CompleteRequest.newBuilder()).build();
        ChatStream stream = chat.stream(request, asked.settings());
        try (stream) {
            read(stream.iterator(), asked.cancelAfterEvents().orElse(Long.MAX_VALUE));
        }
        // Of a stream that was left early this is CANCELLED, of a whole one the answer.
        sight.answer(stream.finish());
    }

    private void read(Iterator<StreamCompleteResponse> events, long eventsMax) {
        for (long read = 0; read < eventsMax && events.hasNext(); read++) {
            events.next();
            sight.event();
        }
    }
}
