package dev.togetherchat.client;

import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;

/**
 * The settings of one call. Start from {@link #DEFAULT}.
 *
 * @param timeout the time that the call may take; null means the client's, else the service config's, which is also
 *     gRPC's upper limit
 * @param requestId 1 to 128 printable ASCII characters, sent as {@code x-request-id}; empty means a random id
 * @param metadata further ASCII metadata to send
 */
public record CallSettings(Duration timeout, String requestId, Map<String, String> metadata) {
    /** The client's defaults. */
    public static final CallSettings DEFAULT = new CallSettings(null, "", Map.of());

    /** Copies the metadata, so that later changes of the map have no effect. */
    public CallSettings {
        metadata = Map.copyOf(metadata);
    }

    /** Returns a copy with this timeout. */
    public CallSettings withTimeout(Duration timeout) {
        return new CallSettings(timeout, requestId, metadata);
    }

    /** Returns a copy with this request id. */
    public CallSettings withRequestId(String requestId) {
        return new CallSettings(timeout, requestId, metadata);
    }

    /** Returns a copy with one more metadata pair. */
    public CallSettings withMetadata(String name, String value) {
        Map<String, String> more = new TreeMap<>(metadata);
        more.put(name, value);
        return new CallSettings(timeout, requestId, more);
    }
}
