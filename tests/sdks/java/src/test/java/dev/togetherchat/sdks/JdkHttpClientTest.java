package dev.togetherchat.sdks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The JDK's HTTP client with its defaults: it offers an upgrade to HTTP/2 with every request to an http URL. */
@Client("java.net.http.HttpClient (Java)")
class JdkHttpClientTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String TOOLS =
            """
            [{"type": "function", "function": {"name": "get_weather", "parameters":
                {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
            """;
    private static final String PERSON =
            """
            {"type": "json_schema", "json_schema": {"name": "person", "schema":
                {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                 "required": ["name", "age"], "additionalProperties": false}}}
            """;

    private final HttpClient http = HttpClient.newHttpClient();

    @Test
    @Proves("call")
    void aCall() throws Exception {
        HttpResponse<String> response = send(body(Examples.MODEL, Examples.SAY));

        assertEquals(200, response.statusCode());
        assertEquals(Examples.TEXT, message(response).get("content").asText());
        assertEquals(HttpClient.Version.HTTP_2, http.version());
        assertEquals(HttpClient.Version.HTTP_1_1, response.version());
    }

    @Test
    void theConnectionIsUsedAgainAfterARequestWithABody() throws Exception {
        for (int calls = 0; calls < 5; calls++) {
            assertEquals(200, send(body(Examples.MODEL, Examples.SAY)).statusCode());
        }
    }

    @Test
    @Proves("stream")
    void aStream() throws Exception {
        List<String> deltas = new ArrayList<>();
        String last = readStream(body(Examples.MODEL, Examples.SAY_LONG), deltas);

        assertEquals(Examples.LONG, String.join("", deltas));
        assertTrue(deltas.size() > 1);
        assertEquals("[DONE]", last);
    }

    @Test
    @Proves("tools")
    void aToolCallAndItsResult() throws Exception {
        ObjectNode request = body(Examples.MODEL, Examples.WEATHER_QUESTION);
        request.set("tools", JSON.readTree(TOOLS));
        JsonNode message = message(send(request));
        JsonNode call = message.get("tool_calls").get(0);
        ArrayNode messages = (ArrayNode) request.get("messages");
        messages.add(message);
        messages.addObject()
                .put("role", "tool")
                .put("tool_call_id", call.get("id").asText())
                .put("content", "Rain.");
        JsonNode answer = message(send(request));

        assertEquals("get_weather", call.at("/function/name").asText());
        assertTrue(JSON.readTree(call.at("/function/arguments").asText()).has("city"));
        assertTrue(answer.get("content").asText().contains("Rain."));
    }

    @Test
    @Proves("schema")
    void aJsonSchema() throws Exception {
        ObjectNode request = body(Examples.MODEL, Examples.PERSON_QUESTION);
        request.set("response_format", JSON.readTree(PERSON));
        JsonNode person = JSON.readTree(message(send(request)).get("content").asText());

        assertTrue(person.get("name").isTextual());
        assertTrue(person.get("age").isInt());
    }

    @Test
    @Proves("errors")
    void anErrorHasItsStatusAndReason() throws Exception {
        for (int status : Examples.STATUSES) {
            HttpResponse<String> response = send(body("sandbox/error-" + status, Examples.SAY));

            assertEquals(status, response.statusCode());
            assertTrue(response.headers().firstValue("x-error-reason").isPresent());
            assertNotNull(JSON.readTree(response.body()).at("/error/message").textValue());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"sandbox/stream-error-after-3", "sandbox/cut-stream"})
    void aStreamThatFailsInItsMiddleIsBrokenOff(String model) {
        List<String> deltas = new ArrayList<>();

        assertThrows(IOException.class, () -> readStream(body(model, Examples.SAY), deltas));
        assertFalse(deltas.isEmpty());
    }

    @Test
    @Proves("cancel")
    void aClosedBodyReleasesTheProvider() throws Exception {
        String model = "sandbox/stall-after-2";
        HttpRequest request = post(body(model, Examples.SAY).put("stream", true));
        try (InputStream events = http.send(request, BodyHandlers.ofInputStream()).body()) {
            assertTrue(events.read() >= 0);
        }

        assertEquals("client_closed", Service.endOf(model));
    }

    private HttpResponse<String> send(ObjectNode body) throws IOException, InterruptedException {
        return http.send(post(body), BodyHandlers.ofString());
    }

    /** Reads a stream line by line and adds its texts. Returns the data of the last event. */
    private String readStream(ObjectNode body, List<String> deltas) throws IOException, InterruptedException {
        HttpResponse<InputStream> response = http.send(post(body.put("stream", true)), BodyHandlers.ofInputStream());
        assertEquals(200, response.statusCode());
        String last = "";
        try (var lines = new BufferedReader(new InputStreamReader(response.body(), StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (!line.startsWith("data: ")) {
                    continue;
                }
                last = line.substring("data: ".length());
                String text = last.equals("[DONE]") ? "" : JSON.readTree(last).at("/choices/0/delta/content").asText("");
                if (!text.isEmpty()) {
                    deltas.add(text);
                }
            }
        }
        return last;
    }

    private static HttpRequest post(ObjectNode body) {
        String baseUrl = Service.BASE_URL;
        String json = body.toString();
        // docs: begin
        HttpRequest request = HttpRequest.newBuilder(URI.create(baseUrl + "/chat/completions"))
                .header("Authorization", "Bearer YOUR_KEY")
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(json))
                .build();
        // docs: end
        return request;
    }

    private static ObjectNode body(String model, String text) {
        ObjectNode body = JSON.createObjectNode().put("model", model);
        body.putArray("messages").addObject().put("role", "user").put("content", text);
        return body;
    }

    private static JsonNode message(HttpResponse<String> response) throws IOException {
        return JSON.readTree(response.body()).at("/choices/0/message");
    }
}
