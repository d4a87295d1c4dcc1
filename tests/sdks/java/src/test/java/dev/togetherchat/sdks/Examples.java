package dev.togetherchat.sdks;

import java.util.Collections;
import java.util.List;

/** What the tests of all clients send. */
final class Examples {
    static final String MODEL = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo";
    static final String TEXT = "Hello there, friend.";
    static final String SAY = "say: " + TEXT;
    static final String LONG = String.join(" ", Collections.nCopies(20, TEXT));
    static final String SAY_LONG = "say: " + LONG;
    static final String WEATHER_QUESTION = "What is the weather in Paris?";
    static final String PERSON_QUESTION = "Who? Answer in JSON.";
    static final List<Integer> STATUSES = List.of(401, 404, 429, 500, 503);

    private Examples() {}
}
