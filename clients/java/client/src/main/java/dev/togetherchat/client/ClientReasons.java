package dev.togetherchat.client;

import io.grpc.Status;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The reasons that this library sets itself when the service sent none. The table is that of {@code
 * clients/conformance/client_reasons.json}, which is the same in all clients.
 */
enum ClientReasons {
    NOT_CONNECTED(
            List.of(),
            true,
            "the service was not reached, or the connection was lost; "
                    + "check the target, TLS on both sides, and that the service is running"),
    PROXY_ACCESS_DENIED(List.of("401", "403"), false, "a proxy rejected the call; check its access rules"),
    PROXY_NO_ROUTE(
            List.of("404"),
            false,
            "an HTTP server without this method answered; check the target and the routes of the proxy"),
    PROXY_REQUEST_TOO_LARGE(
            List.of("413"),
            false,
            "a proxy rejected the size of the request; raise its limit (in nginx, client_max_body_size)"),
    PROXY_RATE_LIMITED(List.of("429"), true, "a proxy limits the calls; wait before the next one"),
    PROXY_UNAVAILABLE(
            List.of("502", "503", "504"),
            true,
            "a proxy did not reach the service; check the address that the proxy calls, "
                    + "and that it speaks HTTP/2 to the service"),
    PROXY_ERROR(List.of(), null, "a proxy answered with an HTTP error instead of a gRPC status; see its log");

    // grpc-java reports the HTTP status of a response that is not gRPC's only in the text of its status.
    private static final Pattern HTTP_STATUS = Pattern.compile("^HTTP status code (\\d+)");

    /** Whether the same call may succeed later; null if that is not known. */
    final Boolean retryable;

    /** One sentence about what to check. */
    final String hint;

    private final List<String> httpStatuses;

    ClientReasons(List<String> httpStatuses, Boolean retryable, String hint) {
        this.httpStatuses = httpStatuses;
        this.retryable = retryable;
        this.hint = hint;
    }

    /** Returns the reason of a failure for which the service sent none; empty if there is no such reason. */
    static Optional<ClientReasons> of(Status failed) {
        Matcher found = HTTP_STATUS.matcher(failed.getDescription() == null ? "" : failed.getDescription());
        if (found.find()) {
            for (ClientReasons each : values()) {
                if (each.httpStatuses.contains(found.group(1))) {
                    return Optional.of(each);
                }
            }
            return Optional.of(PROXY_ERROR);
        }
        return failed.getCode() == Status.Code.UNAVAILABLE ? Optional.of(NOT_CONNECTED) : Optional.empty();
    }
}
