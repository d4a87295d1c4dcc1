package dev.togetherchat.examples;

import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.user;

import dev.togetherchat.client.ChatException;
import dev.togetherchat.client.CompletionStream;
import dev.togetherchat.client.TogetherChat;
import dev.togetherchat.v1.CompleteRequest;

/** Prints a completion while the model generates it. Arguments: the service's address and the question. */
public final class Stream {
    private Stream() {}

    /** Exits with status 1 if the call fails, after the partial text has been printed. */
    public static void main(String[] arguments) {
        String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
        String question = arguments.length > 1 ? arguments[1] : "Why is the sky blue?";
        CompleteRequest request = request("openai/gpt-oss-120b", user(question)).build();
        try (TogetherChat chat = TogetherChat.connect(target);
                CompletionStream stream = chat.stream(request)) {
            for (String text : stream.text()) {
                System.out.print(text);
                System.out.flush();
            }
            System.out.println();
            System.out.println(stream.response().getUsage().getCompletionTokens() + " tokens");
        } catch (ChatException failed) {
            System.out.println();
            int received = failed.partial().map(part -> textOf(part).length()).orElse(0);
            System.err.println(failed.getMessage() + ", after " + received + " characters");
            System.exit(1);
        }
    }
}
