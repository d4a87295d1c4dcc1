package togetherchat

import (
	"context"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// CompletionStream is a completion while the model generates it.
//
// A range over [CompletionStream.Events] or [CompletionStream.Text] ends without an error only after
// the last event. Every other end is an [Error] in the last pair, with the partial response in its
// Partial field. Breaking out of the range cancels the call, and the service closes the provider's
// connection.
//
// Use a CompletionStream from one goroutine; only Close may be called from others.
type CompletionStream struct {
	ctx         context.Context
	cancel      context.CancelFunc
	plan        *callPlan
	events      grpc.ServerStreamingClient[togetherchatv1.StreamCompleteResponse]
	accumulator Accumulator
	// How the stream ended: io.EOF after the last event, else an *Error or the error of an option.
	err error
}

// Events ranges over the events as they arrive. Ignore an event in which no known field is set.
func (s *CompletionStream) Events() iter.Seq2[*togetherchatv1.StreamCompleteResponse, error] {
	return func(yield func(*togetherchatv1.StreamCompleteResponse, error) bool) {
		defer s.Close()
		for {
			event, err := s.Recv()
			if err == io.EOF {
				return
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Text ranges over the text deltas of the first choice as they arrive.
func (s *CompletionStream) Text() iter.Seq2[string, error] { return s.TextOf(0) }

// TextOf ranges over the text deltas of one choice as they arrive.
func (s *CompletionStream) TextOf(choiceIndex int32) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for event, err := range s.Events() {
			delta := event.GetDelta()
			if err == nil && (delta.GetText() == "" || delta.GetChoiceIndex() != choiceIndex) {
				continue
			}
			if !yield(delta.GetText(), err) {
				return
			}
		}
	}
}

// Collect reads the stream to its end and returns the whole response.
func (s *CompletionStream) Collect() (*togetherchatv1.CompleteResponse, error) {
	for _, err := range s.Events() {
		if err != nil {
			return nil, err
		}
	}
	return s.Response(), nil
}

// Recv returns the next event, [io.EOF] after the last event, and an [Error] after any other end. Use
// it where a range does not fit.
func (s *CompletionStream) Recv() (*togetherchatv1.StreamCompleteResponse, error) {
	if s.err == nil && s.ctx.Err() == context.Canceled {
		// Events that gRPC has buffered must not be returned after a cancel.
		s.fail(status.FromContextError(s.ctx.Err()).Err(), nil)
	}
	if s.err != nil {
		return nil, s.err
	}
	event, err := s.events.Recv()
	if err != nil {
		s.end(err)
		return nil, s.err
	}
	s.accumulator.Add(event)
	return event, nil
}

// Response returns the response received so far; see [CompletionStream.Whole].
func (s *CompletionStream) Response() *togetherchatv1.CompleteResponse {
	return s.accumulator.Response()
}

// Whole reports whether the last event was received.
func (s *CompletionStream) Whole() bool { return s.accumulator.Whole() }

// Close cancels the call. A reader then gets an [Error] with the code Canceled, unless the stream had
// already ended. Close may be called at any time, from any goroutine, and more than once.
func (s *CompletionStream) Close() { s.cancel() }

func (s *CompletionStream) end(err error) {
	trailer := s.events.Trailer()
	switch {
	case err != io.EOF:
		s.fail(err, trailer)
	case s.accumulator.Whole():
		s.plan.report(trailer)
		s.err = io.EOF
	default:
		s.plan.report(trailer)
		s.err = s.withPartial(incomplete(trailer, s.plan.requestID))
	}
	s.cancel()
}

func (s *CompletionStream) fail(err error, trailer metadata.MD) {
	s.plan.report(trailer)
	s.err = s.withPartial(newError(s.ctx, err, trailer, s.plan.requestID))
}

func (s *CompletionStream) withPartial(failed *Error) *Error {
	if !s.accumulator.Empty() {
		failed.Partial = s.accumulator.Response()
	}
	return failed
}
