package sdks

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	openai "github.com/sashabaranov/go-openai"
)

// Tests sashabaranov/go-openai, the library that most Go programs use.
func TestGoOpenAI(t *testing.T) {
	c := goOpenAI{newGoOpenAI(baseURL(t))}
	client{
		name:   "go-openai (Go)",
		source: "tests/sdks/go/go_openai_test.go",
		call:   c.call, stream: c.stream, tools: c.tools, schema: c.schema, errs: c.errors, cancel: c.cancel,
	}.run(t)
}

type goOpenAI struct{ *openai.Client }

func newGoOpenAI(baseURL string) *openai.Client {
	// docs: begin
	config := openai.DefaultConfig("YOUR_KEY")
	config.BaseURL = baseURL
	client := openai.NewClientWithConfig(config)
	// docs: end
	return client
}

func (c goOpenAI) call(t *testing.T) {
	response, err := c.CreateChatCompletion(t.Context(), goOpenAIRequest(model, say))
	if err != nil {
		t.Fatal(err)
	}
	choice := response.Choices[0]
	if choice.Message.Content != text || choice.FinishReason != openai.FinishReasonStop || response.Usage.TotalTokens == 0 {
		t.Fatalf("received %+v", response)
	}
}

func (c goOpenAI) stream(t *testing.T) {
	pieces, err := c.read(t, goOpenAIRequest(model, sayLong))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(pieces, "") != long || len(pieces) < 2 {
		t.Fatalf("received %q", pieces)
	}
}

func (c goOpenAI) tools(t *testing.T) {
	request := goOpenAIRequest(model, weatherQuestion)
	request.Tools = []openai.Tool{{
		Type: openai.ToolTypeFunction,
		Function: &openai.FunctionDefinition{
			Name: "get_weather", Description: "The weather of a city", Parameters: weatherParameters,
		},
	}}
	first, err := c.CreateChatCompletion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	message := first.Choices[0].Message
	call := message.ToolCalls[0]
	checkArguments(t, call.Function.Name, call.Function.Arguments)

	result := openai.ChatCompletionMessage{Role: openai.ChatMessageRoleTool, ToolCallID: call.ID, Content: "Rain."}
	request.Messages = append(request.Messages, message, result)
	second, err := c.CreateChatCompletion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(second.Choices[0].Message.Content, "Rain.") {
		t.Fatalf("received %+v", second)
	}
}

func (c goOpenAI) schema(t *testing.T) {
	schema, err := json.Marshal(personSchema)
	if err != nil {
		t.Fatal(err)
	}
	request := goOpenAIRequest(model, personQuestion)
	request.ResponseFormat = &openai.ChatCompletionResponseFormat{
		Type: openai.ChatCompletionResponseFormatTypeJSONSchema,
		JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{
			Name: "person", Schema: json.RawMessage(schema), Strict: true,
		},
	}
	response, err := c.CreateChatCompletion(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	checkPerson(t, response.Choices[0].Message.Content)
}

func (c goOpenAI) errors(t *testing.T) {
	for _, status := range statuses {
		_, err := c.CreateChatCompletion(t.Context(), goOpenAIRequest(errorModel(status), say))
		var failure *openai.APIError
		if !errors.As(err, &failure) || failure.HTTPStatusCode != status || failure.Code == nil || failure.Message == "" {
			t.Fatalf("%d: %v", status, err)
		}
	}
	for _, failing := range failingStreams {
		pieces, err := c.read(t, goOpenAIRequest(failing, say))
		if err == nil || len(pieces) == 0 {
			t.Fatalf("%s: %q, then %v", failing, pieces, err)
		}
	}
}

func (c goOpenAI) cancel(t *testing.T) {
	stalling := "sandbox/stall-after-3"
	stream, err := c.CreateChatCompletionStream(t.Context(), goOpenAIRequest(stalling, say))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if end := endOf(t, stalling); end != "client_closed" {
		t.Fatal(end)
	}
}

// read returns the texts of a stream.
func (c goOpenAI) read(t *testing.T, request openai.ChatCompletionRequest) (pieces []string, err error) {
	stream, err := c.CreateChatCompletionStream(t.Context(), request)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return pieces, nil
		}
		if err != nil {
			return pieces, err
		}
		for _, choice := range chunk.Choices {
			if choice.Delta.Content != "" {
				pieces = append(pieces, choice.Delta.Content)
			}
		}
	}
}

func goOpenAIRequest(model, text string) openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{
		Model:    model,
		Messages: []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: text}},
	}
}
