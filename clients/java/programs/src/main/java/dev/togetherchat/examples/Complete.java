package dev.togetherchat.examples;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.system;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.user;

import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;

/** Sends one question and prints the completion. Arguments: the service's address and the question. */
public final class Complete {
    private Complete() {}

    /** Exits with status 1 if the call fails. */
    public static void main(String[] arguments) {
        String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
        String question = arguments.length > 1 ? arguments[1] : "What is gRPC, in one sentence?";
        CompleteRequest request = request("openai/gpt-oss-120b", system("Be brief."), user(question))
                .setMaxTokens(500)
                .build();
        try (TogetherChat chat = TogetherChat.connect(target)) {
            CompleteResponse response = chat.complete(request);
            System.out.println(textOf(response));
            System.out.println(response.getUsage().getTotalTokens() + " tokens, model " + response.getModel());
        } catch (ChatException failed) {
            System.err.println(failed.getMessage());
            System.exit(1);
        }
    }
}
