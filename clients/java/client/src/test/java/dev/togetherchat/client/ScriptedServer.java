package dev.togetherchat.client;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.rpc.Status;
import dev.togetherchat.v1.ChatServiceGrpc;
import dev.togetherchat.v1.CompleteRequest;
import dev.togetherchat.v1.CompleteResponse;
import dev.togetherchat.v1.ListModelsRequest;
import dev.togetherchat.v1.ListModelsResponse;
import dev.togetherchat.v1.StreamCompleteResponse;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Function;

/** A fake service on loopback whose responses are functions of the test. It records the metadata of the calls. */
final class ScriptedServer implements AutoCloseable {
    final List<Metadata> calls = new CopyOnWriteArrayList<>();
    final List<Deadline> deadlines = new CopyOnWriteArrayList<>();
    final CountDownLatch cancelled = new CountDownLatch(1);
    final HealthStatusManager health = new HealthStatusManager();
    final List<Metadata> watches = new CopyOnWriteArrayList<>();
    volatile Function<Metadata, Watch> watch = metadata -> Watch.ANSWERED;
    volatile Function<Integer, CompleteResponse> complete = attempt -> CompleteResponse.getDefaultInstance();
    volatile BiConsumer<Integer, StreamObserver<StreamCompleteResponse>> stream = (attempt, out) -> out.onCompleted();
    volatile Function<ListModelsRequest, ListModelsResponse> list = page -> ListModelsResponse.getDefaultInstance();
    private final Server server;
    private final int port;

    ScriptedServer() {
        this(0);
    }

    /** A server at a port that an earlier one had. */
    ScriptedServer(int port) {
        health.setStatus(TogetherChat.SERVICE, ServingStatus.SERVING);
        try {
            server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
                    .maxInboundMessageSize(64 * 1024 * 1024)
                    // As the real service does; by default grpc-java closes a connection with a ping every 30 s.
                    .permitKeepAliveTime(10, TimeUnit.SECONDS)
                    .intercept(new MetadataRecorder())
                    .addService(new Service())
                    .addService(health.getHealthService())
                    .build()
                    .start();
        } catch (IOException taken) {
            throw new UncheckedIOException(taken);
        }
        // A stopped server has no port.
        this.port = server.getPort();
    }

    String address() {
        return "127.0.0.1:" + port;
    }

    int port() {
        return port;
    }

    TogetherChat client() {
        return TogetherChat.connect(address());
    }

    /** Returns the value of a metadata key that a call sent. */
    String sent(int call, String name) {
        return calls.get(call).get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
    }

    @Override
    public void close() {
        server.shutdownNow();
    }

    /** A failure with grpc-retry-pushback-ms. */
    static StatusRuntimeException pushback(io.grpc.Status status, String ms) {
        Metadata trailers = new Metadata();
        trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), ms);
        return status.asRuntimeException(trailers);
    }

    /** A failure with details and more trailers, given as name and value. */
    static StatusRuntimeException detailed(io.grpc.Status status, List<Message> details, String... pairs) {
        Status.Builder packed = Status.newBuilder().setCode(status.getCode().value());
        details.forEach(detail -> packed.addDetails(Any.pack(detail)));
        Metadata trailers = new Metadata();
        trailers.put(
                Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER),
                packed.build().toByteArray());
        for (int index = 0; index < pairs.length; index += 2) {
            trailers.put(Metadata.Key.of(pairs[index], Metadata.ASCII_STRING_MARSHALLER), pairs[index + 1]);
        }
        return status.asRuntimeException(trailers);
    }

    /** What happens to a health watch. */
    enum Watch {
        ANSWERED,
        SILENT,
        REJECTED
    }

    private final class MetadataRecorder implements ServerInterceptor {
        @Override
        public <Q, R> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, R> call, Metadata metadata, ServerCallHandler<Q, R> next) {
            if (call.getMethodDescriptor().getServiceName().equals(ChatServiceGrpc.SERVICE_NAME)) {
                deadlines.add(Context.current().getDeadline());
                calls.add(metadata);
            }
            if (call.getMethodDescriptor().getFullMethodName().equals("grpc.health.v1.Health/Watch")) {
                watches.add(metadata);
                Watch wanted = watch.apply(metadata);
                if (wanted == Watch.REJECTED) {
                    call.close(io.grpc.Status.UNAUTHENTICATED, new Metadata());
                }
                if (wanted != Watch.ANSWERED) {
                    return new ServerCall.Listener<>() {};
                }
            }
            return next.startCall(call, metadata);
        }
    }

    private final class Service extends ChatServiceGrpc.ChatServiceImplBase {
        @Override
        public void complete(CompleteRequest request, StreamObserver<CompleteResponse> out) {
            countCancel(out);
            try {
                CompleteResponse response = complete.apply(calls.size());
                if (response != null) {
                    out.onNext(response);
                    out.onCompleted();
                }
            } catch (StatusRuntimeException failure) {
                out.onError(failure);
            }
        }

        @Override
        public void streamComplete(CompleteRequest request, StreamObserver<StreamCompleteResponse> out) {
            countCancel(out);
            stream.accept(calls.size(), out);
        }

        @Override
        public void listModels(ListModelsRequest request, StreamObserver<ListModelsResponse> out) {
            out.onNext(list.apply(request));
            out.onCompleted();
        }

        private <R> void countCancel(StreamObserver<R> out) {
            ((ServerCallStreamObserver<R>) out).setOnCancelHandler(cancelled::countDown);
        }
    }
}
