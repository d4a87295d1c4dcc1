package dev.togetherchat.client;

import static dev.togetherchat.client.Events.completed;
import static dev.togetherchat.client.Events.finished;
import static dev.togetherchat.client.Events.started;
import static dev.togetherchat.client.Events.text;
import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.Delta;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A stream that a thread reads: whole, failed and cancelled. */
class CompletionStreamTest {
    private static final CompleteRequest REQUEST = request("m", user("Hi")).build();

    private final ScriptedServer server = new ScriptedServer();
    private final TogetherChat chat = server.client();

    @AfterEach
    void stop() {
        chat.close();
        server.close();
    }

    private static void send(StreamObserver<StreamCompleteResponse> out, StreamCompleteResponse... events) {
        for (StreamCompleteResponse event : events) {
            out.onNext(event);
        }
    }

    /** text() yields only the first choice's deltas; the response is whole at the end. */
    @Test
    void aWholeStreamYieldsItsTextAndThenTheResponse() {
        server.stream = (attempt, out) -> {
            Delta.Builder other = Delta.newBuilder().setChoiceIndex(1).setText("other");
            send(out, started("chat-1"), text("Hel"), Events.delta(other), text("lo"));
            send(out, finished(0), finished(1), completed());
            out.onCompleted();
        };
        List<String> pieces = new ArrayList<>();
        try (CompletionStream stream = chat.stream(REQUEST)) {
            stream.text().forEach(pieces::add);
            assertEquals(List.of("Hel", "lo"), pieces);
            assertTrue(stream.whole());
            assertEquals("chat-1", stream.response().getId());
            assertEquals("Hello", textOf(stream.finish()));
            assertThrows(NoSuchElementException.class, () -> stream.iterator().next());
        }
    }

    /** Unknown events of a later version are yielded and do not change the response. */
    @Test
    void unknownEventsAreYieldedAndIgnored() {
        server.stream = (attempt, out) -> {
            send(out, Events.unknown(), started("chat-1"), Events.unknown(), text("Hi"), finished(0), completed());
            out.onCompleted();
        };
        try (CompletionStream stream = chat.stream(REQUEST)) {
            List<StreamCompleteResponse> events = new ArrayList<>();
            stream.forEach(events::add);
            assertEquals(6, events.size());
            assertEquals("Hi", textOf(stream.response()));
        }
    }

    /** The partial response is in the exception and in the stream. */
    @Test
    void aBrokenStreamKeepsThePartialResponse() {
        server.stream = (attempt, out) -> {
            send(out, started("chat-1"), text("Hal"));
            out.onError(Status.UNAVAILABLE.withDescription("cut").asRuntimeException());
        };
        try (CompletionStream stream = chat.stream(REQUEST)) {
            ChatException failed = assertThrows(ChatException.class, stream::finish);
            assertEquals(Status.Code.UNAVAILABLE, failed.code());
            assertEquals("Hal", textOf(failed.partial().orElseThrow()));
            assertEquals("Hal", textOf(stream.response()));
            assertEquals(1, server.calls.size());
        }
    }

    /** OK without the last event is a failure. */
    @Test
    void anOkWithoutTheLastEventIsAFailure() {
        server.stream = (attempt, out) -> {
            send(out, started("chat-1"), text("Hal"), finished(0));
            out.onCompleted();
        };
        try (CompletionStream stream = chat.stream(REQUEST)) {
            ChatException failed = assertThrows(ChatException.class, stream::finish);
            assertEquals(ChatException.STREAM_INCOMPLETE, failed.reason());
            assertEquals("Hal", textOf(failed.partial().orElseThrow()));
        }
    }

    /** A stream that fails before its first event is retried. */
    @Test
    void aStreamIsRetriedBeforeItsFirstEvent() {
        server.stream = (attempt, out) -> {
            if (attempt == 1) {
                out.onError(ScriptedServer.pushback(Status.UNAVAILABLE, "1"));
            } else {
                send(out, started("chat-1"), text("Hi"), finished(0), completed());
                out.onCompleted();
            }
        };
        try (CompletionStream stream = chat.stream(REQUEST)) {
            assertEquals("Hi", textOf(stream.finish()));
        }
        assertEquals(2, server.calls.size());
    }

    /** Leaving the try block cancels the call. */
    @Test
    void closingAStreamCancelsItsCall() throws Exception {
        server.stream = (attempt, out) -> send(out, started("chat-1"), text("Hi"));
        CompletionStream stream = chat.stream(REQUEST);
        try (stream) {
            assertEquals("Hi", stream.text().iterator().next());
        }
        assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
        ChatException failed = assertThrows(ChatException.class, stream::finish);
        assertEquals(Status.Code.CANCELLED, failed.code());
        assertEquals("Hi", textOf(failed.partial().orElseThrow()));
    }

    /** Closing the stream from another thread wakes the waiting reader. */
    @Test
    void closingFromAnotherThreadEndsTheWait() throws Exception {
        CountDownLatch reading = new CountDownLatch(1);
        server.stream = (attempt, out) -> send(out, started("chat-1"));
        List<Status.Code> seen = new ArrayList<>();
        try (CompletionStream stream = chat.stream(REQUEST)) {
            Thread reader = new Thread(() -> {
                Iterator<StreamCompleteResponse> events = stream.iterator();
                events.next();
                reading.countDown();
                seen.add(assertThrows(ChatException.class, events::next).code());
            });
            reader.start();
            reading.await();
            closeOf(stream).run();
            reader.join();
        }
        assertEquals(List.of(Status.Code.CANCELLED), seen);
    }

    /** Interrupting the reader cancels the call, keeps the partial response and the interrupt flag. */
    @Test
    void interruptingTheReaderCancelsTheCall() throws Exception {
        CountDownLatch reading = new CountDownLatch(1);
        server.stream = (attempt, out) -> send(out, started("chat-1"), text("Hi"));
        List<Object> seen = new ArrayList<>();
        Thread reader = new Thread(() -> {
            try (CompletionStream stream = chat.stream(REQUEST)) {
                Iterator<String> pieces = stream.text().iterator();
                pieces.next();
                reading.countDown();
                ChatException failed = assertThrows(ChatException.class, pieces::next);
                seen.add(failed.code());
                seen.add(textOf(failed.partial().orElseThrow()));
                seen.add(Thread.currentThread().isInterrupted());
            }
        });
        reader.start();
        reading.await();
        reader.interrupt();
        reader.join();
        assertEquals(List.of(Status.Code.CANCELLED, "Hi", true), seen);
        assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
    }

    /** The response contains only the events that were read, whatever else has arrived. */
    @Test
    void theResponseContainsOnlyWhatWasRead() {
        server.stream = (attempt, out) -> {
            send(out, started("chat-1"), text("a"), text("b"), finished(0), completed());
            out.onCompleted();
        };
        try (CompletionStream stream = chat.stream(REQUEST)) {
            Iterator<StreamCompleteResponse> events = stream.iterator();
            events.next();
            assertEquals("", textOf(stream.response()));
            assertFalse(stream.whole());
            events.next();
            assertEquals("a", textOf(stream.response()));
        }
    }

    /** Avoids javac's warning about closing a resource of a try block explicitly. */
    private static Runnable closeOf(CompletionStream stream) {
        return stream::close;
    }
}
