package tests

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

// The server makes 3 attempts of its own: 4 failures outlast them, and one more call mends it.
const outlasts = "sandbox/error-429-x4"

// What outlasts the server's own attempts, the service config's retry recovers from.
func TestTheServiceConfigsRetryRecovers(t *testing.T) {
	answer, err := dial(t).Complete(patient(t), togetherchat.Ask(outlasts, t.Name()), togetherchat.WithRequestID(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, true, togetherchat.Text(answer) != "")
	equal(t, 5, len(ledger(t, t.Name())))
}

// A stream that failed before its first event is begun again in the same way.
func TestAStreamIsRetriedBeforeItsFirstEvent(t *testing.T) {
	answer, err := dial(t).Stream(patient(t), togetherchat.Ask(outlasts, t.Name()), togetherchat.WithRequestID(t.Name())).Collect()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, true, togetherchat.Text(answer) != "")
	equal(t, 5, len(ledger(t, t.Name())))
}

// Retries that are switched off leave the failure to the caller, who is told how long to wait.
func TestWithoutRetriesTheFailureIsTheCallers(t *testing.T) {
	client := dial(t, togetherchat.WithoutRetries())
	_, err := client.Complete(patient(t), togetherchat.Ask(outlasts, t.Name()), togetherchat.WithRequestID(t.Name()))
	chatErr := failure(t, err)
	equal(t, codes.ResourceExhausted, chatErr.Code)
	equal(t, true, chatErr.Retryable)
	equal(t, true, chatErr.RetryAfter > 0)
	equal(t, 3, len(ledger(t, t.Name())))
}

// Pushback -1 is obeyed: one request at the provider, whatever the service config says.
func TestPushbackOfMinusOneIsObeyed(t *testing.T) {
	_, err := dial(t).Complete(patient(t), togetherchat.Ask("sandbox/error-429-quota", "Hi"), togetherchat.WithRequestID(t.Name()))
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonQuotaExhausted, chatErr.Reason)
	equal(t, false, chatErr.Retryable)
	equal(t, 1, len(ledger(t, t.Name())))
}

// A prompt above gRPC's default retry buffer of 256 KiB is retried as any other.
func TestALongPromptIsRetriedToo(t *testing.T) {
	question := t.Name() + long(300_000)
	_, err := dial(t).Complete(patient(t), togetherchat.Ask(outlasts, question), togetherchat.WithRequestID(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, 5, len(ledger(t, t.Name())))
}

func long(bytes int) string {
	text := make([]byte, bytes)
	for i := range text {
		text[i] = "word "[i%5]
	}
	return string(text)
}
