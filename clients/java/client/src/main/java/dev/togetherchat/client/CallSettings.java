package dev.togetherchat.client;

import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * The settings of one call. Start from {@link #DEFAULT}.
 *
 * @param timeout the time that the call may take; null means the client's, else the service config's, which is also
 *     gRPC's upper limit
 * @param requestId 1 to 128 printable ASCII characters, sent as {@code x-request-id}; empty means a random id
 * @param metadata further ASCII metadata to send; names are sent in lower case
 * @param waitForReady whether the call waits for a server until its deadline; empty means the client's setting
 */
public record CallSettings(
        Duration timeout, String requestId, Map<String, String> metadata, Optional<Boolean> waitForReady) {
    /** The client's defaults. */
    public static final CallSettings DEFAULT = new CallSettings(null, "", Map.of(), Optional.empty());

    /**
     * Checks the settings, and copies the metadata, so that later changes of the map have no effect.
     *
     * @throws IllegalArgumentException if a setting cannot be sent
     */
    public CallSettings {
        if (timeout != null) {
            Arguments.duration(timeout, "timeout");
        }
        Arguments.requestId(requestId);
        Map<String, String> sent = new TreeMap<>();
        metadata.forEach((name, value) -> sent.put(Arguments.metadataName(name, value), value));
        metadata = Map.copyOf(sent);
    }

    /** Returns a copy with this timeout: above 0 and at most one day. */
    public CallSettings withTimeout(Duration timeout) {
        return new CallSettings(timeout, requestId, metadata, waitForReady);
    }

    /** Returns a copy with this request id. */
    public CallSettings withRequestId(String requestId) {
        return new CallSettings(timeout, requestId, metadata, waitForReady);
    }

    /** Returns a copy with one more metadata pair. */
    public CallSettings withMetadata(String name, String value) {
        Map<String, String> more = new TreeMap<>(metadata);
        more.put(name, value);
        return new CallSettings(timeout, requestId, more, waitForReady);
    }

    /** Returns a copy of a call that waits for a server until its deadline, or does not. */
    public CallSettings withWaitForReady(boolean wait) {
        return new CallSettings(timeout, requestId, metadata, Optional.of(wait));
    }
}
