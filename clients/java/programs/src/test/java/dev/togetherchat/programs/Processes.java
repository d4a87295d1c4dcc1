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

/** Starts this repository's Python programs and reads their addresses from their output. */
final class Processes implements AutoCloseable {
    private static final long START_S = 120;
    private static final long END_S = 30;

    private final Path repository = Path.of("../../..").toAbsolutePath().normalize();
    private final List<Process> running = new ArrayList<>();

    /** Starts a module and returns the first match of {@code announcement} in its output. */
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
        String configured = System.getenv("TOGETHERCHAT_PYTHON");
        return configured == null ? repository.resolve(".venv/bin/python").toString() : configured;
    }

    /** Reads to the end of the output: a program whose output is not read would block. */
    private static void read(Process process, Pattern announcement, CompletableFuture<Matcher> announced) {
        StringBuilder printed = new StringBuilder();
        try (BufferedReader lines = process.inputReader(StandardCharsets.UTF_8)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                Matcher found = announcement.matcher(line);
                if (found.find()) {
                    announced.complete(found);
                } else if (!announced.isDone()) {
                    printed.append(line).append('\n');
                }
            }
            announced.completeExceptionally(new IllegalStateException("the program exited:\n" + printed));
        } catch (IOException broken) {
            announced.completeExceptionally(new UncheckedIOException(broken));
        }
    }
}
