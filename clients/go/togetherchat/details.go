package togetherchat

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	errorDomain     = "togetherchat"
	reasonHeader    = "x-error-reason"
	retryableHeader = "x-error-retryable"
)

// details are what the service reports about a failure beside code and message. They arrive in two
// forms: google.rpc messages in the status, and plain-text trailers with the most important facts.
type details struct {
	reason     string
	requestID  string
	retryable  bool
	retryAfter time.Duration
	violations []Violation
	metadata   map[string]string
	resource   string
	helpURLs   []string
	hint       string
}

// readDetails reads the details of a failure. Parts that are missing or cannot be parsed stay empty.
func readDetails(failed *status.Status, trailer metadata.MD) details {
	found := details{
		reason:    first(trailer, reasonHeader),
		requestID: first(trailer, requestIDHeader),
		retryable: first(trailer, retryableHeader) == "true",
	}
	for _, detail := range failed.Details() {
		found.add(detail)
	}
	if row := clientReasonOf(failed); found.reason == "" && row != nil {
		found.reason, found.retryable, found.hint = row.reason, row.retryable, row.hint
	}
	return found
}

func (d *details) add(detail any) {
	switch detail := detail.(type) {
	case *errdetails.ErrorInfo:
		// A proxy may send an ErrorInfo of its own. Only the service's domain counts.
		if detail.GetDomain() == errorDomain {
			d.reason = detail.GetReason()
			d.metadata = detail.GetMetadata()
		}
	case *errdetails.RequestInfo:
		if detail.GetRequestId() != "" {
			d.requestID = detail.GetRequestId()
		}
	case *errdetails.RetryInfo:
		d.retryAfter = detail.GetRetryDelay().AsDuration()
	case *errdetails.ResourceInfo:
		d.resource = detail.GetResourceName()
	case *errdetails.Help:
		for _, link := range detail.GetLinks() {
			d.helpURLs = append(d.helpURLs, link.GetUrl())
		}
	case *errdetails.BadRequest:
		for _, violation := range detail.GetFieldViolations() {
			d.violate(violation.GetField(), violation.GetDescription())
		}
	case *errdetails.QuotaFailure:
		for _, violation := range detail.GetViolations() {
			d.violate(violation.GetSubject(), violation.GetDescription())
		}
	case *errdetails.PreconditionFailure:
		for _, violation := range detail.GetViolations() {
			d.violate(violation.GetSubject(), violation.GetDescription())
		}
	}
}

func (d *details) violate(field, description string) {
	d.violations = append(d.violations, Violation{Field: field, Description: description})
}
