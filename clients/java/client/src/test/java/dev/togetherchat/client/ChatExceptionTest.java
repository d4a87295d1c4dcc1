package dev.togetherchat.client;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.QuotaFailure;
import com.google.rpc.RequestInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The exception of a failed call, with and without details. */
class ChatExceptionTest {
    private static final CallSettings WITH_ID = CallSettings.DEFAULT.withRequestId("sent");

    private final ScriptedServer server = new ScriptedServer();

    @AfterEach
    void stop() {
        server.close();
    }

    private ChatException failure(StatusRuntimeException failure) {
        server.complete = attempt -> {
            throw failure;
        };
        try (TogetherChat chat =
                TogetherChat.builder(server.address()).retries(false).build()) {
            return assertThrows(
                    ChatException.class, () -> chat.complete(request("m", user("Hi")).build(), WITH_ID));
        }
    }

    private static ErrorInfo info(String domain) {
        return ErrorInfo.newBuilder()
                .setDomain(domain)
                .setReason("RATE_LIMITED")
                .putMetadata("upstreamHttpStatus", "429")
                .build();
    }

    private static Status limited() {
        return Status.RESOURCE_EXHAUSTED.withDescription("too many");
    }

    /** Every detail of a failure has an accessor. */
    @Test
    void theDetailsOfAFailureAreRead() {
        ChatException failed = failure(ScriptedServer.detailed(
                limited(),
                List.of(
                        info("togetherchat"),
                        RequestInfo.newBuilder().setRequestId("theirs").build(),
                        RetryInfo.newBuilder()
                                .setRetryDelay(com.google.protobuf.Duration.newBuilder()
                                        .setSeconds(1)
                                        .setNanos(250_000_000))
                                .build(),
                        QuotaFailure.newBuilder()
                                .addViolations(QuotaFailure.Violation.newBuilder()
                                        .setSubject("requests")
                                        .setDescription("10 a second"))
                                .build(),
                        ResourceInfo.newBuilder()
                                .setResourceType("model")
                                .setResourceName("a/b")
                                .build()),
                "x-error-retryable",
                "true"));
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, failed.code());
        assertEquals(ErrorReason.RATE_LIMITED, failed.reason());
        assertEquals("too many", failed.statusMessage());
        assertEquals("theirs", failed.requestId());
        assertEquals(Optional.of(true), failed.retryable());
        assertEquals(Optional.of(Duration.ofMillis(1250)), failed.retryAfter());
        assertEquals(List.of(new Violation("requests", "10 a second")), failed.limits());
        assertEquals("a/b", failed.resourceName());
        assertEquals(Map.of("upstreamHttpStatus", "429"), failed.metadata());
        assertEquals(List.of(), failed.violations());
        assertEquals(Optional.empty(), failed.partial());
        assertEquals("RATE_LIMITED: too many (request theirs)", failed.getMessage());
    }

    /** All violations of a request are reported at once. */
    @Test
    void violationsAreThoseOfTheRequest() {
        BadRequest.Builder bad = BadRequest.newBuilder();
        bad.addFieldViolationsBuilder().setField("model").setDescription("is missing");
        bad.addFieldViolationsBuilder().setField("top_p").setDescription("must be 0 to 1");
        ChatException failed =
                failure(ScriptedServer.detailed(Status.INVALID_ARGUMENT, List.of(bad.build())));
        assertEquals(
                List.of(new Violation("model", "is missing"), new Violation("top_p", "must be 0 to 1")),
                failed.violations());
    }

    /** Without details in the status, reason and retryability are read from the plain-text trailers. */
    @Test
    void plainTextTrailersReplaceMissingDetails() {
        Metadata trailers = new Metadata();
        trailers.put(Metadata.Key.of("x-error-reason", Metadata.ASCII_STRING_MARSHALLER), "DRAINING");
        trailers.put(Metadata.Key.of("x-error-retryable", Metadata.ASCII_STRING_MARSHALLER), "false");
        ChatException failed = failure(Status.UNAVAILABLE.asRuntimeException(trailers));
        assertEquals("DRAINING", failed.reason());
        assertEquals(Optional.of(false), failed.retryable());
        assertEquals("sent", failed.requestId());
        assertEquals("", failed.statusMessage());
    }

    /** An ErrorInfo with another domain, such as a proxy's, is ignored. */
    @Test
    void anErrorInfoOfAnotherDomainIsIgnored() {
        ChatException failed = failure(ScriptedServer.detailed(limited(), List.of(info("proxy.example.com"))));
        assertEquals("", failed.reason());
        assertEquals(Map.of(), failed.metadata());
    }

    /** Details that cannot be parsed are ignored; the status is kept. */
    @Test
    void unreadableDetailsAreIgnored() {
        Metadata trailers = new Metadata();
        trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {-1, -1});
        ChatException failed = failure(Status.INTERNAL.withDescription("oh").asRuntimeException(trailers));
        assertEquals(Status.Code.INTERNAL, failed.code());
        assertEquals("oh", failed.statusMessage());
        assertEquals("", failed.reason());
    }

    /** An unreachable service is UNAVAILABLE, with the client's reason and hint; the call may be made again. */
    @Test
    void anUnreachableServiceIsUnavailable() {
        String address = server.address();
        server.close();
        try (TogetherChat chat = TogetherChat.builder(address).retries(false).build()) {
            ChatException failed = assertThrows(
                    ChatException.class, () -> chat.complete(request("m", user("Hi")).build(), WITH_ID));
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
            assertEquals("sent", failed.requestId());
            assertEquals("NOT_CONNECTED", failed.reason());
            assertEquals(Optional.of(true), failed.retryable());
            assertTrue(failed.hint().startsWith("the service was not reached"), failed.hint());
        }
    }
}
