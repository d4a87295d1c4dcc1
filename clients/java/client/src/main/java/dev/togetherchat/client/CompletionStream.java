package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Function;

/**
 * A completion while the model generates it, read by one thread: an iterable of events; {@link #text()} iterates over
 * the text alone.
 *
 * <p>Iteration ends normally only after the last event. Every other end is a {@link ChatException} with the partial
 * response in {@code partial}. Closing the stream from any thread cancels the call, and so does interrupting the thread
 * that waits for an event; the provider then stops generating. Use try-with-resources.
 */
public final class CompletionStream implements Iterable<StreamCompleteResponse>, AutoCloseable {
    private final BlockingQueue<Received> received = new LinkedBlockingQueue<>();
    private final Accumulator accumulator = new Accumulator();
    private final OpenCall<CompleteRequest, StreamCompleteResponse> open;
    private volatile boolean closed;
    private End end;

    CompletionStream(OpenCall<CompleteRequest, StreamCompleteResponse> open, CompleteRequest request) {
        this.open = open;
        open.stream(request, new QueueListener());
        open.call().request(1);
    }

    /** Iterates over the events as they arrive, each once. Ignore an event in which no known field is set. */
    @Override
    public Iterator<StreamCompleteResponse> iterator() {
        return new EventIterator<>(event -> event);
    }

    /** Iterates over the text deltas of the first choice as they arrive. */
    public Iterable<String> text() {
        return () -> new EventIterator<>(CompletionStream::textOf);
    }

    /** Reads the stream to its end and returns the whole response. */
    public CompleteResponse finish() {
        while (next() != null) {
            // next() adds each event to the accumulator.
        }
        return accumulator.response();
    }

    /** Returns the response read so far; see {@link #whole()}. Call it from the reading thread. */
    public CompleteResponse response() {
        return accumulator.response();
    }

    /** Whether the last event was read. */
    public boolean whole() {
        return accumulator.whole();
    }

    /** Returns the request id that was sent. */
    public String requestId() {
        return open.requestId();
    }

    /** Cancels the call, unless it has ended. A reader then gets a {@code CANCELLED}. */
    @Override
    public void close() {
        closed = true;
        open.call().cancel("the stream was closed", null);
    }

    private static String textOf(StreamCompleteResponse event) {
        boolean first = event.hasDelta() && event.getDelta().getChoiceIndex() == 0;
        return first && !event.getDelta().getText().isEmpty() ? event.getDelta().getText() : null;
    }

    /** Returns the next event, or null after the last one. */
    private StreamCompleteResponse next() {
        while (end == null) {
            Received next = take();
            if (next instanceof End last) {
                end = last;
            } else if (next instanceof Event arrived && !closed) {
                open.call().request(1);
                accumulator.add(arrived.event());
                return arrived.event();
            }
        }
        ChatException failure = open.failure(end.status(), end.trailers(), accumulator);
        if (failure != null) {
            throw failure;
        }
        return null;
    }

    private Received take() {
        try {
            return received.take();
        } catch (InterruptedException interrupted) {
            close();
            Thread.currentThread().interrupt();
            throw open.interrupted(interrupted, accumulator);
        }
    }

    private sealed interface Received permits Event, End {}

    private record Event(StreamCompleteResponse event) implements Received {}

    private record End(Status status, Metadata trailers) implements Received {}

    /** Queues what gRPC's threads deliver. The stream requests one event at a time, so the queue holds at most one. */
    private final class QueueListener extends ClientCall.Listener<StreamCompleteResponse> {
        @Override
        public void onMessage(StreamCompleteResponse event) {
            received.add(new Event(event));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            received.add(new End(status, trailers));
        }
    }

    private final class EventIterator<T> implements Iterator<T> {
        private final Function<StreamCompleteResponse, T> mapping;
        private T ahead;

        EventIterator(Function<StreamCompleteResponse, T> mapping) {
            this.mapping = mapping;
        }

        @Override
        public boolean hasNext() {
            while (ahead == null) {
                StreamCompleteResponse event = CompletionStream.this.next();
                if (event == null) {
                    return false;
                }
                ahead = mapping.apply(event);
            }
            return true;
        }

        @Override
        public T next() {
            if (!hasNext()) {
                throw new NoSuchElementException("the stream has ended");
            }
            T piece = ahead;
            ahead = null;
            return piece;
        }
    }
}
