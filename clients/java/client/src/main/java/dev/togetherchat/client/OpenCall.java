package dev.togetherchat.client;

import dev.togetherchat.v1.CompleteResponse;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.CompletableFuture;

/** A call that has not been started, and the translation of its end to a ChatException. */
record OpenCall<Q, R>(ClientCall<Q, R> call, String requestId) {

    /** Waits for the response of a unary call. Interrupting the waiting thread cancels the call. */
    R await(Q request) {
        try {
            return ClientCalls.blockingUnaryCall(call, request);
        } catch (StatusRuntimeException failed) {
            throw failure(failed, null);
        }
    }

    /** Returns a future of the response of a unary call. Cancelling the future cancels the call. */
    CompletableFuture<R> async(Q request) {
        CompletableFuture<R> future = new CompletableFuture<>();
        ClientCalls.asyncUnaryCall(call, request, new StreamObserver<R>() {
            @Override
            public void onNext(R response) {
                future.complete(response);
            }

            @Override
            public void onError(Throwable failed) {
                future.completeExceptionally(failure(failed));
            }

            @Override
            public void onCompleted() {
                // onNext has completed the future.
            }
        });
        future.whenComplete((response, failed) -> {
            if (failed != null) {
                call.cancel("its future was cancelled", null);
            }
        });
        return future;
    }

    /** Starts a stream. The listener gets as many messages as it requests. */
    void stream(Q request, ClientCall.Listener<R> listener) {
        call.start(listener, new Metadata());
        call.sendMessage(request);
        call.halfClose();
    }

    /** Returns the exception of a stream that ended with this status, or null if the response is whole. */
    ChatException failure(Status status, Metadata trailers, Accumulator accumulator) {
        CompleteResponse partial = accumulator.empty() ? null : accumulator.response();
        if (!status.isOk()) {
            return failure(status.asRuntimeException(trailers), partial);
        }
        if (accumulator.whole()) {
            return null;
        }
        ErrorDetails details = ErrorDetails.withoutDetails(ChatException.STREAM_INCOMPLETE, requestId);
        return new ChatException(
                Status.Code.OK, "the stream ended before its last event", details, partial, null);
    }

    /** Returns the exception of a stream whose reader was interrupted. */
    ChatException interrupted(InterruptedException cause, Accumulator accumulator) {
        CompleteResponse partial = accumulator.empty() ? null : accumulator.response();
        ErrorDetails details = ErrorDetails.withoutDetails("", requestId);
        return new ChatException(Status.Code.CANCELLED, "the thread was interrupted", details, partial, cause);
    }

    private ChatException failure(Throwable failed) {
        if (failed instanceof StatusRuntimeException known) {
            return failure(known, null);
        }
        if (failed instanceof StatusException known) {
            return failure(known.getStatus().asRuntimeException(known.getTrailers()), null);
        }
        return failure(Status.fromThrowable(failed).asRuntimeException(), null);
    }

    private ChatException failure(StatusRuntimeException failed, CompleteResponse partial) {
        String description = failed.getStatus().getDescription();
        return new ChatException(
                failed.getStatus().getCode(),
                description == null ? "" : description,
                ErrorDetails.of(failed, requestId),
                partial,
                failed);
    }
}
