package dev.togetherchat.client;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** Loads the contract's service config in the form that grpc-java requires: maps, lists, strings, doubles. */
final class ServiceConfig {
    private static final String RESOURCE = "/togetherchat/v1/service_config.json";
    private static final TypeToken<Map<String, Object>> FORM = new TypeToken<>() {};

    private ServiceConfig() {}

    static Map<String, Object> load() {
        try (InputStream bytes = ServiceConfig.class.getResourceAsStream(RESOURCE)) {
            if (bytes == null) {
                throw new IllegalStateException("togetherchat-contract is not on the class path: missing " + RESOURCE);
            }
            try (Reader text = new InputStreamReader(bytes, StandardCharsets.UTF_8)) {
                return new Gson().fromJson(text, FORM);
            }
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }
}
