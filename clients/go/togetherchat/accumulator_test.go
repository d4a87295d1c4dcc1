package togetherchat_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

func accumulate(events ...*togetherchatv1.StreamCompleteResponse) *togetherchatv1.CompleteResponse {
	var accumulator togetherchat.Accumulator
	for _, event := range events {
		accumulator.Add(event)
	}
	return accumulator.Response()
}

func tokens(texts ...string) *togetherchatv1.Logprobs {
	logprobs := &togetherchatv1.Logprobs{}
	for _, text := range texts {
		logprobs.Tokens = append(logprobs.Tokens, &togetherchatv1.TokenLogprob{Token: text, Logprob: proto.Float64(-0.5)})
	}
	return logprobs
}

func call(id, name, arguments string) *togetherchatv1.ToolCall {
	function := &togetherchatv1.FunctionCall{Name: name, Arguments: arguments}
	return &togetherchatv1.ToolCall{Id: id, Call: &togetherchatv1.ToolCall_Function{Function: function}}
}

func same(t *testing.T, expected, actual proto.Message) {
	t.Helper()
	if !proto.Equal(expected, actual) {
		t.Errorf("expected %v, got %v", expected, actual)
	}
}

func equal[T comparable](t *testing.T, expected, actual T) {
	t.Helper()
	if expected != actual {
		t.Errorf("expected %v, got %v", expected, actual)
	}
}

// An accumulated stream equals the response of Complete, in every field.
func TestAWholeStreamEqualsTheResponseOfComplete(t *testing.T) {
	created := &timestamppb.Timestamp{Seconds: 1_700_000_000}
	usage := &togetherchatv1.Usage{PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3}
	started := scripted.Started("chat-1", "m")
	started.GetStarted().SystemFingerprint = "fp"
	started.GetStarted().CreateTime = created
	warnings := []*togetherchatv1.Warning{{Message: "w"}}
	timings := &togetherchatv1.Timings{TotalDuration: durationpb.New(2500 * time.Millisecond)}
	actual := accumulate(
		started,
		scripted.Delta(&togetherchatv1.Delta{
			Role: togetherchatv1.Role_ROLE_ASSISTANT, Reasoning: "Hm",
			ReasoningField: togetherchatv1.ReasoningField_REASONING_FIELD_REASONING_CONTENT,
		}),
		scripted.Delta(&togetherchatv1.Delta{Text: "Hel", Logprobs: tokens("Hel"), Refusal: "N"}),
		scripted.Delta(&togetherchatv1.Delta{Text: "lo", Logprobs: tokens("lo"), Refusal: "o"}),
		scripted.Finished(&togetherchatv1.ChoiceFinished{
			FinishReason:    togetherchatv1.FinishReason_FINISH_REASON_STOP,
			FinishReasonRaw: "eos",
			Seed:            proto.Uint64(1<<63 + 1),
		}),
		scripted.Completed(&togetherchatv1.Completed{
			Usage: usage, Warnings: warnings, Attempts: 2, Timings: timings,
		}),
	)
	message := togetherchat.Assistant("Hello")
	message.Reasoning = "Hm"
	message.Refusal = "No"
	message.ReasoningField = togetherchatv1.ReasoningField_REASONING_FIELD_REASONING_CONTENT
	same(t, &togetherchatv1.CompleteResponse{
		Id: "chat-1", Model: "m", CreateTime: created, SystemFingerprint: "fp",
		Choices: []*togetherchatv1.Choice{{
			Message:         message,
			FinishReason:    togetherchatv1.FinishReason_FINISH_REASON_STOP,
			FinishReasonRaw: "eos",
			Logprobs:        tokens("Hel", "lo"),
			Seed:            proto.Uint64(1<<63 + 1),
		}},
		Usage: usage, Warnings: warnings, Attempts: 2, Timings: timings,
	}, actual)
}

// Without events the response is empty.
func TestAnEmptyStreamIsAnEmptyResponse(t *testing.T) {
	same(t, &togetherchatv1.CompleteResponse{}, accumulate())
}

// An unknown event of a later contract version changes nothing.
func TestAnUnknownEventChangesNothing(t *testing.T) {
	var accumulator togetherchat.Accumulator
	accumulator.Add(scripted.Unknown())
	equal(t, true, accumulator.Empty())
	same(t, &togetherchatv1.CompleteResponse{}, accumulator.Response())
}

