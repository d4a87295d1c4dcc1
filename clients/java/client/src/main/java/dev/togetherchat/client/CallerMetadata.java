package dev.togetherchat.client;

import io.grpc.Metadata;
import java.util.UUID;

/** The metadata of every call: the caller's keys and the request id. {@code toString} never shows a key. */
final class CallerMetadata {
    private static final Metadata.Key<String> AUTHORIZATION = key("authorization");
    private static final Metadata.Key<String> UPSTREAM_KEY = key("x-together-api-key");
    private static final Metadata.Key<String> REQUEST_ID = key("x-request-id");

    private final String callerKey;
    private final String upstreamKey;

    /** Each key may be null. */
    CallerMetadata(String callerKey, String upstreamKey) {
        this.callerKey = callerKey;
        this.upstreamKey = upstreamKey;
    }

    /** Returns the request id of the settings, or a random one. */
    static String requestId(CallSettings settings) {
        return settings.requestId().isEmpty()
                ? UUID.randomUUID().toString().replace("-", "")
                : settings.requestId();
    }

    /** Returns the metadata of a call. */
    Metadata of(CallSettings settings, String requestId) {
        Metadata metadata = keys();
        metadata.put(REQUEST_ID, requestId);
        settings.metadata().forEach((name, value) -> metadata.put(key(name), value));
        return metadata;
    }

    /** Returns the keys alone. */
    Metadata keys() {
        Metadata metadata = new Metadata();
        if (callerKey != null) {
            metadata.put(AUTHORIZATION, "Bearer " + callerKey);
        }
        if (upstreamKey != null) {
            metadata.put(UPSTREAM_KEY, upstreamKey);
        }
        return metadata;
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }
}
