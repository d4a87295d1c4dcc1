package togetherchat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// failing returns the error of a call that the service failed with err and these trailers.
func failing(t *testing.T, err error, trailer metadata.MD) error {
	t.Helper()
	service := &scripted.Service{OnComplete: func(
		ctx context.Context, _ *togetherchatv1.CompleteRequest,
	) (*togetherchatv1.CompleteResponse, error) {
		if sent := grpc.SetTrailer(ctx, trailer); sent != nil {
			return nil, sent
		}
		return nil, err
	}}
	client := dialScripted(t, service, togetherchat.WithoutRetries())
	_, failed := client.Complete(t.Context(), togetherchat.NewRequest("m", "Hi"), togetherchat.WithRequestID("mine"))
	return failed
}

// Every detail of a failure has a field.
func TestEveryDetailHasItsField(t *testing.T) {
	failed := failing(t, scripted.Failure(codes.ResourceExhausted, togetherchat.ReasonRateLimited, "slow down",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
			{Subject: "requests", Description: "600 a minute"},
		}},
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Subject: "account", Description: "limit reached"},
		}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "n", Description: "too many"},
		}},
		&errdetails.Help{Links: []*errdetails.Help_Link{{Url: "https://docs.together.ai/docs/rate-limits"}}},
		&errdetails.RequestInfo{RequestId: "theirs"},
		&errdetails.ResourceInfo{ResourceType: "model", ResourceName: "a/b"},
	), metadata.Pairs("x-error-retryable", "true", "x-ratelimit-reset", "1", "x-upstream", "sandbox"))
	chatErr := failure(t, failed)
	equal(t, codes.ResourceExhausted, chatErr.Code)
	equal(t, togetherchat.ReasonRateLimited, chatErr.Reason)
	equal(t, "slow down", chatErr.Message)
	equal(t, "theirs", chatErr.RequestID)
	equal(t, true, chatErr.Retryable)
	equal(t, 1500*time.Millisecond, chatErr.RetryAfter)
	equal(t, "[{requests 600 a minute} {account limit reached} {n too many}]", fmt.Sprint(chatErr.Violations))
	equal(t, "a/b", chatErr.ResourceName)
	equal(t, "[https://docs.together.ai/docs/rate-limits]", fmt.Sprint(chatErr.HelpURLs))
	equal(t, "1", chatErr.Info.RateLimits["x-ratelimit-reset"])
	equal(t, "sandbox", chatErr.Info.Upstream)
}

// An ErrorInfo with another domain, such as a proxy's, is ignored.
func TestAnErrorInfoOfAnotherDomainIsIgnored(t *testing.T) {
	foreign, err := status.New(codes.ResourceExhausted, "no").WithDetails(
		&errdetails.ErrorInfo{Domain: "proxy.example", Reason: "MODEL_NOT_FOUND", Metadata: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	chatErr := failure(t, failing(t, foreign.Err(), nil))
	equal(t, "", chatErr.Reason)
	equal(t, 0, len(chatErr.Metadata))
}

// Without details in the status, reason and retryability are read from the plain-text trailers.
func TestPlainTextTrailersReplaceMissingDetails(t *testing.T) {
	failed := failing(t, status.Error(codes.Unavailable, "busy"),
		metadata.Pairs("x-error-reason", "OVERLOADED", "x-error-retryable", "true", "x-request-id", "theirs"))
	chatErr := failure(t, failed)
	equal(t, togetherchat.ReasonOverloaded, chatErr.Reason)
	equal(t, true, chatErr.Retryable)
	equal(t, "theirs", chatErr.RequestID)
}

// The text of a message never sets a reason.
func TestTheTextOfAMessageIsNotParsed(t *testing.T) {
	chatErr := failure(t, failing(t, status.Error(codes.InvalidArgument, "QUOTA_EXHAUSTED rate limit"), nil))
	equal(t, "", chatErr.Reason)
	equal(t, false, chatErr.Retryable)
	equal(t, time.Duration(0), chatErr.RetryAfter)
}

// Error returns one line with reason, message and request id.
func TestAnErrorIsOneLineWithReasonMessageAndID(t *testing.T) {
	failed := failing(t, scripted.Failure(codes.Unavailable, togetherchat.ReasonOverloaded, "busy"), nil)
	equal(t, "togetherchat: OVERLOADED: busy (request mine)", failed.Error())
}

// gRPC's status helpers read the error, also when it is wrapped.
func TestGRPCHelpersReadTheError(t *testing.T) {
	failed := failing(t, scripted.Failure(codes.Unavailable, togetherchat.ReasonOverloaded, "busy"), nil)
	equal(t, codes.Unavailable, status.Code(fmt.Errorf("wrapped: %w", failed)))
	equal(t, 1, len(status.Convert(failed).Details()))
}

// An expired deadline is context.DeadlineExceeded, also when the service noticed it first.
func TestADeadlineIsTheContextsError(t *testing.T) {
	noticed := scripted.Failure(codes.DeadlineExceeded, togetherchat.ReasonCallerDeadline, "time is up")
	equal(t, true, errors.Is(failing(t, noticed, nil), context.DeadlineExceeded))
	upstream := scripted.Failure(codes.DeadlineExceeded, togetherchat.ReasonFirstTokenTimeout, "too slow")
	equal(t, false, errors.Is(failing(t, upstream, nil), context.DeadlineExceeded))
}

// A cancel by the service is not context.Canceled.
func TestACancelByTheServiceIsNotTheContexts(t *testing.T) {
	stalled := scripted.Failure(codes.Canceled, togetherchat.ReasonCallerStalled, "nobody reads")
	equal(t, false, errors.Is(failing(t, stalled, nil), context.Canceled))
}

// An unreachable service is UNAVAILABLE at once, with the client's reason; the call may be made again.
func TestAnUnreachableServiceIsUnavailable(t *testing.T) {
	target, stop := (&scripted.Service{}).Start()
	stop()
	client, err := togetherchat.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, failed := client.Complete(t.Context(), togetherchat.NewRequest("m", "Hi"))
	chatErr := failure(t, failed)
	equal(t, codes.Unavailable, chatErr.Code)
	equal(t, togetherchat.ReasonNotConnected, chatErr.Reason)
	equal(t, true, chatErr.Retryable)
	equal(t, true, strings.HasPrefix(chatErr.Hint, "the service was not reached"))
	equal(t, 32, len(chatErr.RequestID))
}

// No error and no option prints a key.
func TestAKeyIsNeverPrinted(t *testing.T) {
	const key = "tk-4f9a\n0011"
	option := togetherchat.WithKey(key)
	_, err := togetherchat.Dial("localhost:1", option)
	if err == nil {
		t.Fatal("a key with a line break was accepted")
	}
	for _, printed := range []string{err.Error(), fmt.Sprintf("%v %+v %#v", option, option, option)} {
		equal(t, false, strings.Contains(printed, "4f9a"))
	}
}
