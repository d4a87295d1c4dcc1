package dev.togetherchat.client;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.togetherchat.v1.ChatServiceGrpc;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListModelsResponse;
import dev.togetherchat.v1.Model;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The client against a scripted server on loopback. */
class TogetherChatTest {
    private static final CompleteRequest REQUEST = request("m", user("Hi")).build();
    private static final CompleteResponse RESPONSE =
            CompleteResponse.newBuilder().setId("chat-1").build();

    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final ScriptedServer server = new ScriptedServer();

    @AfterEach
    void stop() {
        server.close();
    }

    /** A call sends keys, request id, metadata and its timeout, by default the service config's. */
    @Test
    void aCallCarriesItsKeyItsIdAndTheServiceConfigsTimeout() {
        server.complete = attempt -> RESPONSE;
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).key(" secret\n").upstreamKey("own").build()) {
            chat.complete(REQUEST, CallSettings.DEFAULT.withRequestId("order-17").withMetadata("x-tag", "t"));
        }
        assertEquals("Bearer secret", server.sent(0, "authorization"));
        assertEquals("own", server.sent(0, "x-together-api-key"));
        assertEquals("order-17", server.sent(0, "x-request-id"));
        assertEquals("t", server.sent(0, "x-tag"));
        assertTrue(server.sent(0, "user-agent").startsWith("togetherchat-java"), server.sent(0, "user-agent"));
        long leftS = server.deadlines.get(0).timeRemaining(TimeUnit.SECONDS);
        assertTrue(leftS > 300 && leftS <= 600, () -> leftS + " s");
    }

    /** The timeout of a call takes precedence over the client's. */
    @Test
    void theTimeoutOfACallOverridesTheClients() {
        try (TogetherChat chat = TogetherChat.builder(server.address())
                .timeout(Duration.ofSeconds(500))
                .build()) {
            chat.complete(REQUEST);
            chat.complete(REQUEST, CallSettings.DEFAULT.withTimeout(Duration.ofSeconds(200)));
        }
        long clientsS = server.deadlines.get(0).timeRemaining(TimeUnit.SECONDS);
        long callsS = server.deadlines.get(1).timeRemaining(TimeUnit.SECONDS);
        assertTrue(clientsS > 300 && clientsS <= 500, () -> clientsS + " s");
        assertTrue(callsS > 50 && callsS <= 200, () -> callsS + " s");
    }

    /** A failure with a pushback is retried, also for a request of 3 MiB. */
    @Test
    void aFailureWithAPushbackIsRetriedEvenForALongConversation() {
        server.complete = attempt -> {
            if (attempt == 1) {
                throw ScriptedServer.pushback(Status.RESOURCE_EXHAUSTED, "1");
            }
            return RESPONSE;
        };
        try (TogetherChat chat = server.client()) {
            CompleteRequest large = request("m", user("x".repeat(3 * 1024 * 1024))).build();
            assertEquals(RESPONSE, chat.complete(large));
        }
        assertEquals(2, server.calls.size());
        assertEquals("1", server.sent(1, "grpc-previous-rpc-attempts"));
    }

    /** Pushback -1 stops retries, also of a status that the service config lists. */
    @Test
    void aPushbackOfMinusOneStopsRetries() {
        server.complete = attempt -> {
            throw ScriptedServer.pushback(Status.UNAVAILABLE, "-1");
        };
        try (TogetherChat chat = server.client()) {
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(REQUEST));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
        }
        assertEquals(1, server.calls.size());
    }

    /** With retries(false), no call is sent twice. */
    @Test
    void retriesCanBeTurnedOff() {
        server.complete = attempt -> {
            throw ScriptedServer.pushback(Status.UNAVAILABLE, "1");
        };
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).retries(false).build()) {
            assertThrows(ChatException.class, () -> chat.complete(REQUEST));
        }
        assertEquals(1, server.calls.size());
    }

    /** A future completes with the response, or with the exception that a waiting thread gets. */
    @Test
    void aFutureEndsAsTheCallDoes() throws Exception {
        server.complete = attempt -> {
            if (attempt == 2) {
                throw Status.NOT_FOUND.withDescription("no such model").asRuntimeException();
            }
            return RESPONSE;
        };
        try (TogetherChat chat = server.client()) {
            assertEquals(RESPONSE, chat.completeAsync(REQUEST).get(1, TimeUnit.MINUTES));
            CompletableFuture<CompleteResponse> failing = chat.completeAsync(REQUEST);
            ExecutionException failed = assertThrows(ExecutionException.class, () -> failing.get(1, TimeUnit.MINUTES));
            assertEquals("no such model", ((ChatException) failed.getCause()).statusMessage());
        }
    }

    /** Cancelling a future cancels its call. */
    @Test
    void aCancelledFutureCancelsItsCall() throws Exception {
        server.complete = attempt -> null;
        try (TogetherChat chat = server.client()) {
            CompletableFuture<CompleteResponse> future = chat.completeAsync(REQUEST);
            Waiting.until(() -> server.calls.size() == 1);
            future.cancel(true);
            assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
        }
    }

    /** Interrupting a waiting thread cancels its call and keeps the interrupt flag. */
    @Test
    void anInterruptedThreadCancelsItsCall() throws Exception {
        server.complete = attempt -> null;
        try (TogetherChat chat = server.client()) {
            List<Object> seen = new ArrayList<>();
            Thread caller = new Thread(() -> {
                ChatException failed = assertThrows(ChatException.class, () -> chat.complete(REQUEST));
                seen.add(failed.code());
                seen.add(Thread.currentThread().isInterrupted());
            });
            caller.start();
            Waiting.until(() -> server.calls.size() == 1);
            caller.interrupt();
            caller.join();
            assertEquals(List.of(Status.Code.CANCELLED, true), seen);
            assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
        }
    }

    /** TLS is the default for a target on another machine, and plaintext for one on this machine. */
    @Test
    void tlsIsTheDefaultForARemoteTarget() {
        TogetherChatBuilder elsewhere = TogetherChat.builder("chat.example.com:443");
        assertInstanceOf(TlsChannelCredentials.class, elsewhere.credentials());
        assertInstanceOf(InsecureChannelCredentials.class, elsewhere.plaintext().credentials());
        TogetherChatBuilder here = TogetherChat.builder("localhost:50051");
        assertInstanceOf(InsecureChannelCredentials.class, here.credentials());
        assertInstanceOf(TlsChannelCredentials.class, here.tls().credentials());
    }

    /** A call over TLS to a plaintext server fails, and nothing of it is sent. */
    @Test
    void aTlsClientDoesNotFallBackToPlaintext() {
        TogetherChatBuilder encrypted = TogetherChat.builder(server.address()).tls();
        try (TogetherChat chat = encrypted.key("secret").retries(false).build()) {
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(REQUEST));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
        }
        assertEquals(0, server.calls.size());
    }

    /** Each page is requested with the token of the previous one and the same filters. */
    @Test
    void modelsAreListedAcrossAllPages() {
        List<ListModelsRequest> requests = new ArrayList<>();
        server.list = page -> {
            requests.add(page);
            ListModelsResponse.Builder response = ListModelsResponse.newBuilder()
                    .addModels(Model.newBuilder().setId("model-" + requests.size()));
            return response.setNextPageToken(requests.size() < 3 ? "page-" + requests.size() : "").build();
        };
        List<String> ids = new ArrayList<>();
        try (TogetherChat chat = server.client()) {
            for (Model model : chat.models(ListModelsRequest.newBuilder().setQuery("q").build())) {
                ids.add(model.getId());
            }
        }
        assertEquals(List.of("model-1", "model-2", "model-3"), ids);
        assertEquals(List.of("", "page-1", "page-2"), requests.stream().map(ListModelsRequest::getPageToken).toList());
        assertEquals(List.of("q", "q", "q"), requests.stream().map(ListModelsRequest::getQuery).toList());
    }

    /** With health checks, a service that reports NOT_SERVING gets no calls, and its health can still be read. */
    @Test
    void withHealthChecksAServiceThatIsNotServingGetsNoCalls() {
        server.health.setStatus(TogetherChat.SERVICE, ServingStatus.NOT_SERVING);
        TogetherChatBuilder checking = TogetherChat.builder(server.address()).healthChecking(true);
        try (TogetherChat chat = checking.retries(false).build()) {
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(REQUEST));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
            assertEquals(ServingStatus.NOT_SERVING, chat.health(TogetherChat.SERVICE));
        }
        assertEquals(0, server.calls.size());
    }

    /** A proxy that never answers the health watch does not make calls wait for their deadline. */
    @Test
    void aWatchWithoutAnAnswerDelaysNoCallForLong() throws Exception {
        server.watch = metadata -> ScriptedServer.Watch.SILENT;
        server.complete = attempt -> RESPONSE;
        TogetherChatBuilder checking = TogetherChat.builder(server.address()).healthChecking(true);
        try (TogetherChat chat = checking.key("tc_1").retries(false).build()) {
            // Without a timeout, a call that waited for the watch would wait for 600 s.
            CompletableFuture<CompleteResponse> later = chat.completeAsync(REQUEST);
            assertEquals(RESPONSE, chat.complete(REQUEST));
            assertEquals(RESPONSE, later.get(1, TimeUnit.MINUTES));
            assertEquals(RESPONSE, chat.complete(REQUEST));
        }
        assertEquals(1, server.watches.size());
        assertEquals(3, server.calls.size());
        assertEquals("Bearer tc_1", server.sent(0, "authorization"));
    }

    /** A gateway in plaintext that demands a key accepts the watch. The calls have each key once. */
    @Test
    void theWatchCarriesTheKeys() {
        server.watch = metadata -> metadata.containsKey(AUTHORIZATION)
                ? ScriptedServer.Watch.ANSWERED
                : ScriptedServer.Watch.REJECTED;
        server.complete = attempt -> RESPONSE;
        TogetherChatBuilder checking = TogetherChat.builder(server.address()).healthChecking(true);
        try (TogetherChat chat =
                checking.key("tc_1").upstreamKey("own").retries(false).build()) {
            assertEquals(RESPONSE, chat.complete(REQUEST));
        }
        Metadata watch = server.watches.get(0);
        assertEquals(List.of("Bearer tc_1"), values(watch, "authorization"));
        assertEquals(List.of("own"), values(watch, "x-together-api-key"));
        assertEquals(List.of("Bearer tc_1"), values(server.calls.get(0), "authorization"));
    }

    /** A call that waits for the watch ends with its own deadline, and at once when it is cancelled. */
    @Test
    void aCallThatWaitsForTheWatchEndsEarly() {
        server.watch = metadata -> ScriptedServer.Watch.SILENT;
        server.complete = attempt -> null;
        TogetherChatBuilder checking = TogetherChat.builder(server.address()).healthChecking(true);
        try (TogetherChat chat = checking.retries(false).build()) {
            CallSettings soon = CallSettings.DEFAULT.withTimeout(Duration.ofMillis(50));
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(REQUEST, soon));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, failed.code());
            CompletableFuture<CompleteResponse> later = chat.completeAsync(REQUEST);
            assertTrue(later.cancel(true));
        }
    }

    private static List<String> values(Metadata metadata, String name) {
        List<String> found = new ArrayList<>();
        metadata.getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER)).forEach(found::add);
        return found;
    }

    /** Without health checks, the default, a service gets calls whatever its health service reports. */
    @Test
    void withoutHealthChecksAServiceGetsCalls() {
        server.complete = attempt -> RESPONSE;
        server.health.setStatus(TogetherChat.SERVICE, ServingStatus.NOT_SERVING);
        try (TogetherChat chat = server.client()) {
            assertEquals(RESPONSE, chat.complete(REQUEST));
        }
    }

    /** A call that waits for ready reaches a server that starts later; another call fails at once. */
    @Test
    void aCallCanWaitForAServer() throws Exception {
        int port = server.port();
        server.close();
        TogetherChatBuilder waiting = TogetherChat.builder("127.0.0.1:" + port)
                .waitForReady(true)
                .retries(false)
                .maxReconnectBackoff(Duration.ofMillis(20));
        try (TogetherChat chat = waiting.build()) {
            ChatException failed = assertThrows(
                    ChatException.class,
                    () -> chat.complete(REQUEST, CallSettings.DEFAULT.withWaitForReady(false)));
            assertEquals("NOT_CONNECTED", failed.reason());
            CompletableFuture<CompleteResponse> later = chat.completeAsync(REQUEST);
            try (ScriptedServer started = new ScriptedServer(port)) {
                started.complete = attempt -> RESPONSE;
                assertEquals(RESPONSE, later.get(1, TimeUnit.MINUTES));
            }
        }
    }

    /** A call that waits for ready ends with its deadline. */
    @Test
    void aCallThatWaitsEndsWithItsDeadline() {
        server.close();
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).waitForReady(true).build()) {
            CallSettings soon = CallSettings.DEFAULT.withTimeout(Duration.ofMillis(50));
            ChatException failed = assertThrows(ChatException.class, () -> chat.complete(REQUEST, soon));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, failed.code());
        }
    }

    /** A channel without a connection tries again within the bound, although grpc-java's own waits are longer. */
    @Test
    void theReconnectBackoffIsBounded() throws Exception {
        int port = server.port();
        server.close();
        TogetherChatBuilder bounded =
                TogetherChat.builder("127.0.0.1:" + port).maxReconnectBackoff(Duration.ofMillis(20));
        try (TogetherChat chat = bounded.build()) {
            assertThrows(ChatException.class, () -> chat.complete(REQUEST));
            try (ServerSocket refusing = new ServerSocket(port, 8, InetAddress.getByName("127.0.0.1"))) {
                long startedNs = System.nanoTime();
                for (int attempt = 1; attempt <= 5; attempt++) {
                    refusing.accept().close();
                }
                // grpc-java's own waits before these attempts are 1, 1.6, 2.6 and 4.1 s, less 20 %.
                assertTrue(Duration.ofNanos(System.nanoTime() - startedNs).toSeconds() < 5);
            }
        }
    }

    /** The executor runs the futures of calls, and the channel serves the generated stubs. */
    @Test
    void theExecutorAndTheChannelAreTheCallers() throws Exception {
        server.complete = attempt -> RESPONSE;
        List<Thread> threads = new CopyOnWriteArrayList<>();
        ExecutorService executor = Executors.newCachedThreadPool(run -> {
            Thread thread = new Thread(run);
            threads.add(thread);
            return thread;
        });
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).executor(executor).build()) {
            Thread completed = chat.completeAsync(REQUEST)
                    .thenApply(response -> Thread.currentThread())
                    .get(1, TimeUnit.MINUTES);
            assertTrue(threads.contains(completed) || completed == Thread.currentThread());
            assertFalse(threads.isEmpty());
            assertEquals(RESPONSE, ChatServiceGrpc.newBlockingStub(chat.channel()).complete(REQUEST));
        } finally {
            executor.shutdown();
        }
    }
}
