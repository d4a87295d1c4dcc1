package dev.togetherchat.programs;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.togetherchat.client.CallSettings;
import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.CompletionStream;
import dev.togetherchat.client.ErrorReason;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.client.Violation;
import dev.togetherchat.conformance.Actor;
import dev.togetherchat.examples.Complete;
import dev.togetherchat.examples.Stream;
import dev.togetherchat.examples.Tools;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.GetModelResponse;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.Model;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The client library, the examples and the actor against the real service. */
class RealServiceTest {
    private static final String MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo";

    private static RealService service;
    private TogetherChat chat;

    @BeforeAll
    static void start() {
        service = new RealService();
    }

    @AfterAll
    static void stop() {
        service.close();
    }

    @BeforeEach
    void connect() {
        chat = TogetherChat.connect(service.address());
    }

    @AfterEach
    void disconnect() {
        chat.close();
    }

    private static CompleteRequest ask(String model, String text) {
        return request(model, user(text)).build();
    }

    /** A call returns the completion and its usage. */
    @Test
    void aCallReturnsTheCompletion() {
        CompleteResponse response = chat.complete(ask(MODEL, "echo: Größe 漢字 🦀"));
        assertEquals("Größe 漢字 🦀", textOf(response));
        assertTrue(response.getUsage().getTotalTokens() > 0);
    }

    /** A collected stream of the real service equals the response of Complete. */
    @Test
    void aStreamEqualsTheResponseOfComplete() {
        CompleteRequest request = ask("sandbox/reasoning", "echo: one two three");
        try (CompletionStream stream = chat.stream(request)) {
            assertEquals(withoutTheClock(chat.complete(request)), withoutTheClock(stream.finish()));
        }
    }

    /** A prompt of 300 kB, above gRPC's default retry buffer, is completed. */
    @Test
    void aLongPromptIsCompleted() {
        String text = "x".repeat(300_000);
        assertEquals(text, textOf(chat.complete(ask(MODEL, "echo: " + text))));
    }

    /** All violations of a request are reported at once, each with its field. */
    @Test
    void anInvalidRequestReportsItsViolations() {
        CompleteRequest wrong = CompleteRequest.newBuilder().setModel(MODEL).setTopP(2).build();
        ChatException failed = assertThrows(ChatException.class, () -> chat.complete(wrong));
        assertEquals(Status.Code.INVALID_ARGUMENT, failed.code());
        assertEquals("INVALID_REQUEST", failed.reason());
        List<String> fields = failed.violations().stream().map(Violation::field).sorted().toList();
        assertEquals(List.of("messages", "top_p"), fields);
    }

    /** The service config's retry succeeds where all attempts of the service failed. */
    @Test
    void theServiceConfigsRetrySucceeds() {
        CompleteRequest request = ask("sandbox/error-429-x4", "Java, with retries");
        CompleteResponse response = chat.complete(request);
        assertTrue(textOf(response).contains("Java, with retries"), textOf(response));
        // The service makes three attempts per call; the fifth request succeeds in the second call.
        assertEquals(5, service.requestLog("sandbox/error-429-x4").size());
        assertTrue(response.getAttempts() < 5, () -> response.getAttempts() + " attempts in one call");
    }

    /** Without retries the caller gets the rate limit, with the requested wait. */
    @Test
    void withoutRetriesARateLimitReportsTheWait() {
        try (TogetherChat once =
                TogetherChat.builder(service.address()).retries(false).build()) {
            ChatException failed =
                    assertThrows(ChatException.class, () -> once.complete(ask("sandbox/error-429-x5", "Java, once")));
            assertEquals("RATE_LIMITED_REQUESTS", failed.reason());
            assertEquals(Optional.of(true), failed.retryable());
            assertTrue(failed.retryAfter().orElseThrow().compareTo(Duration.ZERO) > 0);
            assertEquals("429", failed.metadata().get("upstreamHttpStatus"));
        }
    }

