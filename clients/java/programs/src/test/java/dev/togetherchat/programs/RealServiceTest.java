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
import dev.togetherchat.client.ChatStream;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.client.Violation;
import dev.togetherchat.conformance.Actor;
import dev.togetherchat.examples.Complete;
import dev.togetherchat.examples.Stream;
import dev.togetherchat.examples.Tools;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
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

    /** One question, one answer. */
    @Test
    void anAnswerIsWhatWasAskedFor() {
        CompleteResponse answer = chat.complete(ask(MODEL, "echo: Größe 漢字 🦀"));
        assertEquals("Größe 漢字 🦀", textOf(answer));
        assertTrue(answer.getUsage().getTotalTokens() > 0);
    }

    /** The law of the stream, with the real service: the fold is the answer of Complete. */
    @Test
    void aStreamFoldsToTheAnswerOfComplete() {
        CompleteRequest asked = ask("sandbox/reasoning", "echo: one two three");
        try (ChatStream stream = chat.stream(asked)) {
            assertEquals(withoutTheClock(chat.complete(asked)), withoutTheClock(stream.finish()));
        }
    }

    /** Prompts above every default of gRPC arrive. */
    @Test
    void aLongPromptArrives() {
        String text = "x".repeat(300_000);
        assertEquals(text, textOf(chat.complete(ask(MODEL, "echo: " + text))));
    }

    /** All violations at once, with their places. */
    @Test
    void anInvalidRequestSaysWhatIsWrong() {
        CompleteRequest wrong = CompleteRequest.newBuilder().setModel(MODEL).setTopP(2).build();
        ChatException failed = assertThrows(ChatException.class, () -> chat.complete(wrong));
        assertEquals(Status.Code.INVALID_ARGUMENT, failed.code());
        assertEquals("INVALID_REQUEST", failed.reason());
        List<String> fields = failed.violations().stream().map(Violation::field).sorted().toList();
        assertEquals(List.of("messages", "top_p"), fields);
    }

    /** A rate limit that outlasts the service's own attempts is survived by the service config's. */
    @Test
    void theServiceConfigOutlastsTheServicesOwnAttempts() {
        CompleteRequest asked = ask("sandbox/error-429-x4", "Java, with retries");
        CompleteResponse answer = chat.complete(asked);
        assertTrue(textOf(answer).contains("Java, with retries"), textOf(answer));
        // Four refusals are more than one call of the service tries; the fifth request is answered.
        assertEquals(5, service.ledger("sandbox/error-429-x4").size());
        assertTrue(answer.getAttempts() < 5, () -> answer.getAttempts() + " attempts in one call");
    }

    /** Without its retries the client has the refusal in hand, and the time to wait. */
    @Test
    void withoutRetriesARateLimitSaysHowLongToWait() {
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

    /** Pushback -1: RESOURCE_EXHAUSTED is in the service config, and still the provider is asked once. */
    @Test
    void anExhaustedQuotaIsNotTriedAgain() {
        ChatException failed =
                assertThrows(ChatException.class, () -> chat.complete(ask("sandbox/error-429-quota", "Hi")));
        assertEquals("QUOTA_EXHAUSTED", failed.reason());
        assertEquals(Optional.of(false), failed.retryable());
        assertEquals(1, service.ledger("sandbox/error-429-quota").size());
    }

    /** A stream that is left in the middle ends the generation at the provider. */
    @Test
    void closingAStreamEndsTheGeneration() {
        try (ChatStream stream = chat.stream(ask("sandbox/stall-after-2", "Hi"))) {
            stream.text().iterator().next();
        }
        Patience.until(() -> endings("sandbox/stall-after-2").equals(List.of("client_closed")));
    }

    /** So does a thread that is interrupted. */
    @Test
    void interruptingAThreadEndsTheGeneration() throws InterruptedException {
        Thread caller = new Thread(() ->
                assertThrows(ChatException.class, () -> chat.complete(ask("sandbox/stall", "Hi"))));
        caller.start();
        Patience.until(() -> endings("sandbox/stall").equals(List.of("running")));
        caller.interrupt();
        caller.join();
        Patience.until(() -> endings("sandbox/stall").equals(List.of("client_closed")));
    }

    /** So does a future that is cancelled. */
    @Test
    void cancellingAFutureEndsTheGeneration() {
        CompletableFuture<CompleteResponse> future = chat.completeAsync(ask("sandbox/stall-after-0", "Hi"));
        Patience.until(() -> endings("sandbox/stall-after-0").equals(List.of("running")));
        future.cancel(true);
        Patience.until(() -> endings("sandbox/stall-after-0").equals(List.of("client_closed")));
    }

    /** A deadline ends the call on both sides, and the service says so itself. */
    @Test
    void aDeadlineEndsTheCall() {
        CallSettings brief = CallSettings.DEFAULT.withTimeout(Duration.ofSeconds(2));
        ChatException failed =
                assertThrows(ChatException.class, () -> chat.complete(ask("sandbox/stall-after-1", "Hi"), brief));
        assertEquals(Status.Code.DEADLINE_EXCEEDED, failed.code());
        Patience.until(() -> endings("sandbox/stall-after-1").equals(List.of("client_closed")));
    }

    /** What came of a stream that broke is kept. */
    @Test
    void aBrokenStreamKeepsWhatCame() {
        List<String> pieces = new ArrayList<>();
        try (ChatStream stream = chat.stream(ask("sandbox/cut-stream", "Hi"))) {
            ChatException failed =
                    assertThrows(ChatException.class, () -> stream.text().forEach(pieces::add));
            assertEquals("UPSTREAM_TRUNCATED", failed.reason());
            assertEquals(String.join("", pieces), textOf(failed.partial().orElseThrow()));
            assertTrue(textOf(failed.partial().orElseThrow()).length() > 0);
        }
    }

    /** Every model once, over all pages. */
    @Test
    void modelsAreListedOverAllPages() {
        int total = chat.listModels(ListModelsRequest.getDefaultInstance()).getTotalSize();
        List<String> ids = new ArrayList<>();
        for (Model model : chat.models(ListModelsRequest.newBuilder().setPageSize(17).build())) {
            ids.add(model.getId());
        }
        assertEquals(total, ids.stream().distinct().count());
        assertEquals(total, ids.size());
    }

    /** The service says that it serves. */
    @Test
    void theServiceIsHealthy() {
        assertEquals(ServingStatus.SERVING, chat.health(TogetherChat.SERVICE));
    }

    /** Each example prints what it promises. */
    @Test
    void theExamplesRun() {
        String[] target = {service.address()};
        assertTrue(printed(() -> Complete.main(target)).contains(" tokens, model openai/gpt-oss-120b"));
        assertTrue(printed(() -> Stream.main(target)).contains(" tokens"));
        String tools = printed(() -> Tools.main(target));
        assertTrue(tools.contains("get_weather{\"city\"") && tools.contains("celsius"), tools);
    }

    /** The actor answers each case with a line, in the protocol's words. */
    @Test
    void theActorSaysWhatItSaw() {
        String asked = "\"request\": {\"model\": \"sandbox/stall-after-3\","
                + " \"messages\": [{\"role\": \"ROLE_USER\", \"content\": [{\"text\": \"Hi\"}]}]}";
        String cases = "{\"id\": \"leave\", \"call\": \"StreamComplete\", \"cancel\": {\"after_events\": 2}, " + asked
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
        assertEquals("sandbox/stall-after-3", seen.get(0).getAsJsonObject("answer").get("model").getAsString());
        assertEquals("INVALID_REQUEST", seen.get(1).get("reason").getAsString());
        assertEquals("messages", seen.get(1).getAsJsonArray("violations").get(0).getAsJsonArray().get(0).getAsString());
        assertTrue(seen.get(1).get("answer").isJsonNull());
        Patience.until(() -> endings("sandbox/stall-after-3").equals(List.of("client_closed")));
    }

    private static List<String> endings(String model) {
        return service.ledger(model).stream().map(entry -> entry.get("ended").getAsString()).toList();
    }

    private static void actor(String target) {
        try {
            Actor.main(new String[] {target});
        } catch (Exception failed) {
            throw new IllegalStateException("the actor failed", failed);
        }
    }

    /** What {@code program} writes to standard output. */
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

    private static CompleteResponse withoutTheClock(CompleteResponse answer) {
        CompleteResponse.Builder copy = answer.toBuilder().clearId().clearCreateTime();
        copy.getUsageBuilder().clearTimings();
        return copy.build();
    }
}
