package dev.togetherchat.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Sends calls over a channel with health checks, as long as its servers answer the watch. gRPC holds calls back until
 * the first answer, without a bound of its own: a proxy that never answers would make each call wait for its whole
 * deadline. After {@link #TIMEOUT}, calls use a second channel, without health checks, until the watch is answered.
 */
final class HealthGate extends Channel {
    /** How long calls wait for the first answer of a watch. */
    static final Duration TIMEOUT = Duration.ofSeconds(1);

    private final ManagedChannel checked;
    private final ManagedChannel plain;
    // When a call first found no answer; null while the last call found one.
    private Long sinceNs;

    HealthGate(ManagedChannel checked, ManagedChannel plain) {
        this.checked = checked;
        this.plain = plain;
    }

    @Override
    public <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method, CallOptions options) {
        Channel chosen = choice();
        return chosen == null ? new WaitingCall<>(method, options) : chosen.newCall(method, options);
    }

    @Override
    public String authority() {
        return checked.authority();
    }

    /** Returns the channel of a call now, or null if it should wait. */
    private Channel choice() {
        ConnectivityState state = checked.getState(true);
        boolean answered = state != ConnectivityState.IDLE && state != ConnectivityState.CONNECTING;
        if (answered) {
            noteAnswer();
            return checked;
        }
        return leftNs() > 0 ? null : plain;
    }

    private synchronized void noteAnswer() {
        sinceNs = null;
    }

    /** Returns how long a call may still wait. */
    private synchronized long leftNs() {
        if (sinceNs == null) {
            sinceNs = System.nanoTime();
        }
        return TIMEOUT.toNanos() - (System.nanoTime() - sinceNs);
    }

    /** A call that is kept back until the watch is answered, for the rest of the timeout or its own deadline. */
    private final class WaitingCall<Q, R> extends ClientCall<Q, R> {
        private final MethodDescriptor<Q, R> method;
        private final CallOptions options;
        // gRPC reads the context in newCall and start, which may run in another thread.
        private final Context context = Context.current();
        private List<Consumer<ClientCall<Q, R>>> waiting = new ArrayList<>();
        private ClientCall<Q, R> call;
        // Whether the waiting steps have been run: further steps do not wait.
        private boolean proceeded;

        WaitingCall(MethodDescriptor<Q, R> method, CallOptions options) {
            this.method = method;
            this.options = options;
        }

        @Override
        public void start(Listener<R> listener, Metadata headers) {
            run(chosen -> chosen.start(listener, headers));
            long leftNs = leftNs();
            Deadline deadline = options.getDeadline();
            if (deadline != null) {
                leftNs = Math.min(leftNs, deadline.timeRemaining(TimeUnit.NANOSECONDS));
            }
            CompletableFuture.delayedExecutor(leftNs, TimeUnit.NANOSECONDS).execute(() -> proceed(plain));
            watch();
        }

        @Override
        public void request(int messages) {
            run(chosen -> chosen.request(messages));
        }

        @Override
        public void cancel(String message, Throwable cause) {
            run(chosen -> chosen.cancel(message, cause));
            proceed(plain);
        }

        @Override
        public void halfClose() {
            run(ClientCall::halfClose);
        }

        @Override
        public void sendMessage(Q message) {
            run(chosen -> chosen.sendMessage(message));
        }

        private void watch() {
            if (chosen()) {
                return;
            }
            ConnectivityState state = checked.getState(false);
            Channel chosen = choice();
            if (chosen == null) {
                checked.notifyWhenStateChanged(state, this::watch);
            } else {
                proceed(chosen);
            }
        }

        private synchronized boolean chosen() {
            return call != null;
        }

        private void run(Consumer<ClientCall<Q, R>> step) {
            synchronized (this) {
                if (!proceeded) {
                    waiting.add(step);
                    return;
                }
            }
            step.accept(call);
        }

        /** Makes the call over this channel, unless it was made before. */
        private void proceed(Channel chosen) {
            context.run(() -> {
                synchronized (this) {
                    if (call != null) {
                        return;
                    }
                    call = chosen.newCall(method, options);
                }
                // Without the lock: a step may run the listener, which may hold a lock that another step's caller holds.
                for (List<Consumer<ClientCall<Q, R>>> steps = next(); !steps.isEmpty(); steps = next()) {
                    steps.forEach(step -> step.accept(call));
                }
            });
        }

        private synchronized List<Consumer<ClientCall<Q, R>>> next() {
            List<Consumer<ClientCall<Q, R>>> steps = waiting;
            waiting = new ArrayList<>();
            proceeded = steps.isEmpty();
            return steps;
        }
    }
}
