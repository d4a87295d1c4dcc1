package dev.togetherchat.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.QuotaFailure;
import com.google.rpc.RequestInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What the service reports about a failure beside code and message: the {@code google.rpc} details, or the plain-text
 * trailers if a proxy dropped the details. Without both, {@link ClientReasons} has the reason.
 */
record ErrorDetails(
        String reason,
        String requestId,
        Boolean retryable,
        Duration retryAfter,
        List<Violation> violations,
        List<Violation> limits,
        String resourceName,
        Map<String, String> metadata,
        String hint) {

    private static final String DOMAIN = "togetherchat";
    private static final Metadata.Key<String> REASON = key("x-error-reason");
    private static final Metadata.Key<String> RETRYABLE = key("x-error-retryable");
    private static final Metadata.Key<String> REQUEST_ID = key("x-request-id");

    /** Returns the details of a failure for which the service sent none. */
    static ErrorDetails withoutDetails(String reason, String requestId) {
        return new ErrorDetails(reason, requestId, null, null, List.of(), List.of(), "", Map.of(), "");
    }

    /** Reads the details of a failed call. Parts that are missing or cannot be parsed stay empty. */
    static ErrorDetails of(StatusRuntimeException failure, String sentRequestId) {
        Metadata trailers = failure.getTrailers() == null ? new Metadata() : failure.getTrailers();
        Packed packed = Packed.of(failure);
        Optional<ErrorInfo> info = packed.find(ErrorInfo.class)
                // A proxy may send an ErrorInfo of its own. Only the service's domain counts.
                .filter(found -> found.getDomain().equals(DOMAIN));
        String reason = info.map(ErrorInfo::getReason).orElse(text(trailers, REASON));
        Optional<ClientReasons> own = reason.isEmpty() ? ClientReasons.of(failure.getStatus()) : Optional.empty();
        return new ErrorDetails(
                own.map(ClientReasons::name).orElse(reason),
                packed.find(RequestInfo.class)
                        .map(RequestInfo::getRequestId)
                        .filter(id -> !id.isEmpty())
                        .orElse(Optional.ofNullable(trailers.get(REQUEST_ID)).orElse(sentRequestId)),
                own.map(known -> known.retryable).orElse(flag(text(trailers, RETRYABLE))),
                packed.find(RetryInfo.class).map(ErrorDetails::delay).orElse(null),
                packed.find(BadRequest.class).map(ErrorDetails::fieldViolations).orElse(List.of()),
                packed.find(QuotaFailure.class)
                        .map(ErrorDetails::quotaViolations)
                        .or(() -> packed.find(PreconditionFailure.class).map(ErrorDetails::preconditionViolations))
                        .orElse(List.of()),
                packed.find(ResourceInfo.class)
                        .map(ResourceInfo::getResourceName)
                        .orElse(""),
                info.map(ErrorInfo::getMetadataMap).map(Map::copyOf).orElse(Map.of()),
                own.map(known -> known.hint).orElse(""));
    }

    private static Duration delay(RetryInfo info) {
        return Duration.ofSeconds(
                info.getRetryDelay().getSeconds(), info.getRetryDelay().getNanos());
    }

    private static List<Violation> fieldViolations(BadRequest bad) {
        return bad.getFieldViolationsList().stream()
                .map(violation -> new Violation(violation.getField(), violation.getDescription()))
                .toList();
    }

    private static List<Violation> quotaViolations(QuotaFailure failure) {
        return failure.getViolationsList().stream()
                .map(violation -> new Violation(violation.getSubject(), violation.getDescription()))
                .toList();
    }

    private static List<Violation> preconditionViolations(PreconditionFailure failure) {
        return failure.getViolationsList().stream()
                .map(violation -> new Violation(violation.getSubject(), violation.getDescription()))
                .toList();
    }

    private static Boolean flag(String word) {
        return switch (word) {
            case "true" -> Boolean.TRUE;
            case "false" -> Boolean.FALSE;
            default -> null;
        };
    }

    private static String text(Metadata trailers, Metadata.Key<String> key) {
        String value = trailers.get(key);
        return value == null ? "" : value;
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    /** The details as packed messages. */
    private record Packed(List<Any> details) {
        static Packed of(StatusRuntimeException failure) {
            try {
                com.google.rpc.Status status = StatusProto.fromThrowable(failure);
                return new Packed(status == null ? List.of() : status.getDetailsList());
            } catch (IllegalArgumentException unreadable) {
                // The bytes are not a google.rpc.Status, or its code differs from the call's.
                return new Packed(List.of());
            }
        }

        <T extends Message> Optional<T> find(Class<T> type) {
            for (Any detail : details) {
                if (detail.is(type)) {
                    try {
                        return Optional.of(detail.unpack(type));
                    } catch (InvalidProtocolBufferException unreadable) {
                        return Optional.empty();
                    }
                }
            }
            return Optional.empty();
        }
    }
}
