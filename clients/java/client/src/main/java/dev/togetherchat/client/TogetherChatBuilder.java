package dev.togetherchat.client;

import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * Configures a client: target, encryption, keys, deadline and retries. Opens nothing before {@link #build()}.
 *
 * <p>Encryption: the default is plaintext for a target on this machine (localhost, 127.x, ::1, a unix socket) and TLS
 * for any other, so that no key crosses a network unencrypted by mistake. {@link #plaintext()} and
 * {@link #tls(ChannelCredentials)} override it.
 *
 * <p>Retries are gRPC's own, by the contract's service config. The service controls them with
 * {@code grpc-retry-pushback-ms}. When a connection is lost, the service cannot say whether a retry is safe, and the
 * retry may be billed twice: {@link #retries(boolean)} turns all retries off.
 */
public final class TogetherChatBuilder {
    /** The largest message that the client receives, in bytes. */
    public static final int RECEIVE_BYTES_MAX = 64 * 1024 * 1024;

    /** The largest request that is buffered for a retry, in bytes. grpc-java's default is 1 MiB. */
    public static final long RETRY_BUFFER_BYTES = 32L * 1024 * 1024;

    /** The retry buffer of all calls of a channel, in bytes. grpc-java's default is 16 MiB. */
    public static final long CHANNEL_RETRY_BUFFER_BYTES = 4 * RETRY_BUFFER_BYTES;

    /** The largest metadata that the client receives, in bytes: the maximum of gRPC's C core. */
    public static final int METADATA_BYTES_MAX = 16 * 1024;

    /** A ping is sent after this time without data. */
    public static final Duration KEEPALIVE = Duration.ofSeconds(30);

    /** The connection is closed if a ping is not answered within this time. */
    public static final Duration KEEPALIVE_TIMEOUT = Duration.ofSeconds(10);

    /** The longest wait between two attempts to connect. grpc-java's default is 120 s. */
    public static final Duration MAX_RECONNECT_BACKOFF = Duration.ofSeconds(5);

    private final String target;
    private final boolean local;
    private ChannelCredentials credentials;
    private String serverName = "";
    private String key;
    private String upstreamKey;
    private Duration timeout;
    private boolean retries = true;
    private boolean healthChecking;
    private boolean waitForReady;
    private Duration maxReconnectBackoff = MAX_RECONNECT_BACKOFF;
    private Executor executor;

    TogetherChatBuilder(String target) {
        this.target = target;
        this.local = Target.isLocal(target);
        this.credentials = local ? InsecureChannelCredentials.create() : TlsChannelCredentials.create();
    }

    /** Disables TLS. Keys are then sent unencrypted: use it only where the network encrypts, such as in a mesh. */
    public TogetherChatBuilder plaintext() {
        return tls(InsecureChannelCredentials.create());
    }

    /** Uses TLS with the JDK's root certificates. */
    public TogetherChatBuilder tls() {
        return tls(TlsChannelCredentials.create());
    }

    /** Uses these credentials: {@link TlsChannelCredentials#newBuilder()} accepts roots and a client certificate. */
    public TogetherChatBuilder tls(ChannelCredentials credentials) {
        this.credentials = Objects.requireNonNull(credentials, "credentials");
        return this;
    }

    /** Sets the name in the server's certificate, if it differs from the target's. */
    public TogetherChatBuilder serverName(String serverName) {
        this.serverName = Objects.requireNonNull(serverName, "serverName");
        return this;
    }

    /**
     * Sets the caller's key, sent as {@code authorization: Bearer ...}.
     *
     * @throws IllegalArgumentException if the key is empty or has a character that metadata cannot carry
     */
    public TogetherChatBuilder key(String key) {
        this.key = Arguments.key(key, "key");
        return this;
    }

    /**
     * Sets the caller's own Together key, for a service that accepts one.
     *
     * @throws IllegalArgumentException if the key is empty or has a character that metadata cannot carry
     */
    public TogetherChatBuilder upstreamKey(String upstreamKey) {
        this.upstreamKey = Arguments.key(upstreamKey, "upstreamKey");
        return this;
    }

    /**
     * Sets the timeout of calls that set none. Default: the service config's, 600 s for a completion, 30 s for a list.
     *
     * @throws IllegalArgumentException if the timeout is not above 0, or longer than a day
     */
    public TogetherChatBuilder timeout(Duration timeout) {
        this.timeout = Arguments.duration(timeout, "timeout");
        return this;
    }

    /** Enables or disables all retries. The default is true. */
    public TogetherChatBuilder retries(boolean retries) {
        this.retries = retries;
        return this;
    }

    /**
     * Enables or disables gRPC's client-side health checks: a server that reports NOT_SERVING gets no calls. The
     * default is false. The check is a stream of grpc.health.v1.Health with the client's keys. A server or proxy that
     * does not answer it within a second counts as healthy.
     */
    public TogetherChatBuilder healthChecking(boolean healthChecking) {
        this.healthChecking = healthChecking;
        return this;
    }

    /**
     * Makes calls wait for a server until their deadline, for example while the server starts. The default is false: a
     * call fails as soon as connecting has failed. {@link CallSettings#withWaitForReady} takes precedence.
     */
    public TogetherChatBuilder waitForReady(boolean waitForReady) {
        this.waitForReady = waitForReady;
        return this;
    }

    /**
     * Bounds the wait between two attempts to connect. The default is {@link #MAX_RECONNECT_BACKOFF}.
     *
     * @throws IllegalArgumentException if the duration is not above 0, or longer than a day
     */
    public TogetherChatBuilder maxReconnectBackoff(Duration maxReconnectBackoff) {
        this.maxReconnectBackoff = Arguments.duration(maxReconnectBackoff, "maxReconnectBackoff");
        return this;
    }

    /** Sets the executor that runs the listeners and futures of calls. Default: a pool that all channels share. */
    public TogetherChatBuilder executor(Executor executor) {
        this.executor = Objects.requireNonNull(executor, "executor");
        return this;
    }

    /** Creates the client, which opens its own connections. Share it between threads, and close it at the end. */
    public TogetherChat build() {
        CallerMetadata caller = new CallerMetadata(key, upstreamKey);
        TogetherChat.Channels channels = checked -> open(checked, caller);
        return new TogetherChat(channels, healthChecking, caller, timeout, waitForReady);
    }

    ChannelCredentials credentials() {
        return credentials;
    }

    private ManagedChannel open(boolean checked, CallerMetadata caller) {
        ChannelCredentials withKeys =
                checked ? CompositeChannelCredentials.create(credentials, new WatchKeys(caller)) : credentials;
        ManagedChannelBuilder<?> channel = Grpc.newChannelBuilder(Target.forGrpc(target), withKeys)
                .userAgent("togetherchat-java")
                .maxInboundMessageSize(RECEIVE_BYTES_MAX)
                .maxInboundMetadataSize(METADATA_BYTES_MAX)
                .perRpcBufferLimit(RETRY_BUFFER_BYTES)
                .retryBufferSize(CHANNEL_RETRY_BUFFER_BYTES)
                .keepAliveTime(KEEPALIVE.toNanos(), TimeUnit.NANOSECONDS)
                .keepAliveTimeout(KEEPALIVE_TIMEOUT.toNanos(), TimeUnit.NANOSECONDS)
                .defaultServiceConfig(serviceConfig(checked));
        if (executor != null) {
            channel.executor(executor);
        }
        if (!retries) {
            channel.disableRetry();
        }
        if (!serverName.isEmpty()) {
            channel.overrideAuthority(serverName);
        }
        if (local) {
            // A proxy in the environment cannot reach this machine's loopback addresses.
            channel.proxyDetector(address -> null);
        }
        ManagedChannel open = channel.build();
        ReconnectBackoff.bound(open, maxReconnectBackoff);
        return open;
    }

    private static Map<String, Object> serviceConfig(boolean checked) {
        Map<String, Object> config = ServiceConfig.load();
        if (!checked) {
            config.remove("healthCheckConfig");
        }
        return config;
    }
}
