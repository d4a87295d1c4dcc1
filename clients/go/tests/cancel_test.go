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

// upstreamClosed waits until the simulator has seen its client hang up.
func upstreamClosed(t *testing.T, requestID string) {
	t.Helper()
	eventually(t, "the provider's client closed", func() bool {
		requests := ledger(t, requestID)
		return len(requests) == 1 && requests[0].Ended == "client_closed"
	})
}

// Leaving the range is enough: the provider stops generating.
func TestLeavingTheRangeEndsTheGeneration(t *testing.T) {
	id := fresh(t)
	stream := dial(t).Stream(patient(t), togetherchat.Ask(stalls, "Hi"), togetherchat.WithRequestID(id))
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

// Ending the context ends the generation, and the error is the context's as well.
func TestEndingTheContextEndsTheGeneration(t *testing.T) {
	id := fresh(t)
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	var ended error
	for _, err := range dial(t).Stream(ctx, togetherchat.Ask(stalls, "Hi"), togetherchat.WithRequestID(id)).Text() {
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

// A call that waits for its answer lets go of the provider in the same way.
func TestEndingTheContextOfAUnaryCallEndsTheGeneration(t *testing.T) {
	id := fresh(t)
	ctx, cancel := context.WithCancel(patient(t))
	ended := make(chan error, 1)
	client := dial(t)
	go func() {
		_, err := client.Complete(ctx, togetherchat.Ask("sandbox/stall", "Hi"), togetherchat.WithRequestID(id))
		ended <- err
	}()
	eventually(t, "the provider was asked", func() bool { return len(ledger(t, id)) == 1 })
	cancel()
	equal(t, true, errors.Is(<-ended, context.Canceled))
	upstreamClosed(t, id)
}

// A deadline is the context's error too, whoever noticed it first: the service or the client.
func TestADeadlineIsTheContextsError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := dial(t).Stream(ctx, togetherchat.Ask(stalls, "Hi")).Collect()
	equal(t, codes.DeadlineExceeded, failure(t, err).Code)
	equal(t, true, errors.Is(err, context.DeadlineExceeded))
}
