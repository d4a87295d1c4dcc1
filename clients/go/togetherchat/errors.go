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

// ReasonStreamIncomplete is a reason that this package sets itself: a stream ended with OK but without
// its last event.
const ReasonStreamIncomplete = "STREAM_INCOMPLETE"

// Error is the error of every failed call.
//
//	var chatErr *togetherchat.Error
//	if errors.As(err, &chatErr) && chatErr.Retryable {
//		time.Sleep(chatErr.RetryAfter)
//	}
//
// [errors.Is] finds [context.Canceled] and [context.DeadlineExceeded] in an Error when the caller's
// context ended the call. gRPC's status package reads an Error like one of its own.
type Error struct {
	// Code is the gRPC status code. Internal if a stream ended with OK but without its last event.
	Code codes.Code
	// Reason is the service's reason, finer than the code: one of the Reason constants, or one of a
	// later version. If the service sent none, one of the client's reasons, such as ReasonNotConnected,
	// or empty.
	Reason string
	// Message is one sentence for people. Never branch on it.
	Message string
	// Hint is one sentence about what to check, if the reason is the client's. Else empty.
	Hint string
	// RequestID is the id of the call in the service's log.
	RequestID string
	// Retryable is true if the same call may succeed later. After a lost connection (ReasonNotConnected)
	// the first attempt may have been completed and billed.
	Retryable bool
	// RetryAfter is the wait that the service or the provider requested; zero if there is none.
	RetryAfter time.Duration
	// Violations are all that is wrong with the request, or the limits that were reached.
	Violations []Violation
	// Metadata holds facts such as `upstreamHttpStatus`, `upstreamErrorCode`, `model`, `phase` and
	// `partialOutput`.
	Metadata map[string]string
	// ResourceName names the resource that the failure is about: the model if Reason is
	// ReasonModelNotFound or ReasonModelNotAllowed. Empty if there is none.
	ResourceName string
	// HelpURLs are pages that explain how to fix the failure.
	HelpURLs []string
	// Info holds the call's ids, rate limits and trailers.
	Info CallInfo
	// Partial is what a stream received before it failed; nil if nothing was received.
	Partial *togetherchatv1.CompleteResponse

	status *status.Status
	causes []error
}

// A Violation is one error in the request or one limit that was reached. Field is a path such as
// `messages[2].content[0].text`, or the subject of the limit.
type Violation struct {
	Field       string
	Description string
}

// Error returns reason, message and request id in one line.
func (e *Error) Error() string {
	word := e.Reason
	if word == "" {
		word = e.Code.String()
	}
	return fmt.Sprintf("togetherchat: %s: %s (request %s)", word, e.Message, e.RequestID)
}

// Unwrap returns the context's error and its cause if the context ended the call.
func (e *Error) Unwrap() []error { return e.causes }

// GRPCStatus returns the gRPC status, for [status.FromError] and [status.Code].
func (e *Error) GRPCStatus() *status.Status { return e.status }

// newError builds the Error of a call that failed with err.
func newError(ctx context.Context, err error, trailer metadata.MD, sentID string) *Error {
	failed := status.Convert(err)
	details := readDetails(failed, trailer)
	info := readCallInfo(trailer, sentID)
	if details.requestID == "" {
		details.requestID = info.RequestID
	}
	return &Error{
		Code:         failed.Code(),
		Reason:       details.reason,
		Message:      failed.Message(),
		RequestID:    details.requestID,
		Retryable:    details.retryable,
		Hint:         details.hint,
		RetryAfter:   details.retryAfter,
		Violations:   details.violations,
		Metadata:     details.metadata,
		ResourceName: details.resource,
		HelpURLs:     details.helpURLs,
		Info:         info,
		status:       failed,
		causes:       causesOf(ctx, failed.Code(), details.reason),
	}
}

// incomplete is the error of a stream that ended with OK but without its last event.
func incomplete(trailer metadata.MD, sentID string) *Error {
	info := readCallInfo(trailer, sentID)
	ended := status.New(codes.Internal, "the stream ended before its last event")
	return &Error{
		Code:      ended.Code(),
		Reason:    ReasonStreamIncomplete,
		Message:   ended.Message(),
		RequestID: info.RequestID,
		Info:      info,
		status:    ended,
	}
}

// causesOf returns the context's errors if the context ended the call. The service replies slightly
// before the caller's deadline, so the context may not have expired yet when the reason is its deadline.
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
