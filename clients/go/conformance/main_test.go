package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/internal/served"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

var service *served.Service

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if service, err = served.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer service.Stop()
	return m.Run()
}

// saw is what the actor answers to one line.
func saw(t *testing.T, line string) sighting {
	t.Helper()
	var output bytes.Buffer
	if err := act(service.Target, strings.NewReader(line), &output); err != nil {
		t.Fatal(err)
	}
	var answered sighting
	if err := json.Unmarshal(output.Bytes(), &answered); err != nil {
		t.Fatalf("%v in %s", err, output.String())
	}
	return answered
}

func equal[T comparable](t *testing.T, expected, actual T) {
	t.Helper()
	if expected != actual {
		t.Errorf("expected %v, got %v", expected, actual)
	}
}

func request(model, text string) string {
	return fmt.Sprintf(
		`{"model": %q, "messages": [{"role": "ROLE_USER", "content": [{"text": %q}]}]}`, model, text)
}

// The shared list is understood: one answer a case, with its id.
func TestEveryCaseOfTheListIsAnswered(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(served.Root(), "clients", "conformance", "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []map[string]json.RawMessage
	if err := json.Unmarshal(list, &cases); err != nil {
		t.Fatal(err)
	}
	for _, each := range cases {
		if bytes.Contains(each["request"], []byte(`{"$`)) {
			continue // the judge writes these out
		}
		var id string
		if err := json.Unmarshal(each["id"], &id); err != nil {
			t.Fatal(err)
		}
		t.Run(id, func(t *testing.T) {
			line, err := json.Marshal(each)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, id, saw(t, string(line)).ID)
		})
	}
}

// A whole answer is protobuf JSON, and no part of an error stands beside it.
func TestAnAnswer(t *testing.T) {
	answered := saw(t, `{"id": "a", "call": "Complete", "request": `+request("sandbox/fast", "echo: <Größe>")+`}`)
	equal(t, "OK", answered.Code)
	equal(t, "", answered.Reason+answered.Message)
	equal(t, true, !answered.Retryable && answered.RetryAfterMS == nil)
	equal(t, true, bytes.Contains(answered.Answer, []byte(`"finishReason":"FINISH_REASON_STOP"`)))
	equal(t, true, bytes.Contains(answered.Answer, []byte(`<Größe>`)))
}

// A failure has its code, reason, wait and facts, and no answer.
func TestAFailure(t *testing.T) {
	answered := saw(t, `{"id": "b", "call": "Complete", "retries": false, "request": `+
		request("sandbox/error-429-x99", t.Name())+`}`)
	equal(t, "RESOURCE_EXHAUSTED", answered.Code)
	equal(t, true, answered.Retryable)
	equal(t, true, *answered.RetryAfterMS > 0)
	equal(t, "429", answered.ErrorMetadata["upstreamHttpStatus"])
	equal(t, "null", string(answered.Answer))
}

// All that is wrong with a request is told with its place.
func TestViolations(t *testing.T) {
	answered := saw(t, `{"id": "c", "call": "Complete", "request": {"model": "m", "temperature": 9}}`)
	equal(t, "INVALID_ARGUMENT", answered.Code)
	equal(t, "[temperature messages]", fmt.Sprint([]string{answered.Violations[0][0], answered.Violations[1][0]}))
}

// A stream that its caller leaves is seen as cancelled, with the answer so far.
func TestACancelAfterEvents(t *testing.T) {
	answered := saw(t, `{"id": "d", "call": "StreamComplete", "cancel": {"after_events": 2}, "request": `+
		request("sandbox/stall-after-3", "Hi")+`}`)
	equal(t, "CANCELLED", answered.Code)
	equal(t, 2, answered.Events)
	equal(t, true, bytes.Contains(answered.Answer, []byte(`"choices"`)))
}

// A call that its caller leaves after a time is seen as cancelled too.
func TestACancelAfterATime(t *testing.T) {
	answered := saw(t, `{"id": "e", "call": "Complete", "cancel": {"after_ms": 50}, "request": `+
		request("sandbox/stall", "Hi")+`}`)
	equal(t, "CANCELLED", answered.Code)
}

// A deadline is the call's.
func TestADeadline(t *testing.T) {
	answered := saw(t, `{"id": "f", "call": "Complete", "deadline_ms": 300, "request": `+
		request("sandbox/stall", "Hi")+`}`)
	equal(t, "DEADLINE_EXCEEDED", answered.Code)
}

// Metadata goes out with the call, and the case's id as the call's.
func TestMetadataIsSent(t *testing.T) {
	var sent metadata.MD
	echo := &scripted.Service{OnComplete: func(
		ctx context.Context, _ *togetherchatv1.CompleteRequest,
	) (*togetherchatv1.CompleteResponse, error) {
		sent, _ = metadata.FromIncomingContext(ctx)
		return &togetherchatv1.CompleteResponse{}, nil
	}}
	target, stop := echo.Start()
	defer stop()
	line := `{"id": "g", "call": "Complete", "metadata": {"traceparent": "x"}, "request": ` + request("m", "Hi") + `}`
	if err := act(target, strings.NewReader(line), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	equal(t, "[x] [g]", fmt.Sprint(sent.Get("traceparent"), sent.Get("x-request-id")))
}

// A page of models is an answer as any other.
func TestAPageOfModels(t *testing.T) {
	answered := saw(t, `{"id": "h", "call": "ListModels", "request": {"pageSize": 2}}`)
	equal(t, "OK", answered.Code)
	equal(t, true, bytes.Contains(answered.Answer, []byte(`"nextPageToken"`)))
}

// What cannot be understood ends the actor: a case that is left out would look like one that passed.
func TestWhatIsNotUnderstoodIsAnError(t *testing.T) {
	for _, line := range []string{
		"nonsense",
		`{"id": "i", "call": "Sing"}`,
		`{"id": "i", "call": "Complete", "request": {"tune": 1}}`,
	} {
		if err := act(service.Target, strings.NewReader(line), &bytes.Buffer{}); err == nil {
			t.Errorf("%s was taken", line)
		}
	}
}

// Codes have the names of the gRPC specification.
func TestCodesAreNamedAsTheSpecificationNamesThem(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		var read codes.Code
		if err := read.UnmarshalJSON([]byte(`"` + nameOf(code) + `"`)); err != nil {
			t.Error(err)
		}
		equal(t, code, read)
	}
}
