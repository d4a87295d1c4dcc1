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

// sighting is what the actor saw of a case.
type sighting struct {
	ID            string            `json:"id"`
	Code          string            `json:"code"`
	Reason        string            `json:"reason"`
	Message       string            `json:"message"`
	Retryable     bool              `json:"retryable"`
	RetryAfterMS  *float64          `json:"retry_after_ms"`
	Violations    [][2]string       `json:"violations"`
	ErrorMetadata map[string]string `json:"error_metadata"`
	Events        int               `json:"events"`
	Answer        json.RawMessage   `json:"answer"`
}

// see puts down an answer, of which nil is none, and how the call ended. An error that is not the
// library's own type is one of the actor's.
func see(id string, answer proto.Message, ended error) (*sighting, error) {
	saw := &sighting{
		ID: id, Code: "OK", Violations: [][2]string{}, ErrorMetadata: map[string]string{},
		Answer: json.RawMessage("null"),
	}
	if answer != nil {
		written, err := protojson.Marshal(answer)
		if err != nil {
			return nil, err
		}
		saw.Answer = written
	}
	if ended == nil {
		return saw, nil
	}
	var chatErr *togetherchat.Error
	if !errors.As(ended, &chatErr) {
		return nil, ended
	}
	saw.fail(chatErr)
	return saw, nil
}

func (s *sighting) fail(chatErr *togetherchat.Error) {
	s.Code = nameOf(chatErr.Code)
	s.Reason = chatErr.Reason
	s.Message = chatErr.Message
	s.Retryable = chatErr.Retryable
	if chatErr.RetryAfter > 0 {
		wait := float64(chatErr.RetryAfter.Microseconds()) / 1000
		s.RetryAfterMS = &wait
	}
	for _, violation := range chatErr.Violations {
		s.Violations = append(s.Violations, [2]string{violation.Field, violation.Description})
	}
	for key, value := range chatErr.Metadata {
		s.ErrorMetadata[key] = value
	}
}

// nameOf writes a code as the gRPC specification does, for Go writes it in its own way.
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
