package dev.togetherchat.programs;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Starts this repository's Python programs, and learns their addresses from what they say on standard error. */
final class Processes implements AutoCloseable {
    private static final long START_S = 120;
    private static final long END_S = 30;

    private final Path repository = Path.of("../../..").toAbsolutePath().normalize();
    private final List<Process> running = new ArrayList<>();

    /** Starts a module and gives what {@code announcement} finds in its first lines. */
    Matcher start(Pattern announcement, Map<String, String> environment, String... moduleAndArguments) {
        List<String> command = new ArrayList<>(List.of(python(), "-m"));
        command.addAll(Arrays.asList(moduleAndArguments));
        ProcessBuilder program = new ProcessBuilder(command).directory(repository.toFile()).redirectErrorStream(true);
        program.environment().keySet().removeIf(name -> name.startsWith("TOGETHER"));
        program.environment().putAll(environment);
        program.environment().put("PYTHONPATH", "protos:server");
        program.environment().put("PYTHONDONTWRITEBYTECODE", "1");
        try {
            Process process = program.start();
            running.add(process);
            CompletableFuture<Matcher> announced = new CompletableFuture<>();
            Thread reader = new Thread(() -> read(process, announcement, announced), "lines of " + command.get(2));
            reader.setDaemon(true);
            reader.start();
            return announced.get(START_S, TimeUnit.SECONDS);
        } catch (Exception failed) {
            throw new IllegalStateException("cannot start " + command, failed);
        }
    }

    @Override
    public void close() {
        running.forEach(Process::destroy);
        running.forEach(Processes::awaitEnd);
    }

    private static void awaitEnd(Process process) {
        try {
            if (!process.waitFor(END_S, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
        } catch (InterruptedException interrupted) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }

    private String python() {
        String told = System.getenv("TOGETHERCHAT_PYTHON");
        return told == null ? repository.resolve(".venv/bin/python").toString() : told;
    }

    /** To its end, for a program whose lines nobody reads would stop. */
    private static void read(Process process, Pattern announcement, CompletableFuture<Matcher> announced) {
        StringBuilder said = new StringBuilder();
        try (BufferedReader lines = process.inputReader(StandardCharsets.UTF_8)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                Matcher found = announcement.matcher(line);
                if (found.find()) {
                    announced.complete(found);
                } else if (!announced.isDone()) {
                    said.append(line).append('\n');
                }
            }
            announced.completeExceptionally(new IllegalStateException("it ended:\n" + said));
        } catch (IOException broken) {
            announced.completeExceptionally(new UncheckedIOException(broken));
        }
    }
}
