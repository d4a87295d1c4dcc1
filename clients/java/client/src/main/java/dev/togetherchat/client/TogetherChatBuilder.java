package dev.togetherchat.client;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.time.Duration;
import java.util.Objects;
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

    private final String target;
    private ChannelCredentials credentials;
    private String serverName = "";
    private String key;
    private String upstreamKey;
    private Duration timeout;
    private boolean retries = true;

    TogetherChatBuilder(String target) {
        this.target = Objects.requireNonNull(target, "target");
        this.credentials = Target.isLocal(target) ? InsecureChannelCredentials.create() : TlsChannelCredentials.create();
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
        this.key = checked(key, "key");
        return this;
    }

    /**
     * Sets the caller's own Together key, for a service that accepts one.
     *
     * @throws IllegalArgumentException if the key is empty or has a character that metadata cannot carry
     */
    public TogetherChatBuilder upstreamKey(String upstreamKey) {
        this.upstreamKey = checked(upstreamKey, "upstreamKey");
        return this;
    }

    /** Sets the timeout of calls that set none. Default: the service config's, 600 s for a completion, 30 s for a list. */
    public TogetherChatBuilder timeout(Duration timeout) {
        this.timeout = Objects.requireNonNull(timeout, "timeout");
        return this;
    }

    /** Enables or disables all retries. The default is true. */
    public TogetherChatBuilder retries(boolean retries) {
        this.retries = retries;
        return this;
    }

    /** Creates the client, which opens its own connections. Share it between threads, and close it at the end. */
    public TogetherChat build() {
        return new TogetherChat(this::open, new CallerMetadata(key, upstreamKey), timeout);
    }

    ChannelCredentials credentials() {
        return credentials;
    }

    private ManagedChannel open(boolean withServiceConfig) {
        ManagedChannelBuilder<?> channel = Grpc.newChannelBuilder(target, credentials)
                .userAgent("togetherchat-java")
                .maxInboundMessageSize(RECEIVE_BYTES_MAX)
                .maxInboundMetadataSize(METADATA_BYTES_MAX)
                .perRpcBufferLimit(RETRY_BUFFER_BYTES)
                .retryBufferSize(CHANNEL_RETRY_BUFFER_BYTES)
                .keepAliveTime(KEEPALIVE.toNanos(), TimeUnit.NANOSECONDS)
                .keepAliveTimeout(KEEPALIVE_TIMEOUT.toNanos(), TimeUnit.NANOSECONDS);
        if (withServiceConfig) {
            channel.defaultServiceConfig(ServiceConfig.load());
        }
        if (!retries) {
            channel.disableRetry();
        }
        if (!serverName.isEmpty()) {
            channel.overrideAuthority(serverName);
        }
        if (Target.isLocal(target)) {
            // A proxy in the environment cannot reach this machine's loopback addresses.
            channel.proxyDetector(address -> null);
        }
        return channel.build();
    }

    /** Returns a key without surrounding white space. The exception never contains the key. */
    private static String checked(String key, String name) {
        String stripped = Objects.requireNonNull(key, name).strip();
        if (stripped.isEmpty() || !stripped.chars().allMatch(letter -> letter > ' ' && letter < 127)) {
            throw new IllegalArgumentException(name + " is empty or has a character that metadata cannot carry");
        }
        return stripped;
    }
}
