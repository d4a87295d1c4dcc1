package dev.togetherchat.client;

import static dev.togetherchat.client.Events.completed;
import static dev.togetherchat.client.Events.finished;
import static dev.togetherchat.client.Events.started;
import static dev.togetherchat.client.Events.text;
import static dev.togetherchat.client.Messages.request;
import static dev.togetherchat.client.Messages.textOf;
import static dev.togetherchat.client.Messages.user;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.Status;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A stream as a Flow.Publisher. */
class EventPublisherTest {
    private static final CompleteRequest REQUEST = request("m", user("Hi")).build();

    private final ScriptedServer server = new ScriptedServer();
    private final TogetherChat chat = server.client();

    @AfterEach
    void stop() {
        chat.close();
        server.close();
    }

    /** Requests {@code first} events on subscription, and no more by itself. */
    private static final class Reader implements Flow.Subscriber<StreamCompleteResponse> {
        final Accumulator accumulator = new Accumulator();
        final List<StreamCompleteResponse> events = new CopyOnWriteArrayList<>();
        final CompletableFuture<Throwable> ended = new CompletableFuture<>();
        private final long first;
        volatile Flow.Subscription subscription;

        Reader(long first) {
            this.first = first;
        }

        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
            given.request(first);
        }

        @Override
        public void onNext(StreamCompleteResponse event) {
            accumulator.add(event);
            events.add(event);
        }

        @Override
        public void onError(Throwable failed) {
            ended.complete(failed);
        }

        @Override
        public void onComplete() {
            ended.complete(null);
        }

        Throwable end() throws Exception {
            return ended.get(1, TimeUnit.MINUTES);
        }
    }

    /** A subscriber gets all events and then onComplete. */
    @Test
    void aWholeStreamCompletes() throws Exception {
        server.stream = (attempt, out) -> {
            List.of(started("chat-1"), text("Hi"), finished(0), completed()).forEach(out::onNext);
            out.onCompleted();
        };
        Reader reader = new Reader(Long.MAX_VALUE);
        chat.events(REQUEST).subscribe(reader);
        assertEquals(null, reader.end());
        assertEquals("Hi", textOf(reader.accumulator.response()));
    }

    /** Without a subscriber no call is made, and each subscriber makes one. */
    @Test
    void eachSubscriberMakesACall() throws Exception {
        server.stream = (attempt, out) -> {
            out.onNext(completed());
            out.onCompleted();
        };
        Flow.Publisher<StreamCompleteResponse> events = chat.events(REQUEST);
        assertEquals(0, server.calls.size());
        Reader first = new Reader(9);
        Reader second = new Reader(9);
        events.subscribe(first);
        events.subscribe(second);
        assertEquals(null, first.end());
        assertEquals(null, second.end());
        assertEquals(2, server.calls.size());
    }

    /** A subscriber gets as many events as it requests. */
    @Test
    void theSubscriberSetsThePace() throws Exception {
        server.stream = (attempt, out) -> {
            List.of(started("chat-1"), text("Hi"), finished(0), completed()).forEach(out::onNext);
            out.onCompleted();
        };
        Reader reader = new Reader(1);
        chat.events(REQUEST).subscribe(reader);
        Waiting.until(() -> reader.events.size() == 1);
        reader.subscription.request(2);
        Waiting.until(() -> reader.events.size() == 3);
        reader.subscription.request(1);
        assertEquals(null, reader.end());
        assertEquals(4, reader.events.size());
    }

    /** The exception of a broken stream has the partial response. */
    @Test
    void aBrokenStreamKeepsThePartialResponse() throws Exception {
        server.stream = (attempt, out) -> {
            List.of(started("chat-1"), text("Hal")).forEach(out::onNext);
            out.onError(Status.UNAVAILABLE.asRuntimeException());
        };
        Reader reader = new Reader(9);
        chat.events(REQUEST).subscribe(reader);
        ChatException failed = assertInstanceOf(ChatException.class, reader.end());
        assertEquals("Hal", textOf(failed.partial().orElseThrow()));
    }

    /** Cancelling the subscription cancels the call. */
    @Test
    void cancellingTheSubscriptionCancelsTheCall() throws Exception {
        server.stream = (attempt, out) -> out.onNext(started("chat-1"));
        Reader reader = new Reader(9);
        chat.events(REQUEST).subscribe(reader);
        Waiting.until(() -> reader.events.size() == 1);
        reader.subscription.cancel();
        assertTrue(server.cancelled.await(1, TimeUnit.MINUTES));
    }

    /** Requesting zero events is an error, as Flow specifies. */
    @Test
    void requestingZeroEventsIsAnError() throws Exception {
        Reader reader = new Reader(0);
        chat.events(REQUEST).subscribe(reader);
        assertInstanceOf(IllegalArgumentException.class, reader.end());
    }
}
