package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteResponse;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The exception of a failed call. Branch on {@link #code()} and {@link #reason()}; the message is for people.
 *
 * <p>{@link ErrorDetails} reads the details that the service sends; this class holds them.
 */
// Not serializable, like gRPC's own exceptions, which are its cause.
@SuppressWarnings("serial")
public final class ChatException extends RuntimeException {
    /** A reason that this library sets itself, beside those in {@link #hint()}: a stream ended with OK but without its last event. */
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

    /** The status code. OK if a stream ended with OK but without its last event: see STREAM_INCOMPLETE. */
    public Status.Code code() {
        return code;
    }

    /**
     * One of {@link ErrorReason}, or a reason of a later version. If the service sent none, one of the client's, such
     * as {@code NOT_CONNECTED}, or empty.
     */
    public String reason() {
        return details.reason();
    }

    /**
     * One sentence about what to check, if the reason is the client's: {@code NOT_CONNECTED}, or {@code PROXY_...} if a
     * proxy answered in place of the service. Else empty.
     */
    public String hint() {
        return details.hint();
    }

    /** The status message, unchanged: one sentence for people. Never branch on it. */
    public String statusMessage() {
        return statusMessage;
    }

    /** The request id that was sent, unless the service replaced it. */
    public String requestId() {
        return details.requestId();
    }

    /**
     * Whether the same call may succeed later; empty if that is not known. After a lost connection ({@code
     * NOT_CONNECTED}) the first attempt may have been completed and billed.
     */
    public Optional<Boolean> retryable() {
        return Optional.ofNullable(details.retryable());
    }

    /** How long to wait before a retry, if the service or the provider requested a wait. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(details.retryAfter());
    }

    /** All that is wrong with the request. */
    public List<Violation> violations() {
        return details.violations();
    }

    /** The limits that were reached and the conditions that were not met: QuotaFailure and PreconditionFailure. */
    public List<Violation> limits() {
        return details.limits();
    }

    /** The resource that the failure is about: the model if the reason is MODEL_NOT_FOUND. Else empty. */
    public String resourceName() {
        return details.resourceName();
    }

    /** Facts such as {@code upstreamHttpStatus}, {@code upstreamErrorCode}, {@code model}, {@code phase}. */
    public Map<String, String> metadata() {
        return details.metadata();
    }

    /** What a stream received before it failed; empty if nothing was received. */
    public Optional<CompleteResponse> partial() {
        return Optional.ofNullable(partial);
    }
}
