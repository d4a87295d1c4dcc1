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

// dialScripted returns a client of a scripted service; both are closed at the end of the test.
func dialScripted(t *testing.T, service *scripted.Service, options ...togetherchat.Option) *togetherchat.Client {
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

// streaming returns a service that streams these events and then fails with err, if any.
func streaming(err error, events ...*togetherchatv1.StreamCompleteResponse) *scripted.Service {
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
	scripted.Delta(&togetherchatv1.Delta{ChoiceIndex: 1, Text: "other"}),
	scripted.Text("lo"),
	scripted.Completed(&togetherchatv1.Completed{Attempts: 1}),
}

// A range over Text yields only the first choice's deltas, and the response is then whole.
func TestTextYieldsTheDeltasOfTheFirstChoice(t *testing.T) {
	stream := dialScripted(t, streaming(nil, whole...)).Stream(t.Context(), togetherchat.NewRequest("m", "Hi"))
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

// An unknown event of a later version is yielded and does not change the response.
func TestUnknownEventsAreYieldedAndIgnored(t *testing.T) {
	stream := dialScripted(t, streaming(nil, whole...)).Stream(t.Context(), togetherchat.NewRequest("m", "Hi"))
	events := 0
	for _, err := range stream.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events++
	}
	equal(t, len(whole), events)
	same(t, accumulate(whole...), stream.Response())
}

// After the last event Recv returns io.EOF on every call.
func TestRecvReturnsEOFAfterTheLastEvent(t *testing.T) {
	stream := dialScripted(t, streaming(nil, whole...)).Stream(t.Context(), togetherchat.NewRequest("m", "Hi"))
	if _, err := stream.Collect(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := stream.Recv()
		equal(t, io.EOF, err)
	}
}

// The error of a broken stream contains the partial response.
func TestABrokenStreamKeepsThePartialResponse(t *testing.T) {
	broken := scripted.Failure(codes.Unavailable, togetherchat.ReasonUpstreamTruncated, "cut short")
	client := dialScripted(t, streaming(broken, scripted.Started("chat-1", "m"), scripted.Text("Hel")))
	response, err := client.Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
	equal(t, nil, response)
	equal(t, togetherchat.ReasonUpstreamTruncated, failure(t, err).Reason)
	same(t, accumulate(scripted.Started("chat-1", "m"), scripted.Text("Hel")), failure(t, err).Partial)
}

// An error before the first event has no partial response.
func TestAnErrorBeforeTheFirstEventHasNoPartialResponse(t *testing.T) {
	rejected := scripted.Failure(codes.InvalidArgument, togetherchat.ReasonInvalidRequest, "no")
	_, err := dialScripted(t, streaming(rejected)).Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
	equal(t, nil, failure(t, err).Partial)
}

// OK without the last event is an error, and its code is not OK.
func TestAnEndWithoutTheLastEventIsAnError(t *testing.T) {
	client := dialScripted(t, streaming(nil, scripted.Started("chat-1", "m"), scripted.Text("Hel")))
	_, err := client.Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
	equal(t, togetherchat.ReasonStreamIncomplete, failure(t, err).Reason)
	equal(t, codes.Internal, status.Code(err))
	equal(t, "Hel", togetherchat.Text(failure(t, err).Partial))
}

// endless sends deltas until the call is cancelled, and then closes gone.
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

// Breaking out of a range cancels the call, and events in transit are not returned afterwards.
func TestBreakingOutOfARangeCancelsTheCall(t *testing.T) {
	gone := make(chan struct{})
	stream := dialScripted(t, endless(gone)).Stream(t.Context(), togetherchat.NewRequest("m", "Hi"))
	for range stream.Text() {
		break
	}
	<-gone
	_, err := stream.Recv()
	equal(t, codes.Canceled, failure(t, err).Code)
	equal(t, "word ", togetherchat.Text(failure(t, err).Partial))
}

// Close cancels the call while another goroutine reads.
func TestCloseCancelsAReaderInAnotherGoroutine(t *testing.T) {
	stream := dialScripted(t, endless(make(chan struct{}))).Stream(t.Context(), togetherchat.NewRequest("m", "Hi"))
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Collect()
		ended <- err
	}()
	stream.Close()
	equal(t, codes.Canceled, failure(t, <-ended).Code)
}

// errors.Is finds the context's error and its cause in the error of the call.
func TestTheCauseOfACancelIsKept(t *testing.T) {
	reason := errors.New("the user closed the window")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var ended error
	client := dialScripted(t, endless(make(chan struct{})))
	for _, err := range client.Stream(ctx, togetherchat.NewRequest("m", "Hi")).Events() {
		cancel(reason)
		ended = err
	}
	equal(t, true, errors.Is(ended, context.Canceled))
	equal(t, true, errors.Is(ended, reason))
}

// A context that has already ended makes the call fail with the same error type.
func TestAContextThatHasEndedIsATypedError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := dialScripted(t, streaming(nil, whole...)).Stream(ctx, togetherchat.NewRequest("m", "Hi")).Collect()
	equal(t, codes.Canceled, failure(t, err).Code)
	equal(t, true, errors.Is(err, context.Canceled))
}
