package dev.togetherchat.sdks;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.LockSupport;

/** The running service, and the request log of its sandbox. {@code with_service.py} starts both. */
final class Service {
    static final String BASE_URL = address("TOGETHERCHAT_BASE_URL");

    private static final String SANDBOX_URL = address("TOGETHERCHAT_SANDBOX_URL");
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration TIMEOUT = Duration.ofSeconds(20);
    private static final Duration POLL_INTERVAL = Duration.ofMillis(20);

    private Service() {}

    /** Waits until the only request for a model has ended. Returns how. */
    static String endOf(String model) throws IOException {
        long deadline = System.nanoTime() + TIMEOUT.toNanos();
        while (System.nanoTime() < deadline) {
            List<String> ends = endsOf(model);
            if (ends.size() == 1 && !ends.get(0).equals("running")) {
                return ends.get(0);
            }
            LockSupport.parkNanos(POLL_INTERVAL.toNanos());
        }
        throw new AssertionError(model + " did not end");
    }

    private static List<String> endsOf(String model) throws IOException {
        // Not the JDK's HttpClient, which is one of the tested clients.
        URI log = URI.create(SANDBOX_URL + "/sandbox/request-log?model=" + model);
        HttpURLConnection connection = (HttpURLConnection) log.toURL().openConnection();
        List<String> ends = new ArrayList<>();
        try (var body = connection.getInputStream()) {
            for (JsonNode request : JSON.readTree(body).get("requests")) {
                ends.add(request.get("ended").asText());
            }
        }
        return ends;
    }

    private static String address(String variable) {
        String found = System.getenv(variable);
        if (found == null) {
            throw new IllegalStateException(variable + " is not set: run the tests with tests/sdks/with_service.py");
        }
        return found;
    }
}
