package dev.togetherchat.conformance;

import com.google.gson.JsonParser;
import dev.togetherchat.client.TogetherChat;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Objects;

/**
 * The Java actor of {@code clients/conformance}: reads cases from standard input, makes their calls, and writes its
 * observations. The judge compares; the actor does not.
 */
public final class Actor {
    private Actor() {}

    /** Takes the server's address as its argument. */
    public static void main(String[] arguments) throws IOException, InterruptedException {
        if (arguments.length != 1) {
            System.err.println("usage: Actor HOST:PORT < cases");
            System.exit(2);
        }
        String target = Objects.requireNonNull(arguments[0]);
        BufferedReader cases = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream observations = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        try (TogetherChat chat = TogetherChat.builder(target).plaintext().build();
                TogetherChat chatOnce =
                        TogetherChat.builder(target).plaintext().retries(false).build()) {
            for (String line = cases.readLine(); line != null; line = cases.readLine()) {
                if (!line.isBlank()) {
                    Case testCase = new Case(JsonParser.parseString(line).getAsJsonObject());
                    observations.println(
                            testCase.call().equals("Arguments")
                                    ? ArgumentsRunner.run(target, testCase)
                                    : new CaseRunner(testCase.retries() ? chat : chatOnce, testCase).run());
                }
            }
        }
    }
}
