package tests

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

const stalls = "sandbox/stall-after-3"

// upstreamClosed waits until the sandbox has seen the service close the connection.
func upstreamClosed(t *testing.T, requestID string) {
	t.Helper()
	eventually(t, "the service closed the provider connection", func() bool {
		requests := requestLog(t, requestID)
		return len(requests) == 1 && requests[0].Ended == "client_closed"
	})
}

// Breaking out of the range closes the provider connection.
func TestBreakingOutOfTheRangeStopsTheGeneration(t *testing.T) {
	id := fresh(t)
	stream := dial(t).Stream(testContext(t), togetherchat.NewRequest(stalls, "Hi"), togetherchat.WithRequestID(id))
	for _, err := range stream.Text() {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	upstreamClosed(t, id)
	_, err := stream.Recv()
	equal(t, codes.Canceled, failure(t, err).Code)
	equal(t, true, togetherchat.Text(failure(t, err).Partial) != "")
}

// Cancelling the context closes the provider connection, and the error is context.Canceled.
func TestCancellingTheContextStopsTheGeneration(t *testing.T) {
	id := fresh(t)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var ended error
	stream := dial(t).Stream(ctx, togetherchat.NewRequest(stalls, "Hi"), togetherchat.WithRequestID(id))
	for _, err := range stream.Text() {
		if err != nil {
			ended = err
			break
		}
		cancel()
	}
	equal(t, true, errors.Is(ended, context.Canceled))
	equal(t, codes.Canceled, failure(t, ended).Code)
	upstreamClosed(t, id)
}

// Cancelling the context of a unary call closes the provider connection.
func TestCancellingAUnaryCallStopsTheGeneration(t *testing.T) {
	id := fresh(t)
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error, 1)
	client := dial(t)
	go func() {
		_, err := client.Complete(ctx, togetherchat.NewRequest("sandbox/stall", "Hi"), togetherchat.WithRequestID(id))
		ended <- err
	}()
	eventually(t, "the provider has the request", func() bool { return len(requestLog(t, id)) == 1 })
	cancel()
	equal(t, true, errors.Is(<-ended, context.Canceled))
	upstreamClosed(t, id)
}

// An expired deadline is context.DeadlineExceeded, also when the service noticed it first.
func TestADeadlineIsTheContextsError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := dial(t).Stream(ctx, togetherchat.NewRequest(stalls, "Hi")).Collect()
	equal(t, codes.DeadlineExceeded, failure(t, err).Code)
	equal(t, true, errors.Is(err, context.DeadlineExceeded))
}