// A response is whole only after the last event, even if every choice has finished.
func TestAResponseIsWholeOnlyAfterTheLastEvent(t *testing.T) {
	var accumulator togetherchat.Accumulator
	accumulator.Add(scripted.Finished(&togetherchatv1.ChoiceFinished{}))
	equal(t, false, accumulator.Whole())
	accumulator.Add(scripted.Completed(&togetherchatv1.Completed{}))
	equal(t, true, accumulator.Whole())
}

// A message without text has no content, as in a response of Complete.
func TestNoTextIsNoContent(t *testing.T) {
	response := accumulate(
		scripted.Delta(&togetherchatv1.Delta{Role: togetherchatv1.Role_ROLE_ASSISTANT}),
		scripted.Finished(&togetherchatv1.ChoiceFinished{}),
	)
	equal(t, 0, len(response.GetChoices()[0].GetMessage().GetContent()))
}

// Tool calls are merged by index and ordered by it, even if their deltas arrive mixed.
func TestToolCallsAreMergedAndOrderedByIndex(t *testing.T) {
	var events []*togetherchatv1.StreamCompleteResponse
	for _, piece := range []*togetherchatv1.ToolCallDelta{
		{Index: 1, Id: "b", Name: "second", Arguments: `{"y"`},
		{Index: 0, Id: "a", Name: "first", Arguments: "{}"},
		{Index: 1, Arguments: ":2}"},
	} {
		events = append(events, scripted.Delta(&togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{piece}}))
	}
	calls := accumulate(events...).GetChoices()[0].GetMessage().GetToolCalls()
	equal(t, 2, len(calls))
	same(t, call("a", "first", "{}"), calls[0])
	same(t, call("b", "second", `{"y":2}`), calls[1])
}

// The index alone identifies a tool call: the accumulator does not number calls itself.
func TestTheIndexAloneIdentifiesAToolCall(t *testing.T) {
	calls := accumulate(scripted.Delta(&togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{
		{Index: 4, Id: "same", Name: "f", Arguments: "1"},
		{Index: 2, Id: "same", Name: "f", Arguments: "2"},
	}})).GetChoices()[0].GetMessage().GetToolCalls()
	equal(t, 2, len(calls))
	same(t, call("same", "f", "2"), calls[0])
	same(t, call("same", "f", "1"), calls[1])
}

// Reading a response does not affect later events, and later events do not change the response.
func TestAResponseCanBeReadInTheMiddle(t *testing.T) {
	var accumulator togetherchat.Accumulator
	accumulator.Add(scripted.Delta(&togetherchatv1.Delta{Text: "Hel", Logprobs: tokens("Hel")}))
	early := accumulator.Response()
	accumulator.Add(scripted.Delta(&togetherchatv1.Delta{Text: "lo", Logprobs: tokens("lo")}))
	late := accumulator.Response()
	equal(t, "Hel", togetherchat.Text(early))
	same(t, tokens("Hel"), early.GetChoices()[0].GetLogprobs())
	equal(t, "Hello", togetherchat.Text(late))
	same(t, tokens("Hel", "lo"), late.GetChoices()[0].GetLogprobs())
}

// The response does not depend on how its text is split or how its choices are interleaved.
func TestSplittingAndInterleavingDoNotChangeTheResponse(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 0))
		response := randomResponse(random)
		if actual := accumulate(streamOf(random, response)...); !proto.Equal(response, actual) {
			t.Fatalf("seed %d: expected %v, got %v", seed, response, actual)
		}
	}
}

// randomResponse returns a response such as Complete may return: up to six choices, with or without
// text, reasoning and tool calls.
func randomResponse(random *rand.Rand) *togetherchatv1.CompleteResponse {
	response := &togetherchatv1.CompleteResponse{
		Id: "chat-1", Model: "m", Attempts: 1, Usage: &togetherchatv1.Usage{TotalTokens: 7},
	}
	for index := range int32(6) {
		if random.IntN(3) > 0 {
			continue
		}
		message := &togetherchatv1.Message{
			Role: togetherchatv1.Role_ROLE_ASSISTANT, Reasoning: randomText(random, 20),
		}
		if message.Reasoning != "" {
			message.ReasoningField = togetherchatv1.ReasoningField_REASONING_FIELD_REASONING
		}
		if text := randomText(random, 20); text != "" {
			message.Content = togetherchat.Assistant(text).GetContent()
		}
		for range random.IntN(3) {
			message.ToolCalls = append(message.ToolCalls, call("c", "f", randomText(random, 12)))
		}
		response.Choices = append(response.Choices, &togetherchatv1.Choice{
			Index: index, Message: message,
			FinishReason: togetherchatv1.FinishReason_FINISH_REASON_STOP, FinishReasonRaw: "stop",
		})
	}
	return response
}

