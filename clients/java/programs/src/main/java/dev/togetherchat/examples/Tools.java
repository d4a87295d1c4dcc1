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

/** Lets the model ask for the weather until it answers. Argument: the service's address. */
public final class Tools {
    private static final int ROUNDS_MAX = 5;
    private static final Tool WEATHER = functionTool(
            "get_weather",
            "The weather of a city",
            """
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}""");

    private Tools() {}

    /** Ends with status 1 where a call failed. */
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
        CompleteResponse answer = chat.complete(conversation.build());
        for (int round = 0; round < ROUNDS_MAX && asksForTools(answer); round++) {
            Message asked = answer.getChoices(0).getMessage();
            // The assistant's turn goes back as it came, and each call gets its result.
            conversation.addMessages(asked);
            for (ToolCall call : asked.getToolCallsList()) {
                System.out.println(call.getFunction().getName() + call.getFunction().getArguments());
                conversation.addMessages(toolResult(call, "{\"celsius\": 7}"));
            }
            answer = chat.complete(conversation.build());
        }
        return answer;
    }

    private static boolean asksForTools(CompleteResponse answer) {
        return answer.getChoices(0).getFinishReason() == FinishReason.FINISH_REASON_TOOL_CALLS;
    }
}
