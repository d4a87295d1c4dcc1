package dev.togetherchat.client;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListModelsResponse;
import dev.togetherchat.v1.Model;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The client against a server on loopback that answers as it is told. */
class TogetherChatTest {
    private static final CompleteRequest ASK = request("m", user("Hi")).build();
    private static final CompleteResponse ANSWER =
            CompleteResponse.newBuilder().setId("chat-1").build();

    private final ScriptedServer server = new ScriptedServer();

    @AfterEach
    void stop() {
        server.close();
    }

    /** The service is told who calls, by which id, and how long it has: the service config's time where none is set. */
    @Test
    void aCallCarriesItsKeyItsIdAndTheServiceConfigsTimeout() {
        server.complete = attempt -> ANSWER;
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).key(" secret\n").upstreamKey("own").build()) {
            chat.complete(ASK, CallSettings.DEFAULT.withRequestId("order-17").withMetadata("x-tag", "t"));
        }
        assertEquals("Bearer secret", server.sent(0, "authorization"));
        assertEquals("own", server.sent(0, "x-together-api-key"));
        assertEquals("order-17", server.sent(0, "x-request-id"));
        assertEquals("t", server.sent(0, "x-tag"));
        assertTrue(server.sent(0, "user-agent").startsWith("togetherchat-java"), server.sent(0, "user-agent"));
        long leftS = server.deadlines.get(0).timeRemaining(TimeUnit.SECONDS);
        assertTrue(leftS > 300 && leftS <= 600, () -> leftS + " s");
    }

    /** The call's own deadline wins over the client's. */
    @Test
    void aDeadlineOfTheCallGoesBeforeTheClients() {
        try (TogetherChat chat = TogetherChat.builder(server.address())
                .timeout(Duration.ofSeconds(500))
                .build()) {
            chat.complete(ASK);
            chat.complete(ASK, CallSettings.DEFAULT.withTimeout(Duration.ofSeconds(200)));
        }
        long clientsS = server.deadlines.get(0).timeRemaining(TimeUnit.SECONDS);
        long callsS = server.deadlines.get(1).timeRemaining(TimeUnit.SECONDS);
        assertTrue(clientsS > 300 && clientsS <= 500, () -> clientsS + " s");
        assertTrue(callsS > 50 && callsS <= 200, () -> callsS + " s");
    }

    /** What the service asks to be retried is, when it said, whatever the size of the request. */
    @Test
    void aRefusalWithAPushbackIsRetriedEvenForALongConversation() {
        server.complete = attempt -> {
            if (attempt == 1) {
                throw ScriptedServer.pushback(Status.RESOURCE_EXHAUSTED, "1");
            }
            return ANSWER;
        };
        try (TogetherChat chat = server.client()) {
            CompleteRequest large = request("m", user("x".repeat(3 * 1024 * 1024))).build();
            assertEquals(ANSWER, chat.complete(large));
        }
        assertEquals(2, server.calls.size());
        assertEquals("1", server.sent(1, "grpc-previous-rpc-attempts"));
    }

    /** Pushback -1 is a no, whatever the service config says. */
    @Test
    void aPushbackOfMinusOneEndsTheCall() {
        server.complete = attempt -> {
            throw ScriptedServer.pushback(Status.UNAVAILABLE, "-1");
        };
        try (TogetherChat chat = server.client()) {
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(ASK));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
        }
        assertEquals(1, server.calls.size());
    }

    /** Who says so gets no call sent twice. */
    @Test
    void retriesCanBeTurnedOff() {
        server.complete = attempt -> {
            throw ScriptedServer.pushback(Status.UNAVAILABLE, "1");
        };
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).retries(false).build()) {
            assertThrows(ChatException.class, () -> chat.complete(ASK));
        }
        assertEquals(1, server.calls.size());
    }

    /** A future gives the answer, or the same exception that a waiting thread gets. */
    @Test
    void aFutureEndsAsTheCallDoes() throws Exception {
        server.complete = attempt -> {
            if (attempt == 2) {
                throw Status.NOT_FOUND.withDescription("no such model").asRuntimeException();
            }
            return ANSWER;
        };
        try (TogetherChat chat = server.client()) {
            assertEquals(ANSWER, chat.completeAsync(ASK).get(1, TimeUnit.MINUTES));
            CompletableFuture<CompleteResponse> failing = chat.completeAsync(ASK);
            ExecutionException failed = assertThrows(ExecutionException.class, () -> failing.get(1, TimeUnit.MINUTES));
            assertEquals("no such model", ((ChatException) failed.getCause()).statusMessage());
        }
    }

    /** Nobody pays for an answer whose future was cancelled. */
    @Test
    void aCancelledFutureCancelsItsCall() throws Exception {
        server.complete = attempt -> null;
        try (TogetherChat chat = server.client()) {
            CompletableFuture<CompleteResponse> future = chat.completeAsync(ASK);
            Patience.until(() -> server.calls.size() == 1);
            future.cancel(true);
            assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
        }
    }

    /** A thread that is interrupted while it waits cancels its call, and stays interrupted. */
    @Test
    void anInterruptedThreadCancelsItsCall() throws Exception {
        server.complete = attempt -> null;
        try (TogetherChat chat = server.client()) {
            List<Object> seen = new ArrayList<>();
            Thread caller = new Thread(() -> {
                ChatException failed = assertThrows(ChatException.class, () -> chat.complete(ASK));
                seen.add(failed.code());
                seen.add(Thread.currentThread().isInterrupted());
            });
            caller.start();
            Patience.until(() -> server.calls.size() == 1);
            caller.interrupt();
            caller.join();
            assertEquals(List.of(Status.Code.CANCELLED, true), seen);
            assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
        }
    }

    /** A key does not cross a network in the clear, unless someone said that it may. */
    @Test
    void aTargetElsewhereIsSpokenToOverTls() {
        TogetherChatBuilder elsewhere = TogetherChat.builder("chat.example.com:443");
        assertInstanceOf(TlsChannelCredentials.class, elsewhere.credentials());
        assertInstanceOf(InsecureChannelCredentials.class, elsewhere.plaintext().credentials());
        TogetherChatBuilder here = TogetherChat.builder("localhost:50051");
        assertInstanceOf(InsecureChannelCredentials.class, here.credentials());
        assertInstanceOf(TlsChannelCredentials.class, here.tls().credentials());
    }

    /** Where TLS is wanted and the server has none, the call fails, and nothing of it is sent. */
    @Test
    void tlsIsNotGivenUpForAServerThatHasNone() {
        TogetherChatBuilder encrypted = TogetherChat.builder(server.address()).tls();
        try (TogetherChat chat = encrypted.key("secret").retries(false).build()) {
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(ASK));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
        }
        assertEquals(0, server.calls.size());
    }

    /** The next page is asked for by the token of the one before, with the same filters. */
    @Test
    void modelsComePageAfterPage() {
        List<ListModelsRequest> asked = new ArrayList<>();
        server.list = page -> {
            asked.add(page);
            ListModelsResponse.Builder response = ListModelsResponse.newBuilder()
                    .addModels(Model.newBuilder().setId("model-" + asked.size()));
            return response.setNextPageToken(asked.size() < 3 ? "page-" + asked.size() : "").build();
        };
        List<String> ids = new ArrayList<>();
        try (TogetherChat chat = server.client()) {
            for (Model model : chat.models(ListModelsRequest.newBuilder().setQuery("q").build())) {
                ids.add(model.getId());
            }
        }
        assertEquals(List.of("model-1", "model-2", "model-3"), ids);
        assertEquals(List.of("", "page-1", "page-2"), asked.stream().map(ListModelsRequest::getPageToken).toList());
        assertEquals(List.of("q", "q", "q"), asked.stream().map(ListModelsRequest::getQuery).toList());
    }

    /** A service that says NOT_SERVING gets no calls, and can be asked how it is all the same. */
    @Test
    void aServiceThatIsNotServingGetsNoCalls() {
        server.health.setStatus(TogetherChat.SERVICE, ServingStatus.NOT_SERVING);
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).retries(false).build()) {
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(ASK));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
            assertEquals(ServingStatus.NOT_SERVING, chat.health(TogetherChat.SERVICE));
        }
        assertEquals(0, server.calls.size());
    }
}
