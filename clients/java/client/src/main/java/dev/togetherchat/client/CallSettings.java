package dev.togetherchat.client;

import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;

/**
 * What one call has of its own. Start from {@link #DEFAULT}.
 *
 * @param timeout the call's deadline from its start; null: the client's, else the service config's, which also is the
 *     most that gRPC lets a call have
 * @param requestId 1 to 128 printable ASCII characters, sent as {@code x-request-id}; empty: one is made up
 * @param metadata more pairs to send, ASCII
 */
public record CallSettings(Duration timeout, String requestId, Map<String, String> metadata) {
    /** Nothing of its own. */
    public static final CallSettings DEFAULT = new CallSettings(null, "", Map.of());

    /** Copies what can change. */
    public CallSettings {
        metadata = Map.copyOf(metadata);
    }

    /** The same with a deadline. */
    public CallSettings withTimeout(Duration timeout) {
        return new CallSettings(timeout, requestId, metadata);
    }

    /** The same with an id. */
    public CallSettings withRequestId(String requestId) {
        return new CallSettings(timeout, requestId, metadata);
    }

    /** The same with one more pair to send. */
    public CallSettings withMetadata(String name, String value) {
        Map<String, String> more = new TreeMap<>(metadata);
        more.put(name, value);
        return new CallSettings(timeout, requestId, more);
    }
}
