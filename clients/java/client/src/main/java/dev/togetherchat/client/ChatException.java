package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteResponse;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A call failed. Decide by {@link #code()} and {@link #reason()}; the message is for people.
 *
 * <p>What the service says about a failure is read in {@link ErrorDetails}; this class only holds it.
 */
// It cannot be serialized, as little as the exceptions of gRPC that cause it.
@SuppressWarnings("serial")
public final class ChatException extends RuntimeException {
    /** The one reason that is this library's own: an OK status without the end of the answer. */
    public static final String STREAM_INCOMPLETE = "STREAM_INCOMPLETE";

    private static final long serialVersionUID = 1L;

    private final Status.Code code;
    private final String statusMessage;
    private final ErrorDetails details;
    private final CompleteResponse partial;

    ChatException(Status.Code code, String message, ErrorDetails details, CompleteResponse partial, Throwable cause) {
        super(sentence(code, message, details), cause);
        this.code = code;
        this.statusMessage = message;
        this.details = details;
        this.partial = partial;
    }

    private static String sentence(Status.Code code, String message, ErrorDetails details) {
        String word = details.reason().isEmpty() ? code.name() : details.reason();
        return word + ": " + message + " (request " + details.requestId() + ")";
    }

    /** The status code. OK where a stream ended with it and without its last event: see STREAM_INCOMPLETE. */
    public Status.Code code() {
        return code;
    }

    /** The service's word for it, such as {@code RATE_LIMITED}. Empty when it did not get to say one. */
    public String reason() {
        return details.reason();
    }

    /** The status message as it came: one sentence for people, never to be decided by. */
    public String statusMessage() {
        return statusMessage;
    }

    /** The id of the call: the one that was sent, unless the service replaced it. */
    public String requestId() {
        return details.requestId();
    }

    /** Whether the same call may succeed later; empty when the service did not get to say so. */
    public Optional<Boolean> retryable() {
        return Optional.ofNullable(details.retryable());
    }

    /** How long to wait before a retry, where the service or the provider asked for a wait. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(details.retryAfter());
    }

    /** Everything that is wrong with the request. */
    public List<Violation> violations() {
        return details.violations();
    }

    /** The limits and conditions that stood in the way, by QuotaFailure and PreconditionFailure. */
    public List<Violation> limits() {
        return details.limits();
    }

    /** Facts such as {@code upstreamHttpStatus}, {@code upstreamErrorCode}, {@code model}, {@code phase}. */
    public Map<String, String> metadata() {
        return details.metadata();
    }

    /** What a stream had gathered before it broke; empty when nothing came. */
    public Optional<CompleteResponse> partial() {
        return Optional.ofNullable(partial);
    }
}