func randomText(random *rand.Rand, most int) string {
	letters := []rune(`ab {}":7ß漢🦀` + "\n")
	text := make([]rune, random.IntN(most+1))
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}

// streamOf returns one of the many streams that add up to a response.
func streamOf(
	random *rand.Rand, response *togetherchatv1.CompleteResponse,
) []*togetherchatv1.StreamCompleteResponse {
	var sequences [][]*togetherchatv1.StreamCompleteResponse
	events := []*togetherchatv1.StreamCompleteResponse{scripted.Started(response.GetId(), response.GetModel())}
	for _, choice := range response.GetChoices() {
		sequences = append(sequences, deltasOf(random, choice))
	}
	events = append(events, interleaved(random, sequences)...)
	for _, choice := range response.GetChoices() {
		events = append(events, scripted.Finished(&togetherchatv1.ChoiceFinished{
			ChoiceIndex:     choice.GetIndex(),
			FinishReason:    choice.GetFinishReason(),
			FinishReasonRaw: choice.GetFinishReasonRaw(),
		}))
	}
	completed := &togetherchatv1.Completed{Usage: response.GetUsage(), Attempts: response.GetAttempts()}
	return append(events, scripted.Unknown(), scripted.Completed(completed))
}

func deltasOf(random *rand.Rand, choice *togetherchatv1.Choice) []*togetherchatv1.StreamCompleteResponse {
	message := choice.GetMessage()
	deltas := []*togetherchatv1.Delta{{Role: message.GetRole()}}
	for _, piece := range cut(random, message.GetReasoning()) {
		deltas = append(deltas, &togetherchatv1.Delta{
			Reasoning: piece, ReasoningField: message.GetReasoningField(),
		})
	}
	for _, piece := range cut(random, togetherchat.TextOf(message)) {
		deltas = append(deltas, &togetherchatv1.Delta{Text: piece})
	}
	for callIndex, call := range message.GetToolCalls() {
		head := &togetherchatv1.ToolCallDelta{
			Index: int32(callIndex), Id: call.GetId(), Name: call.GetFunction().GetName(),
		}
		deltas = append(deltas, &togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{head}})
		for _, piece := range cut(random, call.GetFunction().GetArguments()) {
			tail := &togetherchatv1.ToolCallDelta{Index: int32(callIndex), Arguments: piece}
			deltas = append(deltas, &togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{tail}})
		}
	}
	var events []*togetherchatv1.StreamCompleteResponse
	for _, delta := range deltas {
		delta.ChoiceIndex = choice.GetIndex()
		events = append(events, scripted.Delta(delta))
	}
	return events
}

// cut splits text between any two letters.
func cut(random *rand.Rand, text string) []string {
	letters := []rune(text)
	cuts := []int{0, len(letters)}
	for range random.IntN(5) {
		cuts = append(cuts, random.IntN(len(letters)+1))
	}
	slices.Sort(cuts)
	var pieces []string
	for i := range len(cuts) - 1 {
		pieces = append(pieces, string(letters[cuts[i]:cuts[i+1]]))
	}
	return pieces
}

// interleaved mixes the events of all sequences at random and keeps the order of each.
func interleaved(
	random *rand.Rand, sequences [][]*togetherchatv1.StreamCompleteResponse,
) []*togetherchatv1.StreamCompleteResponse {
	var mixed []*togetherchatv1.StreamCompleteResponse
	for len(sequences) > 0 {
		chosen := random.IntN(len(sequences))
		mixed = append(mixed, sequences[chosen][0])
		if sequences[chosen] = sequences[chosen][1:]; len(sequences[chosen]) == 0 {
			sequences = slices.Delete(sequences, chosen, chosen+1)
		}
	}
	return mixed
}
