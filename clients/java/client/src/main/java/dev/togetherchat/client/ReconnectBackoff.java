package dev.togetherchat.client;

import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * Bounds the wait between two attempts to connect. grpc-java's own bound is two minutes and cannot be set, so while the
 * channel has no connection, this class ends the wait after each period.
 */
final class ReconnectBackoff {
    private final ManagedChannel channel;
    private final Executor later;

    private ReconnectBackoff(ManagedChannel channel, Duration longest) {
        this.channel = channel;
        this.later = CompletableFuture.delayedExecutor(longest.toNanos(), TimeUnit.NANOSECONDS);
    }

    /** Watches the channel until it is shut down. */
    static void bound(ManagedChannel channel, Duration longest) {
        new ReconnectBackoff(channel, longest).watch();
    }

    private void watch() {
        ConnectivityState state = channel.getState(false);
        if (state == ConnectivityState.SHUTDOWN) {
            return;
        }
        if (state == ConnectivityState.TRANSIENT_FAILURE) {
            later.execute(this::endWait);
        } else {
            channel.notifyWhenStateChanged(state, this::watch);
        }
    }

    private void endWait() {
        if (!channel.isShutdown()) {
            channel.resetConnectBackoff();
            watch();
        }
    }
}
