package dev.togetherchat.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import dev.togetherchat.client.CallSettings;
import java.time.Duration;
import java.util.Map;
import java.util.OptionalLong;

/** A case as an actor reads it. */
record Case(JsonObject json) {
    private static final JsonFormat.Parser PROTO_JSON = JsonFormat.parser();

    String id() {
        return json.get("id").getAsString();
    }

    String call() {
        return json.get("call").getAsString();
    }

    boolean retries() {
        return !json.has("retries") || json.get("retries").getAsBoolean();
    }

    /** The number of events after which a stream is cancelled. */
    OptionalLong cancelAfterEvents() {
        return cancel("after_events");
    }

    /** The time after which the call is cancelled. */
    OptionalLong cancelAfterMs() {
        return cancel("after_ms");
    }

    CallSettings settings() {
        CallSettings settings = CallSettings.DEFAULT.withRequestId(id());
        if (json.has("deadline_ms")) {
            settings = settings.withTimeout(
                    Duration.ofMillis(json.get("deadline_ms").getAsLong()));
        }
        if (json.has("metadata")) {
            for (Map.Entry<String, JsonElement> pair :
                    json.getAsJsonObject("metadata").entrySet()) {
                settings = settings.withMetadata(pair.getKey(), pair.getValue().getAsString());
            }
        }
        return settings;
    }

    /** Reads the request into {@code message} and returns it. */
    <B extends Message.Builder> B request(B message) {
        JsonObject request = json.has("request") ? json.getAsJsonObject("request") : new JsonObject();
        try {
            PROTO_JSON.merge(request.toString(), message);
        } catch (InvalidProtocolBufferException broken) {
            throw new IllegalArgumentException("case " + id() + " has an invalid request", broken);
        }
        return message;
    }

    private OptionalLong cancel(String when) {
        boolean present = json.has("cancel") && json.getAsJsonObject("cancel").has(when);
        return present
                ? OptionalLong.of(json.getAsJsonObject("cancel").get(when).getAsLong())
                : OptionalLong.empty();
    }
}