    /** Pushback -1 stops retries: the provider gets one request, although the service config lists the status. */
    @Test
    void anExhaustedQuotaIsNotRetried() {
        ChatException failed =
                assertThrows(ChatException.class, () -> chat.complete(ask("sandbox/error-429-quota", "Hi")));
        assertEquals(ErrorReason.QUOTA_EXHAUSTED, failed.reason());
        assertEquals(Optional.of(false), failed.retryable());
        assertEquals(1, service.requestLog("sandbox/error-429-quota").size());
    }

    /** Closing a stream closes the provider connection. */
    @Test
    void closingAStreamStopsTheGeneration() {
        try (CompletionStream stream = chat.stream(ask("sandbox/stall-after-2", "Hi"))) {
            stream.text().iterator().next();
        }
        Waiting.until(() -> endings("sandbox/stall-after-2").equals(List.of("client_closed")));
    }

    /** Interrupting a waiting thread closes the provider connection. */
    @Test
    void interruptingAThreadStopsTheGeneration() throws InterruptedException {
        Thread caller = new Thread(() ->
                assertThrows(ChatException.class, () -> chat.complete(ask("sandbox/stall", "Hi"))));
        caller.start();
        Waiting.until(() -> endings("sandbox/stall").equals(List.of("running")));
        caller.interrupt();
        caller.join();
        Waiting.until(() -> endings("sandbox/stall").equals(List.of("client_closed")));
    }

    /** Cancelling a future closes the provider connection. */
    @Test
    void cancellingAFutureStopsTheGeneration() {
        CompletableFuture<CompleteResponse> future = chat.completeAsync(ask("sandbox/stall-after-0", "Hi"));
        Waiting.until(() -> endings("sandbox/stall-after-0").equals(List.of("running")));
        future.cancel(true);
        Waiting.until(() -> endings("sandbox/stall-after-0").equals(List.of("client_closed")));
    }

    /** A deadline ends the call and closes the provider connection. */
    @Test
    void aDeadlineEndsTheCall() {
        CallSettings brief = CallSettings.DEFAULT.withTimeout(Duration.ofSeconds(2));
        ChatException failed =
                assertThrows(ChatException.class, () -> chat.complete(ask("sandbox/stall-after-1", "Hi"), brief));
        assertEquals(Status.Code.DEADLINE_EXCEEDED, failed.code());
        Waiting.until(() -> endings("sandbox/stall-after-1").equals(List.of("client_closed")));
    }

    /** The exception of a broken stream has the partial response. */
    @Test
    void aBrokenStreamKeepsThePartialResponse() {
        List<String> pieces = new ArrayList<>();
        try (CompletionStream stream = chat.stream(ask("sandbox/cut-stream", "Hi"))) {
            ChatException failed =
                    assertThrows(ChatException.class, () -> stream.text().forEach(pieces::add));
            assertEquals("UPSTREAM_TRUNCATED", failed.reason());
            assertEquals(String.join("", pieces), textOf(failed.partial().orElseThrow()));
            assertTrue(textOf(failed.partial().orElseThrow()).length() > 0);
        }
    }

    /** Every model is listed once, across all pages. */
    @Test
    void modelsAreListedAcrossAllPages() {
        int total = chat.listModels(ListModelsRequest.getDefaultInstance()).getTotalSize();
        List<String> ids = new ArrayList<>();
        for (Model model : chat.models(ListModelsRequest.newBuilder().setPageSize(17).build())) {
            ids.add(model.getId());
        }
        assertEquals(total, ids.stream().distinct().count());
        assertEquals(total, ids.size());
    }

    /** One model is returned by its id, also as a future. */
    @Test
    void oneModelIsReturnedByItsId() {
        GetModelResponse found = chat.getModel(MODEL);
        assertEquals(MODEL, found.getModel().getId());
        assertEquals(
                found.getModel(),
                chat.getModelAsync(MODEL, CallSettings.DEFAULT).join().getModel());
    }

