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
 * One streamed answer, read by one thread. Iterate over it for the events, or over {@link #text()} for the text alone.
 *
 * <p>Iteration ends normally only when the answer is whole; every other end is a {@link ChatException} with what had
 * come in its {@code partial}. Closing the stream, from any thread, and interrupting the thread that waits for an event
 * cancel the call, and with it the generation: leave it with try-with-resources.
 */
public final class ChatStream implements Iterable<StreamCompleteResponse>, AutoCloseable {
    private final BlockingQueue<Arrival> arrivals = new LinkedBlockingQueue<>();
    private final AnswerFold fold = new AnswerFold();
    private final OpenCall<CompleteRequest, StreamCompleteResponse> open;
    private volatile boolean closed;
    private End end;

    ChatStream(OpenCall<CompleteRequest, StreamCompleteResponse> open, CompleteRequest request) {
        this.open = open;
        open.stream(request, new Arrivals());
        open.call().request(1);
    }

    /** The events as they come, each of them once. Ignore one that has none of the known fields set. */
    @Override
    public Iterator<StreamCompleteResponse> iterator() {
        return new Pieces<>(event -> event);
    }

    /** The pieces of the first choice's text as they come. */
    public Iterable<String> text() {
        return () -> new Pieces<>(ChatStream::textOf);
    }

    /** Reads what is left and gives the whole answer. */
    public CompleteResponse finish() {
        while (next() != null) {
            // What is read is folded.
        }
        return fold.response();
    }

    /** The answer as far as it was read; see {@link #whole()}. For the thread that reads. */
    public CompleteResponse response() {
        return fold.response();
    }

    /** Whether the end of the answer was read. */
    public boolean whole() {
        return fold.whole();
    }

    /** The id that the call was sent with. */
    public String requestId() {
        return open.requestId();
    }

    /** Ends the call, whole or not. Who still reads gets a {@code CANCELLED}. */
    @Override
    public void close() {
        closed = true;
        open.call().cancel("the stream was closed", null);
    }

    private static String textOf(StreamCompleteResponse event) {
        boolean first = event.hasDelta() && event.getDelta().getChoiceIndex() == 0;
        return first && !event.getDelta().getText().isEmpty() ? event.getDelta().getText() : null;
    }

    /** The next event, null at the end of a whole answer. */
    private StreamCompleteResponse next() {
        while (end == null) {
            Arrival arrival = take();
            if (arrival instanceof End last) {
                end = last;
            } else if (arrival instanceof Event arrived && !closed) {
                open.call().request(1);
                fold.add(arrived.event());
                return arrived.event();
            }
        }
        ChatException failure = open.failure(end.status(), end.trailers(), fold);
        if (failure != null) {
            throw failure;
        }
        return null;
    }

    private Arrival take() {
        try {
            return arrivals.take();
        } catch (InterruptedException interrupted) {
            close();
            Thread.currentThread().interrupt();
            throw open.interrupted(interrupted, fold);
        }
    }

    private sealed interface Arrival permits Event, End {}

    private record Event(StreamCompleteResponse event) implements Arrival {}

    private record End(Status status, Metadata trailers) implements Arrival {}

    /** Takes over from gRPC's threads. One event is asked for at a time, so that no more than it waits here. */
    private final class Arrivals extends ClientCall.Listener<StreamCompleteResponse> {
        @Override
        public void onMessage(StreamCompleteResponse event) {
            arrivals.add(new Event(event));
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            arrivals.add(new End(status, trailers));
        }
    }

    private final class Pieces<T> implements Iterator<T> {
        private final Function<StreamCompleteResponse, T> piece;
        private T ahead;

        Pieces(Function<StreamCompleteResponse, T> piece) {
            this.piece = piece;
        }

        @Override
        public boolean hasNext() {
            while (ahead == null) {
                StreamCompleteResponse event = ChatStream.this.next();
                if (event == null) {
                    return false;
                }
                ahead = piece.apply(event);
            }
            return true;
        }

        @Override
        public T next() {
            if (!hasNext()) {
                throw new NoSuchElementException("the answer is whole");
            }
            T piece = ahead;
            ahead = null;
            return piece;
        }
    }
}
