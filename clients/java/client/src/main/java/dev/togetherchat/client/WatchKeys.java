package dev.togetherchat.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.health.v1.HealthGrpc;
import java.util.concurrent.Executor;

/** Adds the keys to gRPC's own health watch. All other calls carry them in their metadata. */
final class WatchKeys extends CallCredentials {
    private static final String WATCH = HealthGrpc.getWatchMethod().getFullMethodName();

    private final CallerMetadata caller;

    WatchKeys(CallerMetadata caller) {
        this.caller = caller;
    }

    @Override
    public void applyRequestMetadata(RequestInfo request, Executor executor, MetadataApplier applier) {
        boolean watch = request.getMethodDescriptor().getFullMethodName().equals(WATCH);
        applier.apply(watch ? caller.keys() : new Metadata());
    }
}
