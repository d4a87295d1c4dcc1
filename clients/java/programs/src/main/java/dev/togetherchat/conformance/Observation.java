package dev.togetherchat.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.Violation;

/** What the actor observed of one case: the protocol of clients/conformance/README.md. */
final class Observation {
    private static final JsonFormat.Printer PROTO_JSON = JsonFormat.printer().omittingInsignificantWhitespace();

    private final JsonObject json = new JsonObject();

    Observation(String id) {
        json.addProperty("id", id);
        json.addProperty("code", "OK");
        json.addProperty("reason", "");
        json.addProperty("message", "");
        json.addProperty("hint", "");
        json.addProperty("retryable", false);
        json.add("retry_after_ms", JsonNull.INSTANCE);
        json.add("violations", new JsonArray());
        json.addProperty("resource_name", "");
        json.add("error_metadata", new JsonObject());
        json.addProperty("events", 0);
        json.add("response", JsonNull.INSTANCE);
    }

    JsonObject json() {
        return json;
    }

    /** Counts one more message of a stream. */
    void event() {
        json.addProperty("events", json.get("events").getAsInt() + 1);
    }

    void response(MessageOrBuilder response) {
        try {
            json.add("response", JsonParser.parseString(PROTO_JSON.print(response)));
        } catch (InvalidProtocolBufferException impossible) {
            throw new IllegalStateException("a response without Any cannot fail to print", impossible);
        }
    }

    void failure(ChatException failure) {
        json.addProperty("code", failure.code().name());
        json.addProperty("reason", failure.reason());
        json.addProperty("message", failure.statusMessage());
        json.addProperty("hint", failure.hint());
        json.addProperty("retryable", failure.retryable().orElse(false));
        failure.retryAfter().ifPresent(wait -> json.addProperty("retry_after_ms", wait.toMillis()));
        JsonArray violations = json.getAsJsonArray("violations");
        failure.violations().forEach(violation -> violations.add(pair(violation)));
        json.addProperty("resource_name", failure.resourceName());
        JsonObject metadata = json.getAsJsonObject("error_metadata");
        failure.metadata().forEach(metadata::addProperty);
        failure.partial().ifPresent(this::response);
    }

    /** Notes that an argument was rejected before anything was sent. */
    void rejected(IllegalArgumentException wrong) {
        json.addProperty("code", "REJECTED");
        json.addProperty("message", wrong.getMessage());
    }

    private static JsonArray pair(Violation violation) {
        JsonArray pair = new JsonArray();
        pair.add(violation.field());
        pair.add(violation.description());
        return pair;
    }
}
