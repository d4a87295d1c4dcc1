package main

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

// observation is what the actor observed of one case: the protocol of clients/conformance/README.md.
type observation struct {
	ID            string            `json:"id"`
	Code          string            `json:"code"`
	Reason        string            `json:"reason"`
	Message       string            `json:"message"`
	Retryable     bool              `json:"retryable"`
	RetryAfterMS  *float64          `json:"retry_after_ms"`
	Violations    [][2]string       `json:"violations"`
	ResourceName  string            `json:"resource_name"`
	Hint          string            `json:"hint"`
	ErrorMetadata map[string]string `json:"error_metadata"`
	Events        int               `json:"events"`
	Response      json.RawMessage   `json:"response"`
}

// observe describes the outcome of a call. response is nil where none was received. An error that is
// not a *togetherchat.Error is a fault of the actor.
func observe(id string, response proto.Message, failed error) (*observation, error) {
	observed := &observation{
		ID: id, Code: "OK", Violations: [][2]string{}, ErrorMetadata: map[string]string{},
		Response: json.RawMessage("null"),
	}
	if response != nil {
		encoded, err := protojson.Marshal(response)
		if err != nil {
			return nil, err
		}
		observed.Response = encoded
	}
	if failed == nil {
		return observed, nil
	}
	var chatErr *togetherchat.Error
	if !errors.As(failed, &chatErr) {
		return nil, failed
	}
	observed.addError(chatErr)
	return observed, nil
}

func (o *observation) addError(chatErr *togetherchat.Error) {
	o.Code = nameOf(chatErr.Code)
	o.Reason = chatErr.Reason
	o.Message = chatErr.Message
	o.Retryable = chatErr.Retryable
	if chatErr.RetryAfter > 0 {
		wait := float64(chatErr.RetryAfter.Microseconds()) / 1000
		o.RetryAfterMS = &wait
	}
	for _, violation := range chatErr.Violations {
		o.Violations = append(o.Violations, [2]string{violation.Field, violation.Description})
	}
	o.ResourceName = chatErr.ResourceName
	o.Hint = chatErr.Hint
	for key, value := range chatErr.Metadata {
		o.ErrorMetadata[key] = value
	}
}

// nameOf returns the name of a code in the gRPC specification. Go has names of its own.
func nameOf(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var name strings.Builder
	for i, letter := range code.String() {
		if i > 0 && unicode.IsUpper(letter) && code != codes.OK {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(letter))
	}
	return name.String()
}
