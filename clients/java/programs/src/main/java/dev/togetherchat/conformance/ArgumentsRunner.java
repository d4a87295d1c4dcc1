package dev.togetherchat.conformance;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.user;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import dev.togetherchat.client.CallSettings;
import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.client.TogetherChatBuilder;
import java.time.Duration;

/** Opens a client with the arguments of a case, and calls unless the case is about the target. */
final class ArgumentsRunner {
    private static final String MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo";

    private ArgumentsRunner() {}

    static JsonObject run(String server, Case testCase) {
        Observation observation = new Observation(testCase.id());
        JsonObject given = testCase.json().getAsJsonObject("arguments");
        try (TogetherChat chat = client(server, given)) {
            if (!given.has("target")) {
                chat.complete(request(MODEL, user(text(given))).build(), settings(given));
            }
        } catch (IllegalArgumentException wrong) {
            observation.rejected(wrong);
        } catch (ChatException failed) {
            observation.failure(failed);
        }
        return observation.json();
    }

    private static TogetherChat client(String server, JsonObject given) {
        TogetherChatBuilder builder =
                TogetherChat.builder(given.has("target") ? given.get("target").getAsString() : server);
        if (given.has("key")) {
            builder.key(given.get("key").getAsString());
        }
        if (given.has("upstream_key")) {
            builder.upstreamKey(given.get("upstream_key").getAsString());
        }
        if (given.has("client_timeout_s")) {
            builder.timeout(seconds(given.get("client_timeout_s")));
        }
        if (given.has("max_reconnect_backoff_s")) {
            builder.maxReconnectBackoff(seconds(given.get("max_reconnect_backoff_s")));
        }
        return builder.build();
    }

    private static CallSettings settings(JsonObject given) {
        CallSettings settings = CallSettings.DEFAULT;
        if (given.has("timeout_s")) {
            settings = settings.withTimeout(seconds(given.get("timeout_s")));
        }
        if (given.has("request_id")) {
            settings = settings.withRequestId(given.get("request_id").getAsString());
        }
        if (given.has("metadata")) {
            for (JsonElement each : given.getAsJsonArray("metadata")) {
                JsonArray pair = each.getAsJsonArray();
                settings = settings.withMetadata(pair.get(0).getAsString(), pair.get(1).getAsString());
            }
        }
        return settings;
    }

    private static String text(JsonObject given) {
        StringBuilder text = new StringBuilder();
        if (!given.has("text_utf16")) {
            return "Hi";
        }
        given.getAsJsonArray("text_utf16").forEach(unit -> text.append((char) unit.getAsInt()));
        return text.toString();
    }

    private static Duration seconds(JsonElement number) {
        return Duration.ofSeconds(number.getAsLong());
    }
}
