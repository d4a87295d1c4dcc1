package dev.togetherchat.programs;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/** The service and the sandbox as its provider, each in its own process. */
final class RealService implements AutoCloseable {
    private static final Pattern SANDBOX = Pattern.compile("listening on (http://[0-9.:]+)/v1");
    private static final Pattern SERVING = Pattern.compile("SERVING: gRPC on ([0-9.:]+)");

    private final Processes processes = new Processes();
    private final HttpClient http = HttpClient.newHttpClient();
    private final String sandbox;
    private final String address;

    RealService() {
        sandbox = processes
                .start(SANDBOX, Map.of(), "togetherchat_sandbox", "--listen", "127.0.0.1:0", "--tokens-per-second", "0")
                .group(1);
        Map<String, String> provider = Map.of("TOGETHER_BASE_URL", sandbox + "/v1", "TOGETHER_API_KEY", "simulated");
        // The catalog makes the list of models longer than a page.
        String[] command = {
            "togetherchat_server", "--grpc-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--model-catalog=on"
        };
        address = processes.start(SERVING, provider, command).group(1);
    }

    String address() {
        return address;
    }

    /** Returns the sandbox's requests of one model, oldest first. */
    List<JsonObject> requestLog(String model) {
        HttpRequest request = HttpRequest.newBuilder(URI.create(sandbox + "/sandbox/request-log")).build();
        try {
            String body = http.send(request, HttpResponse.BodyHandlers.ofString()).body();
            List<JsonObject> entries = new ArrayList<>();
            for (JsonElement entry : JsonParser.parseString(body).getAsJsonObject().getAsJsonArray("requests")) {
                if (model.equals(text(entry.getAsJsonObject(), "model"))) {
                    entries.add(entry.getAsJsonObject());
                }
            }
            return entries;
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", interrupted);
        }
    }

    @Override
    public void close() {
        processes.close();
    }

    private static String text(JsonObject entry, String name) {
        return entry.has(name) && !entry.get(name).isJsonNull() ? entry.get(name).getAsString() : "";
    }
}
