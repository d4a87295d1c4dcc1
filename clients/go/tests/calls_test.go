package tests

import (
	"math"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// A collected stream equals the response of Complete: text, reasoning, tool calls and log probabilities.
func TestACollectedStreamEqualsTheResponseOfComplete(t *testing.T) {
	schema := `{"type": "object", "properties": {"city": {"type": "string"}}}`
	weather := togetherchat.FunctionTool("get_weather", "The weather", schema)
	reasoning := togetherchat.NewRequest("sandbox/reasoning", "echo: Größe 漢字 🦀")
	calling := togetherchat.NewRequest("sandbox/flicker", "What is the weather?")
	calling.Tools = []*togetherchatv1.Tool{weather}
	several := togetherchat.NewRequest("sandbox/fast", "Hi")
	several.N = proto.Int32(3)
	several.Logprobs = proto.Int32(0)
	for name, request := range map[string]*togetherchatv1.CompleteRequest{
		"reasoning": reasoning, "tool calls": calling, "several choices": several,
	} {
		t.Run(name, func(t *testing.T) {
			client := dial(t)
			whole, err := client.Complete(testContext(t), request)
			if err != nil {
				t.Fatal(err)
			}
			collected, err := client.Stream(testContext(t), request).Collect()
			if err != nil {
				t.Fatal(err)
			}
			equal(t, len(whole.GetChoices()), len(collected.GetChoices()))
			for i, choice := range whole.GetChoices() {
				if !proto.Equal(choice.GetMessage(), collected.GetChoices()[i].GetMessage()) {
					t.Errorf("expected %v, got %v", choice, collected.GetChoices()[i])
				}
				equal(t, choice.GetFinishReason(), collected.GetChoices()[i].GetFinishReason())
				equal(t, len(choice.GetLogprobs().GetTokens()), len(collected.GetChoices()[i].GetLogprobs().GetTokens()))
			}
		})
	}
}

// WithInfo reports provider and ids after a call, a stream that was read to its end, and a failure.
func TestInfoIsFilledWhenACallHasEnded(t *testing.T) {
	client := dial(t)
	for name, run := range map[string]func(...togetherchat.CallOption) error{
		"a call": func(options ...togetherchat.CallOption) error {
			_, err := client.Complete(testContext(t), togetherchat.NewRequest("sandbox/fast", "Hi"), options...)
			return err
		},
		"a stream": func(options ...togetherchat.CallOption) error {
			_, err := client.Stream(testContext(t), togetherchat.NewRequest("sandbox/fast", "Hi"), options...).Collect()
			return err
		},
		"a failure": func(options ...togetherchat.CallOption) error {
			_, err := client.Complete(testContext(t), togetherchat.NewRequest("sandbox/error-402", "Hi"), options...)
			equal(t, codes.FailedPrecondition, failure(t, err).Code)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var info togetherchat.CallInfo
			if err := run(togetherchat.WithRequestID("named"), togetherchat.WithInfo(&info)); err != nil {
				t.Fatal(err)
			}
			equal(t, "named", info.RequestID)
			equal(t, "sandbox", info.Upstream)
			equal(t, true, info.UpstreamRequestID != "")
		})
	}
}

// All violations of a request are reported at once, each with its field.
func TestViolationsHaveTheirFields(t *testing.T) {
	request := togetherchat.NewRequest("m", "")
	request.Temperature = proto.Float64(9)
	_, err := dial(t).Complete(testContext(t), request)
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonInvalidRequest, chatErr.Reason)
	fields := map[string]bool{}
	for _, violation := range chatErr.Violations {
		fields[violation.Field] = true
	}
	equal(t, true, fields["temperature"])
}

// A stream that the provider cuts short is an error with the partial response; it is not retryable.
func TestACutStreamKeepsThePartialResponse(t *testing.T) {
	_, err := dial(t).Stream(testContext(t), togetherchat.NewRequest("sandbox/cut-stream-clean", "Hi")).Collect()
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonUpstreamTruncated, chatErr.Reason)
	equal(t, false, chatErr.Retryable)
	equal(t, "true", chatErr.Metadata["partialOutput"])
	equal(t, true, togetherchat.Text(chatErr.Partial) != "")
}

// GetModel returns a listed model, and names the model that it does not find.
func TestGetModelReturnsOneModelOrNamesTheUnknownOne(t *testing.T) {
	client := dial(t)
	found, err := client.GetModel(testContext(t), &togetherchatv1.GetModelRequest{Id: "openai/gpt-oss-120b"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "openai/gpt-oss-120b", found.GetModel().GetId())
	equal(t, 131072, int(found.GetModel().GetContextLength()))
	_, err = client.GetModel(testContext(t), &togetherchatv1.GetModelRequest{Id: "no/such"})
	chatErr := failure(t, err)
	equal(t, codes.NotFound, chatErr.Code)
	equal(t, togetherchat.ReasonModelNotFound, chatErr.Reason)
	equal(t, "no/such", chatErr.ResourceName)
}

// The seed of a choice is accepted as the seed of a request, up to the largest.
func TestASeedIsUnsigned(t *testing.T) {
	request := togetherchat.NewRequest("sandbox/fast", "Hi")
	request.Seed = proto.Uint64(math.MaxUint64)
	response, err := dial(t).Complete(testContext(t), request)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, uint64(math.MaxUint64), response.GetChoices()[0].GetSeed())
}

// Models ranges over every model of all pages.
func TestModelsRangesOverAllPages(t *testing.T) {
	client := dial(t)
	page, err := client.ListModels(testContext(t), &togetherchatv1.ListModelsRequest{PageSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for model, err := range client.Models(testContext(t), &togetherchatv1.ListModelsRequest{PageSize: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		ids[model.GetId()] = true
	}
	equal(t, true, page.GetNextPageToken() != "")
	equal(t, int(page.GetTotalSize()), len(ids))
}
