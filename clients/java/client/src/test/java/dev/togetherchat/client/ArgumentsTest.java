package dev.togetherchat.client;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** The list of arguments that all clients accept or reject, {@code clients/conformance/arguments.json}. */
class ArgumentsTest {
    private static final String LANGUAGE = "java";

    private final ScriptedServer server = new ScriptedServer();
    private final JsonObject list = JsonParser.parseString(
                    Files.readString(Path.of("..", "..", "conformance", "arguments.json")))
            .getAsJsonObject();

    ArgumentsTest() throws IOException {}

    @AfterEach
    void stop() {
        server.close();
    }

    /** A wrong argument is rejected before anything is sent, in the words of all clients. */
    @TestFactory
    Stream<DynamicTest> argumentsAreCheckedInTheSharedWords() {
        return objects("cases")
                .filter(each -> !each.has("languages") || supports(each))
                .map(each -> DynamicTest.dynamicTest(
                        each.get("id").getAsString(),
                        () -> assertEquals(expected(each), rejection(each.getAsJsonObject("arguments")))));
    }

    /** A form of a target is accepted where the list says so. */
    @TestFactory
    Stream<DynamicTest> targetFormsOfTheSharedListAreAccepted() {
        return objects("target_forms").filter(ArgumentsTest::supports).map(each -> DynamicTest.dynamicTest(
                each.get("form").getAsString(), () -> {
                    JsonObject given = new JsonObject();
                    given.add("target", each.get("example"));
                    assertEquals("", rejection(given));
                }));
    }

    private Stream<JsonObject> objects(String name) {
        return StreamSupport.stream(list.getAsJsonArray(name).spliterator(), false).map(JsonElement::getAsJsonObject);
    }

    private static boolean supports(JsonObject each) {
        return each.getAsJsonArray("languages").asList().stream().anyMatch(one -> LANGUAGE.equals(one.getAsString()));
    }

    private String expected(JsonObject each) {
        if (!each.has("message")) {
            return "";
        }
        String message = word("messages", each.get("message").getAsString())
                .replace("{tls}", name("tls"))
                .replace("{argument}", each.has("argument") ? name(each.get("argument").getAsString()) : "");
        if (each.has("placeholders")) {
            for (Map.Entry<String, JsonElement> one : each.getAsJsonObject("placeholders").entrySet()) {
                message = message.replace("{" + one.getKey() + "}", one.getValue().getAsString());
            }
        }
        return word("prefixes", LANGUAGE) + message;
    }

    private String word(String table, String key) {
        return list.getAsJsonObject(table).get(key).getAsString();
    }

    private String name(String argument) {
        return list.getAsJsonObject("names")
                .getAsJsonObject(argument)
                .get(LANGUAGE)
                .getAsString();
    }

    /** Returns the text with which the client rejects the arguments; empty if it makes the call. */
    private String rejection(JsonObject given) {
        try (TogetherChat chat = client(given)) {
            if (!given.has("target")) {
                chat.complete(request("m", user(text(given))).build(), settings(given));
            }
            return "";
        } catch (IllegalArgumentException wrong) {
            return wrong.getMessage();
        }
    }

    private TogetherChat client(JsonObject given) {
        String target = given.has("target") ? given.get("target").getAsString() : server.address();
        TogetherChatBuilder builder = TogetherChat.builder(target);
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
            settings = settings.withRequestId(repeated(given.get("request_id")));
        }
        if (given.has("metadata")) {
            for (JsonElement each : given.getAsJsonArray("metadata")) {
                JsonArray pair = each.getAsJsonArray();
                settings = settings.withMetadata(pair.get(0).getAsString(), pair.get(1).getAsString());
            }
        }
        return settings;
    }

    /** A text, or {@code {"$repeat": ["text", N]}}. */
    private static String repeated(JsonElement text) {
        if (text.isJsonPrimitive()) {
            return text.getAsString();
        }
        JsonArray parts = text.getAsJsonObject().getAsJsonArray("$repeat");
        return parts.get(0).getAsString().repeat(parts.get(1).getAsInt());
    }

    private static String text(JsonObject given) {
        if (!given.has("text_utf16")) {
            return "Hi";
        }
        StringBuilder text = new StringBuilder();
        given.getAsJsonArray("text_utf16").forEach(unit -> text.append((char) unit.getAsInt()));
        return text.toString();
    }

    private static Duration seconds(JsonElement number) {
        return Duration.ofSeconds(number.getAsLong());
    }
}
