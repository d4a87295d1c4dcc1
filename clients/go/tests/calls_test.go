package tests

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// What the server streams folds to what it answers in one message: text, thinking, tool calls, seeds
// and log probabilities.
func TestAFoldedStreamIsTheAnswerOfComplete(t *testing.T) {
	schema := `{"type": "object", "properties": {"city": {"type": "string"}}}`
	weather := togetherchat.FunctionTool("get_weather", "The weather", schema)
	thinking := togetherchat.Ask("sandbox/reasoning", "echo: Größe 漢字 🦀")
	calling := togetherchat.Ask("sandbox/flicker", "What is the weather?")
	calling.Tools = []*togetherchatv1.Tool{weather}
	several := togetherchat.Ask("sandbox/fast", "Hi")
	several.N = proto.Int32(3)
	several.Logprobs = proto.Int32(0)
	for name, request := range map[string]*togetherchatv1.CompleteRequest{
		"thinking": thinking, "tool calls": calling, "several choices": several,
	} {
		t.Run(name, func(t *testing.T) {
			client := dial(t)
			whole, err := client.Complete(patient(t), request)
			if err != nil {
				t.Fatal(err)
			}
			folded, err := client.Stream(patient(t), request).Collect()
			if err != nil {
				t.Fatal(err)
			}
			equal(t, len(whole.GetChoices()), len(folded.GetChoices()))
			for i, choice := range whole.GetChoices() {
				if !proto.Equal(choice.GetMessage(), folded.GetChoices()[i].GetMessage()) {
					t.Errorf("expected %v, got %v", choice, folded.GetChoices()[i])
				}
				equal(t, choice.GetFinishReason(), folded.GetChoices()[i].GetFinishReason())
				equal(t, len(choice.GetLogprobs().GetTokens()), len(folded.GetChoices()[i].GetLogprobs().GetTokens()))
			}
		})
	}
}

// Who asks for it is told afterwards who answered, and under which ids: of a call, of a stream that
// was read to its end, and of a failure.
func TestInfoIsFilledWhenACallHasEnded(t *testing.T) {
	client := dial(t)
	for name, ask := range map[string]func(...togetherchat.CallOption) error{
		"a call": func(options ...togetherchat.CallOption) error {
			_, err := client.Complete(patient(t), togetherchat.Ask("sandbox/fast", "Hi"), options...)
			return err
		},
		"a stream": func(options ...togetherchat.CallOption) error {
			_, err := client.Stream(patient(t), togetherchat.Ask("sandbox/fast", "Hi"), options...).Collect()
			return err
		},
		"a failure": func(options ...togetherchat.CallOption) error {
			_, err := client.Complete(patient(t), togetherchat.Ask("sandbox/error-402", "Hi"), options...)
			equal(t, codes.FailedPrecondition, failure(t, err).Code)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var info togetherchat.CallInfo
			if err := ask(togetherchat.WithRequestID("named"), togetherchat.WithInfo(&info)); err != nil {
				t.Fatal(err)
			}
			equal(t, "named", info.RequestID)
			equal(t, "sandbox", info.Upstream)
			equal(t, true, info.UpstreamRequestID != "")
		})
	}
}

// Everything that is wrong with a request is told at once, with its place.
func TestViolationsHaveTheirPlaces(t *testing.T) {
	request := togetherchat.Ask("m", "")
	request.Temperature = proto.Float64(9)
	_, err := dial(t).Complete(patient(t), request)
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonInvalidRequest, chatErr.Reason)
	places := map[string]bool{}
	for _, violation := range chatErr.Violations {
		places[violation.Field] = true
	}
	equal(t, true, places["temperature"])
}

// A stream that the provider cuts is an error that keeps what came, and says that it may not be sent
// again.
func TestACutStreamKeepsWhatCame(t *testing.T) {
	_, err := dial(t).Stream(patient(t), togetherchat.Ask("sandbox/cut-stream-clean", "Hi")).Collect()
	chatErr := failure(t, err)
	equal(t, togetherchat.ReasonUpstreamTruncated, chatErr.Reason)
	equal(t, false, chatErr.Retryable)
	equal(t, "true", chatErr.Metadata["partialOutput"])
	equal(t, true, togetherchat.Text(chatErr.Partial) != "")
}

// The pages of the model list are one range.
func TestAllModelsAreOneRange(t *testing.T) {
	client := dial(t)
	page, err := client.ListModels(patient(t), &togetherchatv1.ListModelsRequest{PageSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for model, err := range client.Models(patient(t), &togetherchatv1.ListModelsRequest{PageSize: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		ids[model.GetId()] = true
	}
	equal(t, true, page.GetNextPageToken() != "")
	equal(t, int(page.GetTotalSize()), len(ids))
}
