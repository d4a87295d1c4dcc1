package dev.togetherchat.examples;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.system;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.user;

import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;

/** Asks one question and prints the answer. Arguments: the service's address and the question. */
public final class Complete {
    private Complete() {}

    /** Ends with status 1 where the call failed. */
    public static void main(String[] arguments) {
        String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
        String question = arguments.length > 1 ? arguments[1] : "What is gRPC, in one sentence?";
        CompleteRequest request = request("openai/gpt-oss-120b", system("Be brief."), user(question))
                .setMaxTokens(500)
                .build();
        try (TogetherChat chat = TogetherChat.connect(target)) {
            CompleteResponse answer = chat.complete(request);
            System.out.println(textOf(answer));
            System.out.println(answer.getUsage().getTotalTokens() + " tokens, model " + answer.getModel());
        } catch (ChatException failed) {
            System.err.println(failed.getMessage());
            System.exit(1);
        }
    }
}
