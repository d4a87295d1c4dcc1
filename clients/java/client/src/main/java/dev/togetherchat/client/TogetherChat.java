package dev.togetherchat.client;

import dev.togetherchat.v1.ChatServiceGrpc;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.GetModelRequest;
import dev.togetherchat.v1.GetModelResponse;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListModelsResponse;
import dev.togetherchat.v1.ListQuotasRequest;
import dev.togetherchat.v1.ListQuotasResponse;
import dev.togetherchat.v1.Model;
import dev.togetherchat.v1.QueryUsageRequest;
import dev.togetherchat.v1.QueryUsageResponse;
import dev.togetherchat.v1.ResetQuotaRequest;
import dev.togetherchat.v1.ResetQuotaResponse;
import dev.togetherchat.v1.StreamCompleteResponse;
import dev.togetherchat.v1.UsageServiceGrpc;
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
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;

/**
 * Calls the service. A client is safe for use by many threads; every failed call throws a {@link ChatException}.
 *
 * <p>Interrupting a thread that waits for a call cancels the call, and so does cancelling a future of this class.
 */
public final class TogetherChat implements AutoCloseable {
    /** The name of the service in health checks. */
    public static final String SERVICE = ChatServiceGrpc.SERVICE_NAME;

    private static final CallSettings HEALTH = CallSettings.DEFAULT.withTimeout(Duration.ofSeconds(10));
    private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(5);

    private final Channels channels;
    private final ManagedChannel channel;
    // What the calls use, and the channels that it consists of.
    private final Channel transport;
    private final List<ManagedChannel> opened;
    private final CallerMetadata caller;
    private final Duration timeout;
    private final boolean waitForReady;

    /** Opens a channel, with health checks or without. */
    interface Channels {
        ManagedChannel open(boolean checked);
    }

    TogetherChat(
            Channels channels,
            boolean healthChecking,
            CallerMetadata caller,
            Duration timeout,
            boolean waitForReady) {
        this.channels = channels;
        this.channel = channels.open(healthChecking);
        this.opened = healthChecking ? List.of(channel, channels.open(false)) : List.of(channel);
        this.transport = healthChecking ? new HealthGate(channel, opened.get(1)) : channel;
        this.caller = caller;
        this.timeout = timeout;
        this.waitForReady = waitForReady;
    }

    /** Creates a client of the service at {@code target} with default settings. */
    public static TogetherChat connect(String target) {
        return builder(target).build();
    }

    /**
     * Returns a builder of a client of the service at {@code target}.
     *
     * @param target {@code host:port}, {@code dns:///host:port}, {@code unix:...}, or a target with a scheme whose
     *     resolver is registered with gRPC
     * @throws IllegalArgumentException if gRPC would misread the target, such as a URL
     */
    public static TogetherChatBuilder builder(String target) {
        return new TogetherChatBuilder(target);
    }

    /** Returns the completion in one message. */
    public CompleteResponse complete(CompleteRequest request) {
        return complete(request, CallSettings.DEFAULT);
    }

