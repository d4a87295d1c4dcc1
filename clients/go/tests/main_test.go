// Package tests runs the client against the real server and the sandbox.
package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/togetherchat/togetherchat/clients/go/internal/serviceprocess"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

// waitTimeout allows for a busy machine. No test waits for it to pass.
const waitTimeout = time.Minute

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

func dial(t *testing.T, options ...togetherchat.Option) *togetherchat.Client {
	t.Helper()
	client, err := togetherchat.Dial(service.Target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

// failure returns the typed error in err, or fails the test.
func failure(t *testing.T, err error) *togetherchat.Error {
	t.Helper()
	var chatErr *togetherchat.Error
	if !errors.As(err, &chatErr) {
		t.Fatalf("expected a *togetherchat.Error, got %v", err)
	}
	return chatErr
}

var calls atomic.Int64

// fresh returns an unused request id, however often the test runs.
func fresh(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%s-%d", t.Name(), calls.Add(1))
}

// requestLog returns the sandbox's log entries of a call.
func requestLog(t *testing.T, requestID string) []serviceprocess.Request {
	t.Helper()
	requests, err := service.RequestLog(requestID)
	if err != nil {
		t.Fatal(err)
	}
	return requests
}

// eventually waits until condition is true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("did not happen within %s: %s", waitTimeout, what)
}

func equal[T comparable](t *testing.T, expected, actual T) {
	t.Helper()
	if expected != actual {
		t.Errorf("expected %v, got %v", expected, actual)
	}
}
