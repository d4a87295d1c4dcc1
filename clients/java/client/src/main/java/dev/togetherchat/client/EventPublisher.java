package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Objects;
import java.util.concurrent.Flow;
import java.util.function.Supplier;

/** The events of an answer for those who are called back: each subscriber makes a call of its own, at its own pace. */
final class EventPublisher implements Flow.Publisher<StreamCompleteResponse> {
    private final Supplier<OpenCall<CompleteRequest, StreamCompleteResponse>> calls;
    private final CompleteRequest request;

    EventPublisher(Supplier<OpenCall<CompleteRequest, StreamCompleteResponse>> calls, CompleteRequest request) {
        this.calls = calls;
        this.request = request;
    }

    @Override
    public void subscribe(Flow.Subscriber<? super StreamCompleteResponse> subscriber) {
        Objects.requireNonNull(subscriber, "subscriber");
        Reading reading = new Reading(calls.get(), subscriber);
        subscriber.onSubscribe(reading);
        reading.start(request);
    }

    private static final class Reading extends ClientCall.Listener<StreamCompleteResponse>
            implements Flow.Subscription {
        private final OpenCall<CompleteRequest, StreamCompleteResponse> open;
        private final Flow.Subscriber<? super StreamCompleteResponse> subscriber;
        private final AnswerFold fold = new AnswerFold();
        // What a subscriber may ask before the call is started, when gRPC takes no requests yet.
        private long askedEarly;
        private boolean started;
        private IllegalArgumentException misuse;
        private volatile boolean cancelled;

        Reading(
                OpenCall<CompleteRequest, StreamCompleteResponse> open,
                Flow.Subscriber<? super StreamCompleteResponse> subscriber) {
            this.open = open;
            this.subscriber = subscriber;
        }

        synchronized void start(CompleteRequest request) {
            if (cancelled) {
                return;
            }
            open.stream(request, this);
            started = true;
            if (misuse != null) {
                open.call().cancel(misuse.getMessage(), misuse);
            } else if (askedEarly > 0) {
                open.call().request((int) askedEarly);
            }
        }

        @Override
        public synchronized void request(long count) {
            if (count <= 0) {
                refuse(new IllegalArgumentException("a subscriber must request at least one event"));
            } else if (started) {
                open.call().request((int) Math.min(count, Integer.MAX_VALUE));
            } else {
                askedEarly = Math.min(askedEarly + Math.min(count, Integer.MAX_VALUE), Integer.MAX_VALUE);
            }
        }

        @Override
        public synchronized void cancel() {
            cancelled = true;
            if (started) {
                open.call().cancel("the subscription was cancelled", null);
            }
        }

        @Override
        public void onMessage(StreamCompleteResponse event) {
            if (!cancelled) {
                fold.add(event);
                subscriber.onNext(event);
            }
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            if (cancelled) {
                return;
            }
            Throwable failure = refused() == null ? open.failure(status, trailers, fold) : refused();
            if (failure == null) {
                subscriber.onComplete();
            } else {
                subscriber.onError(failure);
            }
        }

        private void refuse(IllegalArgumentException why) {
            misuse = why;
            if (started) {
                open.call().cancel(why.getMessage(), why);
            }
        }

        private synchronized IllegalArgumentException refused() {
            return misuse;
        }
    }
}
