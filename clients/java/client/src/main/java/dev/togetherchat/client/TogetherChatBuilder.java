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
 * How to reach the service: target, encryption, keys, and the channel's bounds. Opens nothing before {@link #build()}.
 *
 * <p>Encryption: a target on this machine (localhost, 127.x, ::1, a unix socket) is spoken to in plain text, any other
 * over TLS, unless {@link #plaintext()} or {@link #tls(ChannelCredentials)} say otherwise: a key must not cross a
 * network in the clear because nobody thought of it.
 *
 * <p>Retries are gRPC's own, by the service config beside the protos, and the service steers them with
 * {@code grpc-retry-pushback-ms}. A connection that is lost has no such word, and a retry after it may be billed
 * twice: {@link #retries(boolean)} turns all of it off.
 */
public final class TogetherChatBuilder {
    /** The largest answer that is taken, in bytes. */
    public static final int RECEIVE_BYTES_MAX = 64 * 1024 * 1024;

    /** The largest request that is kept for a retry, in bytes. grpc-java's default is 1 MiB. */
    public static final long RETRY_BUFFER_BYTES = 32L * 1024 * 1024;

    /** What all calls of a channel may keep for their retries, in bytes. grpc-java's default is 16 MiB. */
    public static final long CHANNEL_RETRY_BUFFER_BYTES = 4 * RETRY_BUFFER_BYTES;

    /** The largest metadata that is taken, in bytes: what gRPC's C core lets pass at most. */
    public static final int METADATA_BYTES_MAX = 16 * 1024;

    /** After this silence the connection is asked whether it lives. */
    public static final Duration KEEPALIVE = Duration.ofSeconds(30);

    /** After this long without an answer to that it is dead. */
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

    /** Speaks in plain text, keys included: within a mesh that encrypts by itself, for example. */
    public TogetherChatBuilder plaintext() {
        return tls(InsecureChannelCredentials.create());
    }

    /** Speaks over TLS and trusts the JDK's roots. */
    public TogetherChatBuilder tls() {
        return tls(TlsChannelCredentials.create());
    }

    /** Speaks over TLS as told: {@link TlsChannelCredentials#newBuilder()} takes roots and a client's certificate. */
    public TogetherChatBuilder tls(ChannelCredentials credentials) {
        this.credentials = Objects.requireNonNull(credentials, "credentials");
        return this;
    }

    /** The name that the server's certificate must bear, where it is not the target's. */
    public TogetherChatBuilder serverName(String serverName) {
        this.serverName = Objects.requireNonNull(serverName, "serverName");
        return this;
    }

    /**
     * What the service knows this caller by, sent as {@code authorization: Bearer ...}.
     *
     * @throws IllegalArgumentException it has a character that metadata cannot carry
     */
    public TogetherChatBuilder key(String key) {
        this.key = checked(key, "key");
        return this;
    }

    /**
     * The caller's own Together key, where the service takes one.
     *
     * @throws IllegalArgumentException it has a character that metadata cannot carry
     */
    public TogetherChatBuilder upstreamKey(String upstreamKey) {
        this.upstreamKey = checked(upstreamKey, "upstreamKey");
        return this;
    }

    /** The deadline of every call that sets none. Unset: the service config's, 600 s for an answer, 30 s for a list. */
    public TogetherChatBuilder timeout(Duration timeout) {
        this.timeout = Objects.requireNonNull(timeout, "timeout");
        return this;
    }

    /** False for a client that never sends a call twice. */
    public TogetherChatBuilder retries(boolean retries) {
        this.retries = retries;
        return this;
    }

    /** The client. Share it: it is safe for threads, and each has connections of its own. Close it at the end. */
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
            // A proxy for the outside world is no way to this machine.
            channel.proxyDetector(address -> null);
        }
        return channel.build();
    }

    /** The key without the white space around it. The message does not repeat an illegal one. */
    private static String checked(String key, String name) {
        String stripped = Objects.requireNonNull(key, name).strip();
        if (stripped.isEmpty() || !stripped.chars().allMatch(letter -> letter > ' ' && letter < 127)) {
            throw new IllegalArgumentException(name + " is empty or has a character that metadata cannot carry");
        }
        return stripped;
    }
}
