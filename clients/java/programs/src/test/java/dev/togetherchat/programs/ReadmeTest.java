package dev.togetherchat.programs;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The README's snippets compile and run unchanged, except for the service's address. */
class ReadmeTest {
    private static final Path README = Path.of("../README.md");
    private static final Pattern IMPORTS = Pattern.compile("```java imports\n(.*?)```", Pattern.DOTALL);
    private static final Pattern SNIPPET = Pattern.compile("### ([^\n]+)\n[^`]*```java\n(.*?)```", Pattern.DOTALL);

    /** Text that the output of each snippet contains. */
    private static final Map<String, String> WRITTEN = Map.of(
            "A call", " tokens",
            "A stream", " tokens",
            "A tool loop", "celsius",
            "An error, with back-off", "RATE_LIMITED",
            "Usage and cost", "usage");

    @TempDir
    private Path folder;

    /** Every snippet has an expected output, compiles without a warning, and prints it. */
    @Test
    void theSnippetsRun() throws Exception {
        Map<String, String> snippets = snippets();
        assertEquals(WRITTEN.keySet(), snippets.keySet());
        try (RealService service = new RealService();
                URLClassLoader classes = new URLClassLoader(new URL[] {folder.toUri().toURL()})) {
            for (Map.Entry<String, String> snippet : snippets.entrySet()) {
                String name = "Snippet" + Integer.toHexString(snippet.getKey().hashCode());
                compile(name, snippet.getValue().replace("localhost:50051", service.address()));
                String written = RealServiceTest.printed(() -> run(classes, name));
                assertTrue(written.contains(WRITTEN.get(snippet.getKey())), snippet.getKey() + " wrote: " + written);
            }
        }
    }

    private static Map<String, String> snippets() throws IOException {
        String readme = Files.readString(README);
        Matcher imports = IMPORTS.matcher(readme);
        assertTrue(imports.find(), "the README has no imports");
        Map<String, String> snippets = new LinkedHashMap<>();
        for (Matcher snippet = SNIPPET.matcher(readme); snippet.find(); ) {
            snippets.put(snippet.group(1), imports.group(1) + "public final class NAME {\n"
                    + "public static void run() throws Exception {\n" + snippet.group(2) + "}\n}\n");
        }
        return snippets;
    }

    private void compile(String name, String source) throws IOException {
        Path file = Files.writeString(folder.resolve(name + ".java"), source.replace("NAME", name));
        List<String> options = List.of(
                "-Xlint:all,-path", "-Werror", "-d", folder.toString(), "-classpath", classPath(), file.toString());
        int status = ToolProvider.getSystemJavaCompiler().run(null, null, null, options.toArray(String[]::new));
        assertEquals(0, status, source);
    }

    /** Maven's Surefire sets the class path of the tests in a property of its own. */
    private static String classPath() {
        return System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    }

    private static void run(ClassLoader classes, String name) {
        try {
            Method run = classes.loadClass(name).getMethod("run");
            run.invoke(null);
        } catch (ReflectiveOperationException failed) {
            throw new IllegalStateException("the snippet " + name + " failed", failed);
        }
    }
}
