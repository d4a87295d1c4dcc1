package dev.togetherchat.client;

import dev.togetherchat.v1.ChatServiceGrpc;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListModelsResponse;
import dev.togetherchat.v1.Model;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;

/**
 * Calls the service. Safe to share between threads; every failure of a call is a {@link ChatException}.
 *
 * <p>A thread that waits in a call and is interrupted cancels it; so does a future of this class that is cancelled.
 */
public final class TogetherChat implements AutoCloseable {
    /** The service's name, as its health is asked for. */
    public static final String SERVICE = ChatServiceGrpc.SERVICE_NAME;

    private static final CallSettings HEALTH = CallSettings.DEFAULT.withTimeout(Duration.ofSeconds(10));
    private static final Duration FAREWELL = Duration.ofSeconds(5);

    private final Channels channels;
    private final ManagedChannel channel;
    private final CallerMetadata caller;
    private final Duration timeout;

    /** Opens a channel, with the service config or without. */
    interface Channels {
        ManagedChannel open(boolean withServiceConfig);
    }

    TogetherChat(Channels channels, CallerMetadata caller, Duration timeout) {
        this.channels = channels;
        this.channel = channels.open(true);
        this.caller = caller;
        this.timeout = timeout;
    }

    /** A client of the service at {@code target} by every default. */
    public static TogetherChat connect(String target) {
        return builder(target).build();
    }

    /**
     * What a client can be told.
     *
     * @param target {@code host:port}, or any target that gRPC knows ({@code dns:///...}, {@code unix:...})
     */
    public static TogetherChatBuilder builder(String target) {
        return new TogetherChatBuilder(target);
    }

    /** The whole answer. */
    public CompleteResponse complete(CompleteRequest request) {
        return complete(request, CallSettings.DEFAULT);
    }

    /** The whole answer. */
    public CompleteResponse complete(CompleteRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getCompleteMethod(), settings).await(request);
    }

    /** The whole answer in future. */
    public CompletableFuture<CompleteResponse> completeAsync(CompleteRequest request) {
        return completeAsync(request, CallSettings.DEFAULT);
    }

    /** The whole answer in future. Cancel this very future, not one derived of it, to cancel the call. */
    public CompletableFuture<CompleteResponse> completeAsync(CompleteRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getCompleteMethod(), settings).later(request);
    }

    /** The answer while it is made, for a thread that waits. Close it. */
    public ChatStream stream(CompleteRequest request) {
        return stream(request, CallSettings.DEFAULT);
    }

    /** The answer while it is made, for a thread that waits. Close it. */
    public ChatStream stream(CompleteRequest request, CallSettings settings) {
        return new ChatStream(open(ChatServiceGrpc.getStreamCompleteMethod(), settings), request);
    }

    /** The answer while it is made, for a subscriber; nothing is asked of the service before there is one. */
    public Flow.Publisher<StreamCompleteResponse> events(CompleteRequest request) {
        return events(request, CallSettings.DEFAULT);
    }

    /** The answer while it is made, for a subscriber; nothing is asked of the service before there is one. */
    public Flow.Publisher<StreamCompleteResponse> events(CompleteRequest request, CallSettings settings) {
        return new EventPublisher(() -> open(ChatServiceGrpc.getStreamCompleteMethod(), settings), request);
    }

    /** One page of models. */
    public ListModelsResponse listModels(ListModelsRequest request) {
        return listModels(request, CallSettings.DEFAULT);
    }

    /** One page of models. */
    public ListModelsResponse listModels(ListModelsRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getListModelsMethod(), settings).await(request);
    }

    /** One page of models in future. */
    public CompletableFuture<ListModelsResponse> listModelsAsync(ListModelsRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getListModelsMethod(), settings).later(request);
    }

    /** Every model that the filters let through; a page is asked for when the one before is used up. */
    public Iterable<Model> models(ListModelsRequest filters) {
        return () -> new ModelPages(this::listModels, filters);
    }

    /**
     * Whether {@code service} takes calls; empty asks about the server as a whole.
     *
     * <p>It asks over a channel of its own, for the channel of the other calls obeys the answer: it would not reach a
     * service that says NOT_SERVING.
     */
    public ServingStatus health(String service) {
        HealthCheckRequest request = HealthCheckRequest.newBuilder().setService(service).build();
        ManagedChannel own = channels.open(false);
        try {
            HealthCheckResponse response = open(own, HealthGrpc.getCheckMethod(), HEALTH).await(request);
            return response.getStatus();
        } finally {
            own.shutdownNow();
        }
    }

    /** Ends the calls that are under way, and the connections. */
    @Override
    public void close() {
        channel.shutdownNow();
        try {
            // So that a program which ends now has told the server that its calls are over.
            channel.awaitTermination(FAREWELL.toNanos(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private <Q, R> OpenCall<Q, R> open(MethodDescriptor<Q, R> method, CallSettings settings) {
        return open(channel, method, settings);
    }

    private <Q, R> OpenCall<Q, R> open(Channel channel, MethodDescriptor<Q, R> method, CallSettings settings) {
        String requestId = CallerMetadata.requestId(settings);
        ClientCall<Q, R> call = MetadataUtils.newAttachHeadersInterceptor(caller.of(settings, requestId))
                .interceptCall(method, options(settings), channel);
        return new OpenCall<>(call, requestId);
    }

    private CallOptions options(CallSettings settings) {
        Duration longest = settings.timeout() == null ? timeout : settings.timeout();
        // Without one, gRPC sets the service config's, and it travels to the service as any other.
        return longest == null
                ? CallOptions.DEFAULT
                : CallOptions.DEFAULT.withDeadlineAfter(longest.toNanos(), TimeUnit.NANOSECONDS);
    }
}
