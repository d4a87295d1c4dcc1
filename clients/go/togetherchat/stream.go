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

// Stream is one answer while it is made.
//
// A range over [Stream.Events] or [Stream.Text] ends by itself only when the answer is whole; every
// other end is an [Error], in the last pair, with what had come in its Partial. Leaving the range
// early ends the call, and the service stops asking the provider for more.
//
// A Stream is for one goroutine, except for Close.
type Stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	plan   *callPlan
	events grpc.ServerStreamingClient[togetherchatv1.StreamCompleteResponse]
	fold   Accumulator
	// How it ended: io.EOF when the answer is whole, else an *Error or what was wrong with an option.
	err error
}

// Events ranges over the events as they come. Ignore one that has none of the known fields set.
func (s *Stream) Events() iter.Seq2[*togetherchatv1.StreamCompleteResponse, error] {
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

// Text ranges over the pieces of the first choice's text as they come.
func (s *Stream) Text() iter.Seq2[string, error] { return s.TextOf(0) }

// TextOf ranges over the pieces of one choice's text as they come.
func (s *Stream) TextOf(choiceIndex int32) iter.Seq2[string, error] {
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

// Collect reads what is left, and returns the whole answer.
func (s *Stream) Collect() (*togetherchatv1.CompleteResponse, error) {
	for _, err := range s.Events() {
		if err != nil {
			return nil, err
		}
	}
	return s.Response(), nil
}

// Recv returns the next event, [io.EOF] after the last one of a whole answer, and an [Error] after
// any other end. It is for who cannot range.
func (s *Stream) Recv() (*togetherchatv1.StreamCompleteResponse, error) {
	if s.err == nil && s.ctx.Err() == context.Canceled {
		// What gRPC still has in its buffer came too late.
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
	s.fold.Add(event)
	return event, nil
}

// Response is the answer as far as it has come; see [Stream.Whole].
func (s *Stream) Response() *togetherchatv1.CompleteResponse { return s.fold.Response() }

// Whole says whether the end of the answer came.
func (s *Stream) Whole() bool { return s.fold.Whole() }

// Close ends the call. Whoever reads on gets an [Error] with the code Canceled, unless the stream
// had ended before. It may be called at any time, from any goroutine, and more than once.
func (s *Stream) Close() { s.cancel() }

func (s *Stream) end(err error) {
	trailer := s.events.Trailer()
	switch {
	case err != io.EOF:
		s.fail(err, trailer)
	case s.fold.Whole():
		s.plan.report(trailer)
		s.err = io.EOF
	default:
		s.plan.report(trailer)
		s.err = s.withPartial(incomplete(trailer, s.plan.requestID))
	}
	s.cancel()
}

func (s *Stream) fail(err error, trailer metadata.MD) {
	s.plan.report(trailer)
	s.err = s.withPartial(newError(s.ctx, err, trailer, s.plan.requestID))
}

func (s *Stream) withPartial(failed *Error) *Error {
	if !s.fold.Empty() {
		failed.Partial = s.fold.Response()
	}
	return failed
}
