package dev.togetherchat.sdks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.annotation.JsonClassDescription;
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.http.StreamResponse;
import com.openai.errors.InternalServerException;
import com.openai.errors.NotFoundException;
import com.openai.errors.OpenAIException;
import com.openai.errors.OpenAIServiceException;
import com.openai.errors.RateLimitException;
import com.openai.errors.UnauthorizedException;
import com.openai.helpers.ChatCompletionAccumulator;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionMessage;
import com.openai.models.chat.completions.ChatCompletionMessageFunctionToolCall;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.chat.completions.ChatCompletionToolMessageParam;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** OpenAI's library for Java. */
@Client("openai-java (Java)")
class OpenAiJavaTest {
    private static final Map<Integer, Class<? extends OpenAIServiceException>> ERRORS = Map.of(
            401, UnauthorizedException.class,
            404, NotFoundException.class,
            429, RateLimitException.class,
            500, InternalServerException.class,
            503, InternalServerException.class);

    private final OpenAIClient client = create(Service.BASE_URL).withOptions(options -> options.maxRetries(0));

    /** A tool: the library makes the schema from the class. */
    @JsonClassDescription("The weather of a city")
    static class GetWeather {
        public String city;
    }

    /** A structured output. */
    static class Person {
        public String name;
        public int age;
    }

    private static OpenAIClient create(String baseUrl) {
        // docs: begin
        OpenAIClient client =
                OpenAIOkHttpClient.builder().baseUrl(baseUrl).apiKey("YOUR_KEY").build();
        // docs: end
        return client;
    }

    @Test
    @Proves("call")
    void aCall() {
        ChatCompletion response =
                client.chat().completions().create(request(Examples.MODEL, Examples.SAY).build());

        assertEquals(Examples.TEXT, response.choices().get(0).message().content().orElseThrow());
        assertEquals(ChatCompletion.Choice.FinishReason.STOP, response.choices().get(0).finishReason());
        assertTrue(response.usage().orElseThrow().totalTokens() > 0);
    }

    @Test
    @Proves("stream")
    void aStream() {
        List<String> deltas = readStream(request(Examples.MODEL, Examples.SAY_LONG).build(), chunk -> {});

        assertEquals(Examples.LONG, String.join("", deltas));
        assertTrue(deltas.size() > 1);
    }

    @Test
    void aStreamThatTheLibraryAccumulates() {
        // The accumulator fails for usage in a chunk with choices, where the service and Together send it unless
        // it is asked for.
        ChatCompletionStreamOptions options =
                ChatCompletionStreamOptions.builder().includeUsage(true).build();
        ChatCompletionAccumulator accumulator = ChatCompletionAccumulator.create();
        readStream(
                request(Examples.MODEL, Examples.SAY_LONG).streamOptions(options).build(), accumulator::accumulate);
        ChatCompletion whole = accumulator.chatCompletion();

        assertEquals(Examples.LONG, whole.choices().get(0).message().content().orElseThrow());
        assertTrue(whole.usage().orElseThrow().totalTokens() > 0);
    }

    @Test
    @Proves("tools")
    void aToolCallAndItsResult() {
        ChatCompletionCreateParams.Builder request =
                request(Examples.MODEL, Examples.WEATHER_QUESTION).addTool(GetWeather.class);
        ChatCompletionMessage message =
                client.chat().completions().create(request.build()).choices().get(0).message();
        ChatCompletionMessageFunctionToolCall call =
                message.toolCalls().orElseThrow().get(0).asFunction();
        request.addMessage(message)
                .addMessage(ChatCompletionToolMessageParam.builder()
                        .toolCallId(call.id())
                        .content("Rain.")
                        .build());
        ChatCompletion answer = client.chat().completions().create(request.build());

        assertNotNull(call.function().arguments(GetWeather.class).city);
        assertTrue(answer.choices().get(0).message().content().orElseThrow().contains("Rain."));
    }

    @Test
    @Proves("schema")
    void aStructuredOutput() {
        Person person = client.chat()
                .completions()
                .create(request(Examples.MODEL, Examples.PERSON_QUESTION)
                        .responseFormat(Person.class)
                        .build())
                .choices()
                .get(0)
                .message()
                .content()
                .orElseThrow();

        assertNotNull(person.name);
    }

    @Test
    @Proves("errors")
    void anErrorHasTheLibrarysClass() {
        ERRORS.forEach((status, kind) -> {
            ChatCompletionCreateParams request = request("sandbox/error-" + status, Examples.SAY).build();
            OpenAIServiceException error = assertThrows(
                    OpenAIServiceException.class, () -> client.chat().completions().create(request));

            assertInstanceOf(kind, error);
            assertEquals(status, error.statusCode());
        });
    }

    @ParameterizedTest
    @ValueSource(strings = {"sandbox/stream-error-after-3", "sandbox/cut-stream"})
    void aStreamThatFailsInItsMiddleThrows(String model) {
        ChatCompletionAccumulator accumulator = ChatCompletionAccumulator.create();
        ChatCompletionCreateParams request = request(model, Examples.SAY).build();

        assertThrows(OpenAIException.class, () -> readStream(request, accumulator::accumulate));
        assertThrows(IllegalStateException.class, accumulator::chatCompletion);
    }

    @Test
    @Proves("cancel")
    void aClosedStreamReleasesTheProvider() throws Exception {
        String model = "sandbox/stall-after-3";
        ChatCompletionCreateParams request = request(model, Examples.SAY).build();
        try (StreamResponse<ChatCompletionChunk> stream = client.chat().completions().createStreaming(request)) {
            assertFalse(stream.stream().iterator().next().choices().isEmpty());
        }

        assertEquals("client_closed", Service.endOf(model));
    }

    /** Returns the texts of a stream. */
    private List<String> readStream(ChatCompletionCreateParams request, Consumer<ChatCompletionChunk> consumer) {
        List<String> deltas = new ArrayList<>();
        try (StreamResponse<ChatCompletionChunk> stream = client.chat().completions().createStreaming(request)) {
            stream.stream()
                    .peek(consumer)
                    .flatMap(chunk -> chunk.choices().stream())
                    .flatMap(choice -> choice.delta().content().stream())
                    .filter(delta -> !delta.isEmpty())
                    .forEach(deltas::add);
        }
        return deltas;
    }

    private static ChatCompletionCreateParams.Builder request(String model, String text) {
        return ChatCompletionCreateParams.builder().model(model).addUserMessage(text);
    }
}
