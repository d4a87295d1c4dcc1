package tests

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

// outlasts names a model that fails 4 times: the server makes 3 attempts of its own, and the service
// config's second call mends it. Each test has a server of its own, for a server that has just retried
// for others retries less, and one whose provider has just asked for a wait answers for it.
const outlasts = "sandbox/error-429-x4"

// What outlasts the server's own attempts, the service config's retry recovers from.
func TestTheServiceConfigsRetryRecovers(t *testing.T) {
	id := fresh(t)
	answer, err := dialAnother(t).Complete(patient(t), togetherchat.Ask(outlasts, id), togetherchat.WithRequestID(id))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, true, togetherchat.Text(answer) != "")
	equal(t, 5, len(ledger(t, id)))
}

// A stream that failed before its first event is begun again in the same way.
func TestAStreamIsRetriedBeforeItsFirstEvent(t *testing.T) {
	id := fresh(t)
	client := dialAnother(t)
	answer, err := client.Stream(patient(t), togetherchat.Ask(outlasts, id), togetherchat.WithRequestID(id)).Collect()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, true, togetherchat.Text(answer) != "")
	equal(t, 5, len(ledger(t, id)))
}

// Retries that are switched off leave the failure to the caller, who is told how long to wait.
func TestWithoutRetriesTheFailureIsTheCallers(t *testing.T) {
	id := fresh(t)
	client := dialAnother(t, togetherchat.WithoutRetries())
	_, err := client.Complete(patient(t), togetherchat.Ask("sandbox/error-429-x99", id), togetherchat.WithRequestID(id))
	chatErr := failure(t, err)
	equal(t, codes.ResourceExhausted, chatErr.Code)
	equal(t, true, chatErr.Retryable)
	equal(t, true, chatErr.RetryAfter > 0)
	equal(t, 3, len(ledger(t, id)))
}

// Pushback -1 is obeyed: one request at the provider, whatever the service config says.
func TestPushbackOfMinusOneIsObeyed(t *testing.T) {
	id := fresh(t)
	request := togetherchat.Ask("sandbox/error-429-quota", "Hi")
	_, err := dialAnother(t).Complete(patient(t), request, togetherchat.WithRequestID(id))
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonQuotaExhausted, chatErr.Reason)
	equal(t, false, chatErr.Retryable)
	equal(t, 1, len(ledger(t, id)))
}

// A prompt above gRPC's default retry buffer of 256 KiB is retried as any other.
func TestALongPromptIsRetriedToo(t *testing.T) {
	id := fresh(t)
	question := id + long(300_000)
	_, err := dialAnother(t).Complete(patient(t), togetherchat.Ask(outlasts, question), togetherchat.WithRequestID(id))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, 5, len(ledger(t, id)))
}

// dialAnother is a client of a server that has served nobody.
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