    /** The exception about an unknown model has its name. */
    @Test
    void anUnknownModelIsNotFoundByItsName() {
        ChatException failed = assertThrows(ChatException.class, () -> chat.getModel("no/such"));
        assertEquals(Status.Code.NOT_FOUND, failed.code());
        assertEquals("MODEL_NOT_FOUND", failed.reason());
        assertEquals("no/such", failed.resourceName());
    }

    /** A seed is unsigned: the largest is the number -1 of a long. */
    @Test
    void aSeedIsUnsigned() {
        CompleteRequest request = request(MODEL, user("Hi")).setSeed(-1L).build();
        long seed = chat.complete(request).getChoices(0).getSeed();
        assertEquals("18446744073709551615", Long.toUnsignedString(seed));
    }

    /** The service reports SERVING. */
    @Test
    void theServiceIsHealthy() {
        assertEquals(ServingStatus.SERVING, chat.health(TogetherChat.SERVICE));
    }

    /** Each example prints its completion. */
    @Test
    void theExamplesRun() {
        String[] target = {service.address()};
        assertTrue(printed(() -> Complete.main(target)).contains(" tokens, model openai/gpt-oss-120b"));
        assertTrue(printed(() -> Stream.main(target)).contains(" tokens"));
        String tools = printed(() -> Tools.main(target));
        assertTrue(tools.contains("get_weather{\"city\"") && tools.contains("celsius"), tools);
    }

    /** The actor writes one observation per case. */
    @Test
    void theActorWritesAnObservationPerCase() {
        String request = "\"request\": {\"model\": \"sandbox/stall-after-3\","
                + " \"messages\": [{\"role\": \"ROLE_USER\", \"content\": [{\"text\": \"Hi\"}]}]}";
        String cases = "{\"id\": \"leave\", \"call\": \"StreamComplete\", \"cancel\": {\"after_events\": 2}, " + request
                + "}\n{\"id\": \"wrong\", \"call\": \"Complete\", \"retries\": false, \"request\": {\"model\": \"m\"}}\n";
        InputStream before = System.in;
        System.setIn(new ByteArrayInputStream(cases.getBytes(StandardCharsets.UTF_8)));
        List<JsonObject> seen;
        try {
            seen = printed(() -> actor(service.address())).lines()
                    .map(line -> JsonParser.parseString(line).getAsJsonObject())
                    .toList();
        } finally {
            System.setIn(before);
        }
        assertEquals(2, seen.size());
        assertEquals("CANCELLED", seen.get(0).get("code").getAsString());
        assertEquals(2, seen.get(0).get("events").getAsInt());
        assertEquals("sandbox/stall-after-3", seen.get(0).getAsJsonObject("response").get("model").getAsString());
        assertEquals("INVALID_REQUEST", seen.get(1).get("reason").getAsString());
        assertEquals("messages", seen.get(1).getAsJsonArray("violations").get(0).getAsJsonArray().get(0).getAsString());
        assertTrue(seen.get(1).get("response").isJsonNull());
        Waiting.until(() -> endings("sandbox/stall-after-3").equals(List.of("client_closed")));
    }

    private static List<String> endings(String model) {
        return service.requestLog(model).stream().map(entry -> entry.get("ended").getAsString()).toList();
    }

    private static void actor(String target) {
        try {
            Actor.main(new String[] {target});
        } catch (Exception failed) {
            throw new IllegalStateException("the actor failed", failed);
        }
    }

    /** Returns what {@code program} writes to standard output. */
    static String printed(Runnable program) {
        PrintStream before = System.out;
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        System.setOut(new PrintStream(written, true, StandardCharsets.UTF_8));
        try {
            program.run();
        } finally {
            System.setOut(before);
        }
        return written.toString(StandardCharsets.UTF_8);
    }

    private static CompleteResponse withoutTheClock(CompleteResponse response) {
        return response.toBuilder()
                .clearId()
                .clearCreateTime()
                .clearTimings()
                .build();
    }
}
