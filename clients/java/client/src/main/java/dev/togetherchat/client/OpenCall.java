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

/** One call that is about to be made, and how its end becomes a ChatException. */
record OpenCall<Q, R>(ClientCall<Q, R> call, String requestId) {

    /** Waits for the one answer. A thread that is interrupted meanwhile cancels the call. */
    R await(Q request) {
        try {
            return ClientCalls.blockingUnaryCall(call, request);
        } catch (StatusRuntimeException failed) {
            throw failure(failed, null);
        }
    }

    /** The one answer in future. To cancel the future is to cancel the call. */
    CompletableFuture<R> later(Q request) {
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
                // A unary call completes after its one message.
            }
        });
        future.whenComplete((response, failed) -> {
            if (failed != null) {
                call.cancel("its future was cancelled", null);
            }
        });
        return future;
    }

    /** Starts a stream. Messages come as they are requested. */
    void stream(Q request, ClientCall.Listener<R> listener) {
        call.start(listener, new Metadata());
        call.sendMessage(request);
        call.halfClose();
    }

    /** The exception of a stream that ended so; null where its answer is whole. */
    ChatException failure(Status status, Metadata trailers, AnswerFold fold) {
        CompleteResponse partial = fold.empty() ? null : fold.response();
        if (!status.isOk()) {
            return failure(status.asRuntimeException(trailers), partial);
        }
        if (fold.whole()) {
            return null;
        }
        ErrorDetails details = ErrorDetails.unexplained(ChatException.STREAM_INCOMPLETE, requestId);
        return new ChatException(
                Status.Code.OK, "the stream ended without the end of the answer", details, partial, null);
    }

    /** The exception of a stream whose reader was interrupted. */
    ChatException interrupted(InterruptedException cause, AnswerFold fold) {
        CompleteResponse partial = fold.empty() ? null : fold.response();
        ErrorDetails details = ErrorDetails.unexplained("", requestId);
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
