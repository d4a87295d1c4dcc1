package togetherchat_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

type eventSender = grpc.ServerStreamingServer[togetherchatv1.StreamCompleteResponse]

// dialed is a client of a scripted service; both end with the test.
func dialed(t *testing.T, service *scripted.Service, options ...togetherchat.Option) *togetherchat.Client {
	t.Helper()
	target, stop := service.Start()
	t.Cleanup(stop)
	client, err := togetherchat.Dial(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// saying is a service that streams these events, and ends with err.
func saying(err error, events ...*togetherchatv1.StreamCompleteResponse) *scripted.Service {
	return &scripted.Service{OnStream: func(_ *togetherchatv1.CompleteRequest, stream eventSender) error {
		for _, event := range events {
			if sent := stream.Send(event); sent != nil {
				return sent
			}
		}
		return err
	}}
}

func failure(t *testing.T, err error) *togetherchat.Error {
	t.Helper()
	var chatErr *togetherchat.Error
	if !errors.As(err, &chatErr) {
		t.Fatalf("expected a *togetherchat.Error, got %v", err)
	}
	return chatErr
}

var whole = []*togetherchatv1.StreamCompleteResponse{
	scripted.Started("chat-1", "m"),
	scripted.Text("Hel"),
	scripted.Unknown(),
	scripted.Piece(&togetherchatv1.Delta{ChoiceIndex: 1, Text: "other"}),
	scripted.Text("lo"),
	scripted.Completed(&togetherchatv1.Completed{Attempts: 1}),
}

// A range over the text gives the first choice's pieces alone, and ends with the answer.
func TestATextIsRangedOverInPieces(t *testing.T) {
	stream := dialed(t, saying(nil, whole...)).Stream(t.Context(), togetherchat.Ask("m", "Hi"))
	var text string
	for piece, err := range stream.Text() {
		if err != nil {
			t.Fatal(err)
		}
		text += piece
	}
	equal(t, "Hello", text)
	equal(t, true, stream.Whole())
	equal(t, "Hello", togetherchat.Text(stream.Response()))
}

// An event of a later version is handed on, and changes nothing in the answer.
func TestUnknownEventsAreTolerated(t *testing.T) {
	stream := dialed(t, saying(nil, whole...)).Stream(t.Context(), togetherchat.Ask("m", "Hi"))
	events := 0
	for _, err := range stream.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events++
	}
	equal(t, len(whole), events)
	same(t, fold(whole...), stream.Response())
}

// After the last event of a whole answer Recv says io.EOF, as often as it is asked.
func TestTheEndOfAWholeAnswerIsEOF(t *testing.T) {
	stream := dialed(t, saying(nil, whole...)).Stream(t.Context(), togetherchat.Ask("m", "Hi"))
	if _, err := stream.Collect(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := stream.Recv()
		equal(t, io.EOF, err)
	}
}

// A stream that breaks is an error that keeps what came.
func TestABrokenStreamKeepsWhatCame(t *testing.T) {
	broken := scripted.Failure(codes.Unavailable, togetherchat.ReasonUpstreamTruncated, "cut short")
	client := dialed(t, saying(broken, scripted.Started("chat-1", "m"), scripted.Text("Hel")))
	answer, err := client.Stream(t.Context(), togetherchat.Ask("m", "Hi")).Collect()
	equal(t, nil, answer)
	equal(t, togetherchat.ReasonUpstreamTruncated, failure(t, err).Reason)
	same(t, fold(scripted.Started("chat-1", "m"), scripted.Text("Hel")), failure(t, err).Partial)
}

// A failure before the first event has no partial answer.
func TestAStreamThatNeverBeganHasNoPartialAnswer(t *testing.T) {
	refused := scripted.Failure(codes.InvalidArgument, togetherchat.ReasonInvalidRequest, "no")
	_, err := dialed(t, saying(refused)).Stream(t.Context(), togetherchat.Ask("m", "Hi")).Collect()
	equal(t, nil, failure(t, err).Partial)
}

// An OK without the last event is no whole answer, and no code that reads as a success.
func TestAnEndWithoutTheLastEventIsAnError(t *testing.T) {
	client := dialed(t, saying(nil, scripted.Started("chat-1", "m"), scripted.Text("Hel")))
	_, err := client.Stream(t.Context(), togetherchat.Ask("m", "Hi")).Collect()
	equal(t, togetherchat.ReasonStreamIncomplete, failure(t, err).Reason)
	equal(t, codes.Internal, status.Code(err))
	equal(t, "Hel", togetherchat.Text(failure(t, err).Partial))
}

// endless sends pieces until its caller has gone, and then closes gone.
func endless(gone chan<- struct{}) *scripted.Service {
	return &scripted.Service{OnStream: func(_ *togetherchatv1.CompleteRequest, stream eventSender) error {
		defer close(gone)
		for {
			if err := stream.Send(scripted.Text("word ")); err != nil {
				return err
			}
		}
	}}
}

// Leaving a range lets go of the call, and nothing of what was still on its way comes after it.
func TestLeavingARangeEndsTheCall(t *testing.T) {
	gone := make(chan struct{})
	stream := dialed(t, endless(gone)).Stream(t.Context(), togetherchat.Ask("m", "Hi"))
	for range stream.Text() {
		break
	}
	<-gone
	_, err := stream.Recv()
	equal(t, codes.Canceled, failure(t, err).Code)
	equal(t, "word ", togetherchat.Text(failure(t, err).Partial))
}

// Close may be called while another goroutine reads.
func TestCloseEndsAReaderElsewhere(t *testing.T) {
	stream := dialed(t, endless(make(chan struct{}))).Stream(t.Context(), togetherchat.Ask("m", "Hi"))
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Collect()
		ended <- err
	}()
	stream.Close()
	equal(t, codes.Canceled, failure(t, <-ended).Code)
}

// The context's own error and its cause are found in the failure.
func TestTheCauseOfACancelIsKept(t *testing.T) {
	reason := errors.New("the user closed the window")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ended error
	for _, err := range dialed(t, endless(make(chan struct{}))).Stream(ctx, togetherchat.Ask("m", "Hi")).Events() {
		cancel(reason)
		ended = err
	}
	equal(t, true, errors.Is(ended, context.Canceled))
	equal(t, true, errors.Is(ended, reason))
}

// A context that has ended before makes no call, and the error is typed as any other.
func TestAContextThatHasEndedIsATypedError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := dialed(t, saying(nil, whole...)).Stream(ctx, togetherchat.Ask("m", "Hi")).Collect()
	equal(t, codes.Canceled, failure(t, err).Code)
	equal(t, true, errors.Is(err, context.Canceled))
}
