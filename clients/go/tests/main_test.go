// Package tests holds the client against the real server and the provider simulator.
package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/togetherchat/togetherchat/clients/go/internal/served"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

// patience is for a busy machine; no test waits for it to pass.
const patience = time.Minute

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

func dial(t *testing.T, options ...togetherchat.Option) *togetherchat.Client {
	t.Helper()
	client, err := togetherchat.Dial(service.Target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// failure is the typed error in err; without one the test ends.
func failure(t *testing.T, err error) *togetherchat.Error {
	t.Helper()
	var chatErr *togetherchat.Error
	if !errors.As(err, &chatErr) {
		t.Fatalf("expected a *togetherchat.Error, got %v", err)
	}
	return chatErr
}

var calls atomic.Int64

// fresh is the id of a call that no other call has, however often the test runs.
func fresh(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%s-%d", t.Name(), calls.Add(1))
}

// ledger is what the simulator saw of a call.
func ledger(t *testing.T, requestID string) []served.Request {
	t.Helper()
	requests, err := service.Ledger(requestID)
	if err != nil {
		t.Fatal(err)
	}
	return requests
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}

func equal[T comparable](t *testing.T, expected, actual T) {
	t.Helper()
	if expected != actual {
		t.Errorf("expected %v, got %v", expected, actual)
	}
}
