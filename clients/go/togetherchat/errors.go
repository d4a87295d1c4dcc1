package togetherchat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// Error is how every call fails.
//
//	var chatErr *togetherchat.Error
//	if errors.As(err, &chatErr) && chatErr.Retryable {
//		time.Sleep(chatErr.RetryAfter)
//	}
//
// [errors.Is] finds [context.Canceled] and [context.DeadlineExceeded] in it where the caller's own
// context ended the call, and gRPC's status package reads it as it reads its own errors.
type Error struct {
	// Code is gRPC's. A stream that ended well, but without the end of the answer, is Internal here.
	Code codes.Code
	// Reason is the service's own, finer word: one of the Reason constants, or a newer one. Empty
	// where the service did not get to say one, as when the connection was lost.
	Reason string
	// Message is one sentence for people. Never decide by it.
	Message string
	// RequestID is the call's id in the records of the service.
	RequestID string
	// Retryable says that the service expects the same call to succeed later. It is false where
	// the service did not get to say anything: such a call may have been answered, and billed.
	Retryable bool
	// RetryAfter is the wait that the service or the provider asked for; zero where nobody did.
	RetryAfter time.Duration
	// Violations are everything that is wrong with the request, or the limits that were met.
	Violations []Violation
	// Metadata are facts such as `upstreamHttpStatus`, `upstreamErrorCode`, `model`, `phase` and
	// `partialOutput`.
	Metadata map[string]string
	// HelpURLs are pages that say what to do.
	HelpURLs []string
	// Info are the call's ids, rate limits and trailers.
	Info CallInfo
	// Partial is what a stream gave before it broke; nil where it gave nothing.
	Partial *togetherchatv1.CompleteResponse

	status *status.Status
	causes []error
}

// A Violation is one thing wrong: Field is a path such as `messages[2].content[0].text`, or the
// subject of a limit.
type Violation struct {
	Field       string
	Description string
}

// Error says reason, message and id in one line.
func (e *Error) Error() string {
	word := e.Reason
	if word == "" {
		word = e.Code.String()
	}
	return fmt.Sprintf("togetherchat: %s: %s (request %s)", word, e.Message, e.RequestID)
}

// Unwrap gives the context's error, where the context ended the call.
func (e *Error) Unwrap() []error { return e.causes }

// GRPCStatus lets [status.FromError] and [status.Code] read it.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// newError reads everything that is known of a call that failed with err.
func newError(ctx context.Context, err error, trailer metadata.MD, sentID string) *Error {
	failed := status.Convert(err)
	told := readDetails(failed, trailer)
	info := readCallInfo(trailer, sentID)
	if told.requestID == "" {
		told.requestID = info.RequestID
	}
	return &Error{
		Code:       failed.Code(),
		Reason:     told.reason,
		Message:    failed.Message(),
		RequestID:  told.requestID,
		Retryable:  told.retryable,
		RetryAfter: told.retryAfter,
		Violations: told.violations,
		Metadata:   told.metadata,
		HelpURLs:   told.helpURLs,
		Info:       info,
		status:     failed,
		causes:     causesOf(ctx, failed.Code(), told.reason),
	}
}

// incomplete is the error of a stream that gRPC calls a success although its last event never came.
func incomplete(trailer metadata.MD, sentID string) *Error {
	info := readCallInfo(trailer, sentID)
	ended := status.New(codes.Internal, "the stream ended without the end of the answer")
	return &Error{
		Code:      ended.Code(),
		Reason:    ReasonStreamIncomplete,
		Message:   ended.Message(),
		RequestID: info.RequestID,
		Info:      info,
		status:    ended,
	}
}

// causesOf finds the context's part in a failure. The service answers a little before the caller's
// deadline, so that the context may not have ended yet when its deadline is the reason.
func causesOf(ctx context.Context, code codes.Code, reason string) []error {
	switch {
	case code == codes.Canceled && ctx.Err() != nil:
		return withCause(ctx, context.Canceled)
	case code == codes.DeadlineExceeded && (reason == "" || reason == ReasonCallerDeadline):
		return withCause(ctx, context.DeadlineExceeded)
	default:
		return nil
	}
}

func withCause(ctx context.Context, err error) []error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, err) {
		return []error{err, cause}
	}
	return []error{err}
}