    /** Returns the completion in one message. */
    public CompleteResponse complete(CompleteRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getCompleteMethod(), settings).await(Arguments.text(request));
    }

    /** Returns a future of the completion. Cancel this future, not one derived from it, to cancel the call. */
    public CompletableFuture<CompleteResponse> completeAsync(CompleteRequest request) {
        return completeAsync(request, CallSettings.DEFAULT);
    }

    /** Returns a future of the completion. Cancel this future, not one derived from it, to cancel the call. */
    public CompletableFuture<CompleteResponse> completeAsync(CompleteRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getCompleteMethod(), settings).async(Arguments.text(request));
    }

    /** Streams the completion to a thread that waits for each event. Close the stream. */
    public CompletionStream stream(CompleteRequest request) {
        return stream(request, CallSettings.DEFAULT);
    }

    /** Streams the completion to a thread that waits for each event. Close the stream. */
    public CompletionStream stream(CompleteRequest request, CallSettings settings) {
        return new CompletionStream(open(ChatServiceGrpc.getStreamCompleteMethod(), settings), Arguments.text(request));
    }

    /** Streams the completion to subscribers. Each subscription makes one call. */
    public Flow.Publisher<StreamCompleteResponse> events(CompleteRequest request) {
        return events(request, CallSettings.DEFAULT);
    }

    /** Streams the completion to subscribers. Each subscription makes one call. */
    public Flow.Publisher<StreamCompleteResponse> events(CompleteRequest request, CallSettings settings) {
        CompleteRequest checked = Arguments.text(request);
        return new EventPublisher(() -> open(ChatServiceGrpc.getStreamCompleteMethod(), settings), checked);
    }

    /** Returns one page of models. */
    public ListModelsResponse listModels(ListModelsRequest request) {
        return listModels(request, CallSettings.DEFAULT);
    }

    /** Returns one page of models. */
    public ListModelsResponse listModels(ListModelsRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getListModelsMethod(), settings).await(Arguments.text(request));
    }

    /** Returns a future of one page of models. */
    public CompletableFuture<ListModelsResponse> listModelsAsync(ListModelsRequest request, CallSettings settings) {
        return open(ChatServiceGrpc.getListModelsMethod(), settings).async(Arguments.text(request));
    }

    /** Iterates over every model that matches the filters. Each page is requested when the previous one is consumed. */
    public Iterable<Model> models(ListModelsRequest filters) {
        return () -> new ModelPages(this::listModels, filters);
    }

    /** Returns one model by its id or an alias. For an unknown id, the exception's resource name is the id. */
    public GetModelResponse getModel(String id) {
        return getModel(id, CallSettings.DEFAULT);
    }

    /** Returns one model by its id or an alias. For an unknown id, the exception's resource name is the id. */
    public GetModelResponse getModel(String id, CallSettings settings) {
        return open(ChatServiceGrpc.getGetModelMethod(), settings).await(Arguments.text(getModelRequest(id)));
    }

    /** Returns a future of one model by its id or an alias. */
    public CompletableFuture<GetModelResponse> getModelAsync(String id, CallSettings settings) {
        return open(ChatServiceGrpc.getGetModelMethod(), settings).async(Arguments.text(getModelRequest(id)));
    }

    private static GetModelRequest getModelRequest(String id) {
        return GetModelRequest.newBuilder().setId(id).build();
    }

    /**
     * Returns one page of a report of usage and cost: the calls of a period, summed by the dimensions of the request.
     * The key sees its own tenant, or all tenants if it has the scope {@code admin}.
     */
    public QueryUsageResponse queryUsage(QueryUsageRequest request) {
        return queryUsage(request, CallSettings.DEFAULT);
    }

    /** Returns one page of a report of usage and cost. */
    public QueryUsageResponse queryUsage(QueryUsageRequest request, CallSettings settings) {
        return open(UsageServiceGrpc.getQueryUsageMethod(), settings).await(Arguments.text(request));
    }

    /** Returns a future of one page of a report of usage and cost. */
    public CompletableFuture<QueryUsageResponse> queryUsageAsync(QueryUsageRequest request, CallSettings settings) {
        return open(UsageServiceGrpc.getQueryUsageMethod(), settings).async(Arguments.text(request));
    }

    /** Returns what is used, reserved and left of the limits of the tenants, or of all that the key may see. */
    public ListQuotasResponse listQuotas(ListQuotasRequest request) {
        return listQuotas(request, CallSettings.DEFAULT);
    }

    /** Returns what is used, reserved and left of the limits of the tenants, or of all that the key may see. */
    public ListQuotasResponse listQuotas(ListQuotasRequest request, CallSettings settings) {
        return open(UsageServiceGrpc.getListQuotasMethod(), settings).await(Arguments.text(request));
    }

    /** Returns a future of the limits of tenants. */
    public CompletableFuture<ListQuotasResponse> listQuotasAsync(ListQuotasRequest request, CallSettings settings) {
        return open(UsageServiceGrpc.getListQuotasMethod(), settings).async(Arguments.text(request));
    }

    /**
     * Forgets the requests and tokens per minute that a tenant has used, and returns its limits after that. The key
     * needs the scope {@code admin}.
     */
    public ResetQuotaResponse resetQuota(String tenant) {
        return resetQuota(tenant, CallSettings.DEFAULT);
    }

    /** Forgets the requests and tokens per minute that a tenant has used, and returns its limits after that. */
    public ResetQuotaResponse resetQuota(String tenant, CallSettings settings) {
        return open(UsageServiceGrpc.getResetQuotaMethod(), settings).await(Arguments.text(resetQuotaRequest(tenant)));
    }

    /** Returns a future of the limits of a tenant after its reset. */
    public CompletableFuture<ResetQuotaResponse> resetQuotaAsync(String tenant, CallSettings settings) {
        return open(UsageServiceGrpc.getResetQuotaMethod(), settings).async(Arguments.text(resetQuotaRequest(tenant)));
    }

    private static ResetQuotaRequest resetQuotaRequest(String tenant) {
        return ResetQuotaRequest.newBuilder().setTenant(tenant).build();
    }

    /**
     * Returns the channel of the calls, for the generated stubs and for other services of the same server. Its calls
     * carry no keys, and their failures are gRPC's own exceptions. With health checks they wait for the watch until
     * their deadline. {@link #close()} shuts it down.
     */
    public ManagedChannel channel() {
        return channel;
    }

    /**
     * Returns the health of {@code service}; an empty name means the server as a whole.
     *
     * <p>The check uses a separate channel without health checks: with them, the channel of the other calls does not
     * reach a service that reports NOT_SERVING.
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

    /** Cancels the calls in flight and closes the connections. */
    @Override
    public void close() {
        opened.forEach(ManagedChannel::shutdownNow);
        try {
            for (ManagedChannel each : opened) {
                // Otherwise a program that exits now may not send the cancellations to the server.
                each.awaitTermination(CLOSE_TIMEOUT.toNanos(), TimeUnit.NANOSECONDS);
            }
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private <Q, R> OpenCall<Q, R> open(MethodDescriptor<Q, R> method, CallSettings settings) {
        return open(transport, method, settings);
    }

    private <Q, R> OpenCall<Q, R> open(Channel channel, MethodDescriptor<Q, R> method, CallSettings settings) {
        String requestId = CallerMetadata.requestId(settings);
        ClientCall<Q, R> call = MetadataUtils.newAttachHeadersInterceptor(caller.of(settings, requestId))
                .interceptCall(method, options(settings), channel);
        return new OpenCall<>(call, requestId);
    }

    private CallOptions options(CallSettings settings) {
        Duration longest = settings.timeout() == null ? timeout : settings.timeout();
        CallOptions options = settings.waitForReady().orElse(waitForReady)
                ? CallOptions.DEFAULT.withWaitForReady()
                : CallOptions.DEFAULT;
        // Without a timeout, gRPC sets the service config's and sends it to the service.
        return longest == null ? options : options.withDeadlineAfter(longest.toNanos(), TimeUnit.NANOSECONDS);
    }
}
