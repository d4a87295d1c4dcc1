package dev.togetherchat.sdks;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestWatcher;

/** Appends a line of JSON for each proved feature to the file that INTEGRATIONS_OUT names (../../README.md). */
final class Recorder implements TestWatcher {
    private static final String SOURCES = "tests/sdks/java/src/test/java/";
    private static final String OUT = System.getenv("INTEGRATIONS_OUT");
    private static final ObjectMapper JSON = new ObjectMapper();

    @Override
    public void testSuccessful(ExtensionContext context) {
        Proves proves = context.getRequiredTestMethod().getAnnotation(Proves.class);
        if (OUT == null || proves == null) {
            return;
        }
        Class<?> test = context.getRequiredTestClass();
        Map<String, String> line = new LinkedHashMap<>();
        line.put("client", test.getAnnotation(Client.class).value());
        line.put("feature", proves.value());
        line.put("result", "yes");
        line.put("source", SOURCES + test.getName().replace('.', '/') + ".java");
        try {
            Files.writeString(
                    Path.of(OUT),
                    JSON.writeValueAsString(line) + "\n",
                    StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND);
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }
}
