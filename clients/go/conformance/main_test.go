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
	"github.com/togetherchat/togetherchat/clients/go/internal/serviceprocess"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

var service *serviceprocess.Service

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if service, err = serviceprocess.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer service.Stop()
	return m.Run()
}

// runCase returns the observation that the actor writes for one line.
func runCase(t *testing.T, line string) observation {
	t.Helper()
	var output bytes.Buffer
	if err := runCases(service.Target, strings.NewReader(line), &output); err != nil {
		t.Fatal(err)
	}
	var observed observation
	if err := json.Unmarshal(output.Bytes(), &observed); err != nil {
		t.Fatalf("%v in %s", err, output.String())
	}
	return observed
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

// The actor runs every case of the shared list and repeats its id.
func TestEveryCaseHasAnObservation(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(serviceprocess.Root(), "clients", "conformance", "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []map[string]json.RawMessage
	if err := json.Unmarshal(list, &cases); err != nil {
		t.Fatal(err)
	}
	for _, each := range cases {
		if bytes.Contains(each["request"], []byte(`{"$`)) {
			continue // the judge expands these
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
			equal(t, id, runCase(t, string(line)).ID)
		})
	}
}

// A response is protobuf JSON, and every error field is empty.
func TestAResponse(t *testing.T) {
	observed := runCase(t, `{"id": "a", "call": "Complete", "request": `+request("sandbox/fast", "echo: <Größe>")+`}`)
	equal(t, "OK", observed.Code)
	equal(t, "", observed.Reason+observed.Message)
	equal(t, true, !observed.Retryable && observed.RetryAfterMS == nil)
	equal(t, true, bytes.Contains(observed.Response, []byte(`"finishReason":"FINISH_REASON_STOP"`)))
	equal(t, true, bytes.Contains(observed.Response, []byte(`<Größe>`)))
}

// A failed call has a code, a reason, a wait and metadata, and no response.
func TestAFailure(t *testing.T) {
	observed := runCase(t, `{"id": "b", "call": "Complete", "retries": false, "request": `+
		request("sandbox/error-429-x99", t.Name())+`}`)
	equal(t, "RESOURCE_EXHAUSTED", observed.Code)
	equal(t, true, observed.Retryable)
	equal(t, true, *observed.RetryAfterMS > 0)
	equal(t, "429", observed.ErrorMetadata["upstreamHttpStatus"])
	equal(t, "null", string(observed.Response))
}

// Every violation of a request is reported with its field.
func TestViolations(t *testing.T) {
	observed := runCase(t, `{"id": "c", "call": "Complete", "request": {"model": "m", "temperature": 9}}`)
	equal(t, "INVALID_ARGUMENT", observed.Code)
	equal(t, "[temperature messages]", fmt.Sprint([]string{observed.Violations[0][0], observed.Violations[1][0]}))
}

// A stream that the caller cancels is CANCELLED, with the partial response.
func TestACancelAfterEvents(t *testing.T) {
	observed := runCase(t, `{"id": "d", "call": "StreamComplete", "cancel": {"after_events": 2}, "request": `+
		request("sandbox/stall-after-3", "Hi")+`}`)
	equal(t, "CANCELLED", observed.Code)
	equal(t, 2, observed.Events)
	equal(t, true, bytes.Contains(observed.Response, []byte(`"choices"`)))
}

// A call that the caller cancels after a time is CANCELLED.
func TestACancelAfterATime(t *testing.T) {
	observed := runCase(t, `{"id": "e", "call": "Complete", "cancel": {"after_ms": 50}, "request": `+
		request("sandbox/stall", "Hi")+`}`)
	equal(t, "CANCELLED", observed.Code)
}

// The deadline of a case is the deadline of its call.
func TestADeadline(t *testing.T) {
	observed := runCase(t, `{"id": "f", "call": "Complete", "deadline_ms": 300, "request": `+
		request("sandbox/stall", "Hi")+`}`)
	equal(t, "DEADLINE_EXCEEDED", observed.Code)
}

// The metadata of a case is sent, and its id is sent as x-request-id.
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
	if err := runCases(target, strings.NewReader(line), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	equal(t, "[x] [g]", fmt.Sprint(sent.Get("traceparent"), sent.Get("x-request-id")))
}

// A page of models is a response.
func TestAPageOfModels(t *testing.T) {
	observed := runCase(t, `{"id": "h", "call": "ListModels", "request": {"pageSize": 2}}`)
	equal(t, "OK", observed.Code)
	equal(t, true, bytes.Contains(observed.Response, []byte(`"nextPageToken"`)))
}

// A model is a response, and an unknown one is a failure with its name.
func TestAModel(t *testing.T) {
	found := runCase(t, `{"id": "j", "call": "GetModel", "request": {"id": "openai/gpt-oss-120b"}}`)
	equal(t, "OK", found.Code)
	equal(t, true, bytes.Contains(found.Response, []byte(`"openai/gpt-oss-120b"`)))
	unknown := runCase(t, `{"id": "k", "call": "GetModel", "request": {"id": "no/such"}}`)
	equal(t, "NOT_FOUND no/such null", fmt.Sprint(unknown.Code, " ", unknown.ResourceName, " ", string(unknown.Response)))
}

// An invalid case makes the actor fail: a skipped case would look like a passed one.
func TestAnInvalidCaseIsAnError(t *testing.T) {
	for _, line := range []string{
		"nonsense",
		`{"id": "i", "call": "Sing"}`,
		`{"id": "i", "call": "Complete", "request": {"tune": 1}}`,
	} {
		if err := runCases(service.Target, strings.NewReader(line), &bytes.Buffer{}); err == nil {
			t.Errorf("%s was accepted", line)
		}
	}
}

// Codes have the names of the gRPC specification.
func TestCodesHaveTheNamesOfTheSpecification(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		var read codes.Code
		if err := read.UnmarshalJSON([]byte(`"` + nameOf(code) + `"`)); err != nil {
			t.Error(err)
		}
		equal(t, code, read)
	}
}
