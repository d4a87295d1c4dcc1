package togetherchat_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

func fold(events ...*togetherchatv1.StreamCompleteResponse) *togetherchatv1.CompleteResponse {
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

// Every field of the answer has its event.
func TestAWholeStreamIsTheAnswerOfComplete(t *testing.T) {
	created := &timestamppb.Timestamp{Seconds: 1_700_000_000}
	usage := &togetherchatv1.Usage{PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3}
	started := scripted.Started("chat-1", "m")
	started.GetStarted().SystemFingerprint = "fp"
	started.GetStarted().CreateTime = created
	warnings := []*togetherchatv1.Warning{{Message: "w"}}
	actual := fold(
		started,
		scripted.Piece(&togetherchatv1.Delta{
			Role: togetherchatv1.Role_ROLE_ASSISTANT, Reasoning: "Hm", ReasoningKey: "reasoning_content",
		}),
		scripted.Piece(&togetherchatv1.Delta{Text: "Hel", Logprobs: tokens("Hel")}),
		scripted.Piece(&togetherchatv1.Delta{Text: "lo", Logprobs: tokens("lo")}),
		scripted.Finished(&togetherchatv1.ChoiceFinished{
			FinishReason:    togetherchatv1.FinishReason_FINISH_REASON_STOP,
			FinishReasonRaw: "eos",
			Seed:            proto.Uint64(1<<63 + 1),
		}),
		scripted.Completed(&togetherchatv1.Completed{Usage: usage, Warnings: warnings, Attempts: 2}),
	)
	message := togetherchat.Assistant("Hello")
	message.Reasoning = "Hm"
	message.ReasoningKey = "reasoning_content"
	same(t, &togetherchatv1.CompleteResponse{
		Id: "chat-1", Model: "m", CreateTime: created, SystemFingerprint: "fp",
		Choices: []*togetherchatv1.Choice{{
			Message:         message,
			FinishReason:    togetherchatv1.FinishReason_FINISH_REASON_STOP,
			FinishReasonRaw: "eos",
			Logprobs:        tokens("Hel", "lo"),
			Seed:            proto.Uint64(1<<63 + 1),
		}},
		Usage: usage, Warnings: warnings, Attempts: 2,
	}, actual)
}

// Nothing came, nothing is made up.
func TestAnEmptyStreamIsAnEmptyAnswer(t *testing.T) {
	same(t, &togetherchatv1.CompleteResponse{}, fold())
}

// A later version of the contract may send more: field 99 is not ours.
func TestAnEventThatIsNotKnownChangesNothing(t *testing.T) {
	var accumulator togetherchat.Accumulator
	accumulator.Add(scripted.Unknown())
	equal(t, true, accumulator.Empty())
	same(t, &togetherchatv1.CompleteResponse{}, accumulator.Response())
}

// Every choice may have finished, and still the end did not come.
func TestAnAnswerIsWholeOnlyWithItsLastEvent(t *testing.T) {
	var accumulator togetherchat.Accumulator
	accumulator.Add(scripted.Finished(&togetherchatv1.ChoiceFinished{}))
	equal(t, false, accumulator.Whole())
	accumulator.Add(scripted.Completed(&togetherchatv1.Completed{}))
	equal(t, true, accumulator.Whole())
}

// An answer that only calls tools has an empty content, as Complete gives it.
func TestNoTextIsNoContent(t *testing.T) {
	answer := fold(
		scripted.Piece(&togetherchatv1.Delta{Role: togetherchatv1.Role_ROLE_ASSISTANT}),
		scripted.Finished(&togetherchatv1.ChoiceFinished{}),
	)
	equal(t, 0, len(answer.GetChoices()[0].GetMessage().GetContent()))
}

// Pieces of two calls may come mixed, and the later one first.
func TestToolCallsAreMergedByIndexAndComeInItsOrder(t *testing.T) {
	var events []*togetherchatv1.StreamCompleteResponse
	for _, piece := range []*togetherchatv1.ToolCallDelta{
		{Index: 1, Id: "b", Name: "second", Arguments: `{"y"`},
		{Index: 0, Id: "a", Name: "first", Arguments: "{}"},
		{Index: 1, Arguments: ":2}"},
	} {
		events = append(events, scripted.Piece(&togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{piece}}))
	}
	calls := fold(events...).GetChoices()[0].GetMessage().GetToolCalls()
	equal(t, 2, len(calls))
	same(t, call("a", "first", "{}"), calls[0])
	same(t, call("b", "second", `{"y":2}`), calls[1])
}

// Looking at it takes nothing away from what follows, and what follows changes nothing in it.
func TestAResponseCanBeReadInTheMiddle(t *testing.T) {
	var accumulator togetherchat.Accumulator
	accumulator.Add(scripted.Piece(&togetherchatv1.Delta{Text: "Hel", Logprobs: tokens("Hel")}))
	early := accumulator.Response()
	accumulator.Add(scripted.Piece(&togetherchatv1.Delta{Text: "lo", Logprobs: tokens("lo")}))
	late := accumulator.Response()
	equal(t, "Hel", togetherchat.Text(early))
	same(t, tokens("Hel"), early.GetChoices()[0].GetLogprobs())
	equal(t, "Hello", togetherchat.Text(late))
	same(t, tokens("Hel", "lo"), late.GetChoices()[0].GetLogprobs())
}

