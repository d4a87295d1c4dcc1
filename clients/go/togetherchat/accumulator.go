package togetherchat

import (
	"maps"
	"slices"
	"strings"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// Accumulator collects the events of a stream into the response that Complete would have returned.
// The contract documents the rules at StreamComplete: text is appended to text, and a tool call's
// arguments to the arguments of the call with the same index. Each choice is collected separately,
// and unknown events are ignored. The service numbers the tool calls of a response, so their indexes
// are trusted and never changed.
//
// The zero value is ready to use. Each [CompletionStream] has its own.
type Accumulator struct {
	started   *togetherchatv1.Started
	choices   map[int32]*choiceParts
	completed *togetherchatv1.Completed
	any       bool
}

// Add adds the next event. An unknown event changes nothing.
func (a *Accumulator) Add(event *togetherchatv1.StreamCompleteResponse) {
	switch event := event.GetEvent().(type) {
	case *togetherchatv1.StreamCompleteResponse_Started:
		a.started = event.Started
	case *togetherchatv1.StreamCompleteResponse_Delta:
		a.choice(event.Delta.GetChoiceIndex()).add(event.Delta)
	case *togetherchatv1.StreamCompleteResponse_ChoiceFinished:
		a.choice(event.ChoiceFinished.GetChoiceIndex()).finished = event.ChoiceFinished
	case *togetherchatv1.StreamCompleteResponse_Completed:
		a.completed = event.Completed
	default:
		return
	}
	a.any = true
}

// Whole reports whether the last event was added.
func (a *Accumulator) Whole() bool { return a.completed != nil }

// Empty reports whether no known event was added.
func (a *Accumulator) Empty() bool { return !a.any }

// Response returns what was collected so far; see [Accumulator.Whole]. The response may share
// messages with the events that were added.
func (a *Accumulator) Response() *togetherchatv1.CompleteResponse {
	response := &togetherchatv1.CompleteResponse{
		Id:                a.started.GetId(),
		Model:             a.started.GetModel(),
		CreateTime:        a.started.GetCreateTime(),
		SystemFingerprint: a.started.GetSystemFingerprint(),
		Usage:             a.completed.GetUsage(),
		Warnings:          a.completed.GetWarnings(),
		Attempts:          a.completed.GetAttempts(),
		Timings:           a.completed.GetTimings(),
	}
	for _, index := range slices.Sorted(maps.Keys(a.choices)) {
		response.Choices = append(response.Choices, a.choices[index].build(index))
	}
	return response
}

func (a *Accumulator) choice(index int32) *choiceParts {
	if a.choices == nil {
		a.choices = map[int32]*choiceParts{}
	}
	if a.choices[index] == nil {
		a.choices[index] = &choiceParts{role: togetherchatv1.Role_ROLE_ASSISTANT, calls: map[int32]*callParts{}}
	}
	return a.choices[index]
}

// choiceParts is what was collected of one choice.
type choiceParts struct {
	role           togetherchatv1.Role
	text           strings.Builder
	reasoning      strings.Builder
	reasoningField togetherchatv1.ReasoningField
	refusal        strings.Builder
	calls          map[int32]*callParts
	logprobs       []*togetherchatv1.TokenLogprob
	hasLogprobs    bool
	finished       *togetherchatv1.ChoiceFinished
}

func (c *choiceParts) add(delta *togetherchatv1.Delta) {
	if delta.GetRole() != togetherchatv1.Role_ROLE_UNSPECIFIED {
		c.role = delta.GetRole()
	}
	if delta.GetReasoningField() != togetherchatv1.ReasoningField_REASONING_FIELD_UNSPECIFIED {
		c.reasoningField = delta.GetReasoningField()
	}
	c.text.WriteString(delta.GetText())
	c.reasoning.WriteString(delta.GetReasoning())
	c.refusal.WriteString(delta.GetRefusal())
	for _, piece := range delta.GetToolCalls() {
		c.call(piece.GetIndex()).add(piece)
	}
	if delta.GetLogprobs() != nil {
		c.hasLogprobs = true
		c.logprobs = append(c.logprobs, delta.GetLogprobs().GetTokens()...)
	}
}

func (c *choiceParts) call(index int32) *callParts {
	if c.calls[index] == nil {
		c.calls[index] = &callParts{}
	}
	return c.calls[index]
}

func (c *choiceParts) build(index int32) *togetherchatv1.Choice {
	choice := &togetherchatv1.Choice{
		Index: index,
		Message: &togetherchatv1.Message{
			Role:           c.role,
			Reasoning:      c.reasoning.String(),
			ReasoningField: c.reasoningField,
			Refusal:        c.refusal.String(),
		},
		FinishReason:    c.finished.GetFinishReason(),
		FinishReasonRaw: c.finished.GetFinishReasonRaw(),
	}
	if c.finished != nil {
		choice.Seed = c.finished.Seed
	}
	if c.text.Len() > 0 {
		choice.Message.Content = []*togetherchatv1.ContentPart{textPart(c.text.String())}
	}
	for _, call := range slices.Sorted(maps.Keys(c.calls)) {
		choice.Message.ToolCalls = append(choice.Message.ToolCalls, c.calls[call].build())
	}
	if c.hasLogprobs {
		choice.Logprobs = &togetherchatv1.Logprobs{Tokens: slices.Clone(c.logprobs)}
	}
	return choice
}

// callParts is what was collected of one tool call.
type callParts struct {
	id        string
	name      string
	arguments strings.Builder
}

func (c *callParts) add(piece *togetherchatv1.ToolCallDelta) {
	if piece.GetId() != "" {
		c.id = piece.GetId()
	}
	if piece.GetName() != "" {
		c.name = piece.GetName()
	}
	c.arguments.WriteString(piece.GetArguments())
}

func (c *callParts) build() *togetherchatv1.ToolCall {
	function := &togetherchatv1.FunctionCall{Name: c.name, Arguments: c.arguments.String()}
	return &togetherchatv1.ToolCall{
		Id:   c.id,
		Call: &togetherchatv1.ToolCall_Function{Function: function},
	}
}
