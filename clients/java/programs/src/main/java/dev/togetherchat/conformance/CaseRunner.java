package dev.togetherchat.conformance;

import com.google.gson.JsonObject;
import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.CompletionStream;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.GetModelRequest;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListQuotasRequest;
import dev.togetherchat.v1.QueryUsageRequest;
import dev.togetherchat.v1.ResetQuotaRequest;
import dev.togetherchat.v1.StreamCompleteResponse;
import java.util.Iterator;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;

/** Makes the call of one case. It cancels by Java's idioms: it closes a stream, or interrupts the waiting thread. */
final class CaseRunner {
    private final TogetherChat chat;
    private final Case testCase;
    private final Observation observation;

    CaseRunner(TogetherChat chat, Case testCase) {
        this.chat = chat;
        this.testCase = testCase;
        this.observation = new Observation(testCase.id());
    }

    /** Returns the observation, also of a failed call. Throws if the case itself is invalid. */
    JsonObject run() throws InterruptedException {
        FutureTask<Void> call = new FutureTask<>(this::call, null);
        Thread caller = new Thread(call, "caller of " + testCase.id());
        caller.start();
        if (testCase.cancelAfterMs().isPresent()) {
            caller.join(Math.max(1, testCase.cancelAfterMs().getAsLong()));
            caller.interrupt();
        }
        caller.join();
        try {
            call.get();
        } catch (ExecutionException invalid) {
            throw new IllegalArgumentException("case " + testCase.id(), invalid.getCause());
        }
        return observation.json();
    }

    private void call() {
        try {
            switch (testCase.call()) {
                case "Complete" -> observation.response(chat.complete(
                        testCase.request(CompleteRequest.newBuilder()).build(), testCase.settings()));
                case "StreamComplete" -> stream();
                case "ListModels" -> observation.response(chat.listModels(
                        testCase.request(ListModelsRequest.newBuilder()).build(), testCase.settings()));
                case "GetModel" -> observation.response(chat.getModel(
                        testCase.request(GetModelRequest.newBuilder()).getId(), testCase.settings()));
                case "QueryUsage" -> observation.response(chat.queryUsage(
                        testCase.request(QueryUsageRequest.newBuilder()).build(), testCase.settings()));
                case "ListQuotas" -> observation.response(chat.listQuotas(
                        testCase.request(ListQuotasRequest.newBuilder()).build(), testCase.settings()));
                case "ResetQuota" -> observation.response(chat.resetQuota(
                        testCase.request(ResetQuotaRequest.newBuilder()).getTenant(), testCase.settings()));
                default -> throw new IllegalArgumentException("unknown call: " + testCase.call());
            }
        } catch (ChatException failed) {
            observation.failure(failed);
        }
    }

    private void stream() {
        CompleteRequest request = testCase.request(CompleteRequest.newBuilder()).build();
        CompletionStream stream = chat.stream(request, testCase.settings());
        try (stream) {
            read(stream.iterator(), testCase.cancelAfterEvents().orElse(Long.MAX_VALUE));
        }
        // After a cancel this throws CANCELLED; after the last event it returns the response.
        observation.response(stream.finish());
    }

    private void read(Iterator<StreamCompleteResponse> events, long eventsMax) {
        for (long read = 0; read < eventsMax && events.hasNext(); read++) {
            events.next();
            observation.event();
        }
    }
}