// The law of the stream, from the reader's side: cuts and interleaving do not matter.
func TestHoweverAnAnswerIsCutItsFoldIsTheSame(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 0))
		answer := someAnswer(random)
		if actual := fold(streamOf(random, answer)...); !proto.Equal(answer, actual) {
			t.Fatalf("seed %d: expected %v, got %v", seed, answer, actual)
		}
	}
}

// someAnswer is such as Complete may return: one to three choices, with or without text, thinking,
// tool calls.
func someAnswer(random *rand.Rand) *togetherchatv1.CompleteResponse {
	answer := &togetherchatv1.CompleteResponse{
		Id: "chat-1", Model: "m", Attempts: 1, Usage: &togetherchatv1.Usage{TotalTokens: 7},
	}
	for index := range int32(6) {
		if random.IntN(3) > 0 {
			continue
		}
		message := &togetherchatv1.Message{
			Role: togetherchatv1.Role_ROLE_ASSISTANT, Reasoning: someText(random, 20),
		}
		if message.Reasoning != "" {
			message.ReasoningKey = "reasoning"
		}
		if text := someText(random, 20); text != "" {
			message.Content = togetherchat.Assistant(text).GetContent()
		}
		for range random.IntN(3) {
			message.ToolCalls = append(message.ToolCalls, call("c", "f", someText(random, 12)))
		}
		answer.Choices = append(answer.Choices, &togetherchatv1.Choice{
			Index: index, Message: message,
			FinishReason: togetherchatv1.FinishReason_FINISH_REASON_STOP, FinishReasonRaw: "stop",
		})
	}
	return answer
}

func someText(random *rand.Rand, most int) string {
	letters := []rune(`ab {}":7ß漢🦀` + "\n")
	text := make([]rune, random.IntN(most+1))
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}

// streamOf is one of the many streams that make an answer.
func streamOf(
	random *rand.Rand, answer *togetherchatv1.CompleteResponse,
) []*togetherchatv1.StreamCompleteResponse {
	var sequences [][]*togetherchatv1.StreamCompleteResponse
	events := []*togetherchatv1.StreamCompleteResponse{scripted.Started(answer.GetId(), answer.GetModel())}
	for _, choice := range answer.GetChoices() {
		sequences = append(sequences, deltasOf(random, choice))
	}
	events = append(events, interleaved(random, sequences)...)
	for _, choice := range answer.GetChoices() {
		events = append(events, scripted.Finished(&togetherchatv1.ChoiceFinished{
			ChoiceIndex:     choice.GetIndex(),
			FinishReason:    choice.GetFinishReason(),
			FinishReasonRaw: choice.GetFinishReasonRaw(),
		}))
	}
	completed := &togetherchatv1.Completed{Usage: answer.GetUsage(), Attempts: answer.GetAttempts()}
	return append(events, scripted.Unknown(), scripted.Completed(completed))
}

func deltasOf(random *rand.Rand, choice *togetherchatv1.Choice) []*togetherchatv1.StreamCompleteResponse {
	message := choice.GetMessage()
	deltas := []*togetherchatv1.Delta{{Role: message.GetRole()}}
	for _, piece := range cut(random, message.GetReasoning()) {
		deltas = append(deltas, &togetherchatv1.Delta{Reasoning: piece, ReasoningKey: message.GetReasoningKey()})
	}
	for _, piece := range cut(random, togetherchat.TextOf(message)) {
		deltas = append(deltas, &togetherchatv1.Delta{Text: piece})
	}
	for place, call := range message.GetToolCalls() {
		head := &togetherchatv1.ToolCallDelta{Index: int32(place), Id: call.GetId(), Name: call.GetFunction().GetName()}
		deltas = append(deltas, &togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{head}})
		for _, piece := range cut(random, call.GetFunction().GetArguments()) {
			tail := &togetherchatv1.ToolCallDelta{Index: int32(place), Arguments: piece}
			deltas = append(deltas, &togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{tail}})
		}
	}
	var events []*togetherchatv1.StreamCompleteResponse
	for _, delta := range deltas {
		delta.ChoiceIndex = choice.GetIndex()
		events = append(events, scripted.Piece(delta))
	}
	return events
}

// cut is text in pieces, cut between any two letters.
func cut(random *rand.Rand, text string) []string {
	letters := []rune(text)
	places := []int{0, len(letters)}
	for range random.IntN(5) {
		places = append(places, random.IntN(len(letters)+1))
	}
	slices.Sort(places)
	var pieces []string
	for i := range len(places) - 1 {
		pieces = append(pieces, string(letters[places[i]:places[i+1]]))
	}
	return pieces
}

// interleaved are the events of all sequences, mixed in any way that keeps the order of each.
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
