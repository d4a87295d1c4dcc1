package dev.togetherchat.examples;

import static dev.togetherchat.client.Messages.functionTool;
import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.toolResult;
import static dev.togetherchat.client.Messages.user;

import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.FinishReason;
import dev.togetherchat.v1.Message;
import dev.togetherchat.v1.Tool;
import dev.togetherchat.v1.ToolCall;

/** A tool loop: the model calls a weather function until it replies with text. Argument: the service's address. */
public final class Tools {
    private static final int ROUNDS_MAX = 5;
    private static final Tool WEATHER = functionTool(
            "get_weather",
            "The weather of a city",
            """
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}""");

    private Tools() {}

    /** Exits with status 1 if a call fails. */
    public static void main(String[] arguments) {
        String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
        try (TogetherChat chat = TogetherChat.connect(target)) {
            System.out.println(textOf(converse(chat)));
        } catch (ChatException failed) {
            System.err.println(failed.getMessage());
            System.exit(1);
        }
    }

    private static CompleteResponse converse(TogetherChat chat) {
        CompleteRequest.Builder conversation = request(
                        "meta-llama/Llama-3.3-70B-Instruct-Turbo", user("What is the weather in Oslo?"))
                .addTools(WEATHER);
        CompleteResponse response = chat.complete(conversation.build());
        for (int round = 0; round < ROUNDS_MAX && callsTools(response); round++) {
            Message message = response.getChoices(0).getMessage();
            // Send the model's message back unchanged, followed by the result of each call.
            conversation.addMessages(message);
            for (ToolCall call : message.getToolCallsList()) {
                System.out.println(call.getFunction().getName() + call.getFunction().getArguments());
                conversation.addMessages(toolResult(call, "{\"celsius\": 7}"));
            }
            response = chat.complete(conversation.build());
        }
        return response;
    }

    private static boolean callsTools(CompleteResponse response) {
        return response.getChoices(0).getFinishReason() == FinishReason.FINISH_REASON_TOOL_CALLS;
    }
}
