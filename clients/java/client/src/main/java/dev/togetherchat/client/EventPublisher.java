package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Objects;
import java.util.concurrent.Flow;
import java.util.function.Supplier;

/** Publishes the events of a stream. Each subscription makes its own call and sets its own pace. */
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
        EventSubscription subscription = new EventSubscription(calls.get(), subscriber);
        subscriber.onSubscribe(subscription);
        subscription.start(request);
    }

    private static final class EventSubscription extends ClientCall.Listener<StreamCompleteResponse>
            implements Flow.Subscription {
        private final OpenCall<CompleteRequest, StreamCompleteResponse> open;
        private final Flow.Subscriber<? super StreamCompleteResponse> subscriber;
        private final Accumulator accumulator = new Accumulator();
        // What the subscriber requested before the call was started. gRPC accepts no requests before that.
        private long requestedEarly;
        private boolean started;
        private IllegalArgumentException misuse;
        private volatile boolean cancelled;

        EventSubscription(
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
            } else if (requestedEarly > 0) {
                open.call().request((int) requestedEarly);
            }
        }

        @Override
        public synchronized void request(long count) {
            if (count <= 0) {
                reject(new IllegalArgumentException("a subscriber must request at least one event"));
            } else if (started) {
                open.call().request((int) Math.min(count, Integer.MAX_VALUE));
            } else {
                requestedEarly = Math.min(requestedEarly + Math.min(count, Integer.MAX_VALUE), Integer.MAX_VALUE);
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
                accumulator.add(event);
                subscriber.onNext(event);
            }
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            if (cancelled) {
                return;
            }
            Throwable failure = misuse() == null ? open.failure(status, trailers, accumulator) : misuse();
            if (failure == null) {
                subscriber.onComplete();
            } else {
                subscriber.onError(failure);
            }
        }

        private void reject(IllegalArgumentException why) {
            misuse = why;
            if (started) {
                open.call().cancel(why.getMessage(), why);
            }
        }

        private synchronized IllegalArgumentException misuse() {
            return misuse;
        }
    }
}
