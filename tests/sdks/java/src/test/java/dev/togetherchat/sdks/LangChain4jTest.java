package dev.togetherchat.sdks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.langchain4j.agent.tool.ToolExecutionRequest;
import dev.langchain4j.agent.tool.ToolSpecification;
import dev.langchain4j.data.message.ToolExecutionResultMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.AuthenticationException;
import dev.langchain4j.exception.HttpException;
import dev.langchain4j.exception.InternalServerException;
import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.exception.ModelNotFoundException;
import dev.langchain4j.exception.RateLimitException;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ResponseFormat;
import dev.langchain4j.model.chat.request.ResponseFormatType;
import dev.langchain4j.model.chat.request.json.JsonObjectSchema;
import dev.langchain4j.model.chat.request.json.JsonSchema;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.PartialResponse;
import dev.langchain4j.model.chat.response.PartialResponseContext;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.openai.OpenAiChatModel;
import dev.langchain4j.model.openai.OpenAiStreamingChatModel;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** LangChain4j's models for OpenAI's API, with its default HTTP client: that of the JDK. */
@Client("langchain4j (Java)")
class LangChain4jTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<Integer, Class<? extends LangChain4jException>> ERRORS = Map.of(
            401, AuthenticationException.class,
            404, ModelNotFoundException.class,
            429, RateLimitException.class,
            500, InternalServerException.class,
            503, InternalServerException.class);
    private static final ToolSpecification WEATHER = ToolSpecification.builder()
            .name("get_weather")
            .description("The weather of a city")
            .parameters(JsonObjectSchema.builder()
                    .addStringProperty("city")
                    .required("city")
                    .build())
            .build();

    private static ChatModel chat(String model) {
        String baseUrl = Service.BASE_URL;
        // docs: begin
        ChatModel chat = OpenAiChatModel.builder()
                .baseUrl(baseUrl)
                .apiKey("YOUR_KEY")
                .modelName(model)
                .maxRetries(0) // the service retries
                .build();
        // docs: end
        return chat;
    }

    private static StreamingChatModel streaming(String model) {
        return OpenAiStreamingChatModel.builder()
                .baseUrl(Service.BASE_URL)
                .apiKey("YOUR_KEY")
                .modelName(model)
                .build();
    }

    /** Collects a stream. */
    private static class Collector implements StreamingChatResponseHandler {
        final List<String> pieces = new CopyOnWriteArrayList<>();
        final CompletableFuture<ChatResponse> whole = new CompletableFuture<>();

        @Override
        public void onPartialResponse(PartialResponse piece, PartialResponseContext context) {
            pieces.add(piece.text());
        }

        @Override
        public void onCompleteResponse(ChatResponse response) {
            whole.complete(response);
        }

        @Override
        public void onError(Throwable error) {
            whole.completeExceptionally(error);
        }

        ChatResponse response() throws Exception {
            return whole.get(20, TimeUnit.SECONDS);
        }
    }

    @Test
    @Proves("call")
    void aCall() {
        ChatResponse response = chat(Examples.MODEL).chat(UserMessage.from(Examples.SAY));

        assertEquals(Examples.TEXT, response.aiMessage().text());
        assertTrue(response.tokenUsage().totalTokenCount() > 0);
    }

    @Test
    @Proves("stream")
    void aStream() throws Exception {
        Collector collector = new Collector();
        streaming(Examples.MODEL).chat(Examples.SAY_LONG, collector);
        ChatResponse response = collector.response();

        assertEquals(Examples.LONG, response.aiMessage().text());
        assertEquals(Examples.LONG, String.join("", collector.pieces));
        assertTrue(collector.pieces.size() > 1);
        assertTrue(response.tokenUsage().totalTokenCount() > 0);
    }

    @Test
    @Proves("tools")
    void aToolCallAndItsResult() throws Exception {
        UserMessage question = UserMessage.from(Examples.WEATHER_QUESTION);
        ChatRequest request =
                ChatRequest.builder().messages(question).toolSpecifications(WEATHER).build();
        Collector collector = new Collector();
        streaming(Examples.MODEL).chat(request, collector);
        for (ChatResponse asked : List.of(chat(Examples.MODEL).chat(request), collector.response())) {
            ToolExecutionRequest call = asked.aiMessage().toolExecutionRequests().get(0);
            ChatResponse answer = chat(Examples.MODEL)
                    .chat(ChatRequest.builder()
                            .messages(question, asked.aiMessage(), ToolExecutionResultMessage.from(call, "Rain."))
                            .toolSpecifications(WEATHER)
                            .build());

            assertEquals("get_weather", call.name());
            assertTrue(JSON.readTree(call.arguments()).has("city"));
            assertTrue(answer.aiMessage().text().contains("Rain."));
        }
    }

    @Test
    @Proves("schema")
    void aJsonSchema() throws Exception {
        JsonObjectSchema person = JsonObjectSchema.builder()
                .addStringProperty("name")
                .addIntegerProperty("age")
                .required("name", "age")
                .build();
        ChatResponse response = chat(Examples.MODEL)
                .chat(ChatRequest.builder()
                        .messages(UserMessage.from(Examples.PERSON_QUESTION))
                        .responseFormat(ResponseFormat.builder()
                                .type(ResponseFormatType.JSON)
                                .jsonSchema(JsonSchema.builder()
                                        .name("person")
                                        .rootElement(person)
                                        .build())
                                .build())
                        .build());
        JsonNode found = JSON.readTree(response.aiMessage().text());

        assertTrue(found.get("name").isTextual());
        assertTrue(found.get("age").isInt());
    }

    @Test
    @Proves("errors")
    void anErrorHasTheLibrarysClass() {
        ERRORS.forEach((status, kind) -> {
            ChatModel failing = chat("sandbox/error-" + status);
            LangChain4jException error = assertThrows(LangChain4jException.class, () -> failing.chat(Examples.SAY));

            assertInstanceOf(kind, error);
            assertEquals(status, assertInstanceOf(HttpException.class, error.getCause()).statusCode());
        });
    }

    @ParameterizedTest
    @ValueSource(strings = {"sandbox/stream-error-after-3", "sandbox/cut-stream"})
    void aStreamThatFailsInItsMiddleIsAnError(String model) {
        Collector collector = new Collector();
        streaming(model).chat(Examples.SAY, collector);

        ExecutionException failure = assertThrows(ExecutionException.class, collector::response);
        assertNotNull(failure.getCause());
        assertFalse(collector.pieces.isEmpty());
    }

    @Test
    @Proves("cancel")
    void aCancelledStreamReleasesTheProvider() throws Exception {
        String model = "sandbox/stall-after-4";
        Collector collector = new Collector() {
            @Override
            public void onPartialResponse(PartialResponse piece, PartialResponseContext context) {
                context.streamingHandle().cancel();
            }
        };
        streaming(model).chat(Examples.SAY, collector);

        assertEquals("client_closed", Service.endOf(model));
        assertFalse(collector.whole.isDone());
    }
}
