package tests

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

// failsFourTimes is a model that fails four requests: the server makes three attempts, and the service
// config's second call succeeds. Each test starts a server, because a server's retry budget and the
// waits that its provider requested are shared by all its calls.
const failsFourTimes = "sandbox/error-429-x4"

// The service config's retry succeeds where all attempts of the server failed.
func TestTheServiceConfigsRetrySucceeds(t *testing.T) {
	id := fresh(t)
	request := togetherchat.NewRequest(failsFourTimes, id)
	response, err := dialAnother(t).Complete(testContext(t), request, togetherchat.WithRequestID(id))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, true, togetherchat.Text(response) != "")
	equal(t, 5, len(requestLog(t, id)))
}

// A stream that fails before its first event is retried.
func TestAStreamIsRetriedBeforeItsFirstEvent(t *testing.T) {
	id := fresh(t)
	client := dialAnother(t)
	request := togetherchat.NewRequest(failsFourTimes, id)
	response, err := client.Stream(testContext(t), request, togetherchat.WithRequestID(id)).Collect()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, true, togetherchat.Text(response) != "")
	equal(t, 5, len(requestLog(t, id)))
}

// Without retries the caller gets the error, with the requested wait.
func TestWithoutRetriesTheCallerGetsTheError(t *testing.T) {
	id := fresh(t)
	client := dialAnother(t, togetherchat.WithoutRetries())
	request := togetherchat.NewRequest("sandbox/error-429-x99", id)
	_, err := client.Complete(testContext(t), request, togetherchat.WithRequestID(id))
	chatErr := failure(t, err)
	equal(t, codes.ResourceExhausted, chatErr.Code)
	equal(t, true, chatErr.Retryable)
	equal(t, true, chatErr.RetryAfter > 0)
	equal(t, 3, len(requestLog(t, id)))
}

// Pushback -1 stops retries: the provider gets one request.
func TestPushbackOfMinusOneStopsRetries(t *testing.T) {
	id := fresh(t)
	request := togetherchat.NewRequest("sandbox/error-429-quota", "Hi")
	_, err := dialAnother(t).Complete(testContext(t), request, togetherchat.WithRequestID(id))
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonQuotaExhausted, chatErr.Reason)
	equal(t, false, chatErr.Retryable)
	equal(t, 1, len(requestLog(t, id)))
}

// A prompt above gRPC's default retry buffer of 256 KiB is retried.
func TestALongPromptIsRetried(t *testing.T) {
	id := fresh(t)
	question := id + long(300_000)
	request := togetherchat.NewRequest(failsFourTimes, question)
	_, err := dialAnother(t).Complete(testContext(t), request, togetherchat.WithRequestID(id))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, 5, len(requestLog(t, id)))
}

// dialAnother returns a client of a server that has handled no call.
func dialAnother(t *testing.T, options ...togetherchat.Option) *togetherchat.Client {
	t.Helper()
	another, err := service.Another()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(another.Stop)
	client, err := togetherchat.Dial(another.Target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func long(bytes int) string {
	text := make([]byte, bytes)
	for i := range text {
		text[i] = "word "[i%5]
	}
	return string(text)
}
