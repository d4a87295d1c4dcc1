package sdks

import (
	"errors"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

// Tests OpenAI's library for Go.
func TestOpenAIGo(t *testing.T) {
	c := openAIGo{newOpenAIGo(baseURL(t))}
	client{
		name:   "openai-go (Go)",
		source: "tests/sdks/go/openai_go_test.go",
		call:   c.call, stream: c.stream, tools: c.tools, schema: c.schema, errs: c.errors, cancel: c.cancel,
	}.run(t)
}

type openAIGo struct{ openai.Client }

func newOpenAIGo(baseURL string) openai.Client {
	// docs: begin
	client := openai.NewClient(option.WithBaseURL(baseURL), option.WithAPIKey("YOUR_KEY"))
	// docs: end
	return client
}

func (c openAIGo) call(t *testing.T) {
	response, err := c.Chat.Completions.New(t.Context(), openAIGoRequest(model, say))
	if err != nil {
		t.Fatal(err)
	}
	choice := response.Choices[0]
	if choice.Message.Content != text || choice.FinishReason != "stop" || response.Usage.TotalTokens == 0 {
		t.Fatalf("received %s", response.RawJSON())
	}
}

func (c openAIGo) stream(t *testing.T) {
	stream := c.Chat.Completions.NewStreaming(t.Context(), openAIGoRequest(model, sayLong))
	defer stream.Close()
	var whole openai.ChatCompletionAccumulator
	chunks := 0
	for ; stream.Next(); chunks++ {
		if !whole.AddChunk(stream.Current()) {
			t.Fatalf("the accumulator rejected %s", stream.Current().RawJSON())
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	if whole.Choices[0].Message.Content != long || whole.Usage.TotalTokens == 0 || chunks < 3 {
		t.Fatalf("received %q, %d tokens, in %d chunks", whole.Choices[0].Message.Content, whole.Usage.TotalTokens, chunks)
	}
}

func (c openAIGo) tools(t *testing.T) {
	request := openAIGoRequest(model, weatherQuestion)
	request.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name:        "get_weather",
		Description: openai.String("The weather of a city"),
		Parameters:  weatherParameters,
	})}
	first, err := c.Chat.Completions.New(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	message := first.Choices[0].Message
	call := message.ToolCalls[0]
	checkArguments(t, call.Function.Name, call.Function.Arguments)

	request.Messages = append(request.Messages, message.ToParam(), openai.ToolMessage("Rain.", call.ID))
	second, err := c.Chat.Completions.New(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(second.Choices[0].Message.Content, "Rain.") {
		t.Fatalf("received %s", second.RawJSON())
	}
}

func (c openAIGo) schema(t *testing.T) {
	request := openAIGoRequest(model, personQuestion)
	request.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
			Name: "person", Schema: personSchema, Strict: openai.Bool(true),
		},
	}
	response, err := c.Chat.Completions.New(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	checkPerson(t, response.Choices[0].Message.Content)
}

func (c openAIGo) errors(t *testing.T) {
	for _, status := range statuses {
		request := openAIGoRequest(errorModel(status), say)
		_, err := c.Chat.Completions.New(t.Context(), request, option.WithMaxRetries(0))
		var failure *openai.Error
		if !errors.As(err, &failure) || failure.StatusCode != status || failure.Code == "" || failure.Message == "" {
			t.Fatalf("%d: %v", status, err)
		}
	}
	for _, failing := range failingStreams {
		stream := c.Chat.Completions.NewStreaming(t.Context(), openAIGoRequest(failing, say))
		chunks := 0
		for ; stream.Next(); chunks++ {
		}
		if stream.Err() == nil || chunks == 0 {
			t.Fatalf("%s: %d chunks, then %v", failing, chunks, stream.Err())
		}
	}
}

func (c openAIGo) cancel(t *testing.T) {
	stalling := "sandbox/stall-after-2"
	stream := c.Chat.Completions.NewStreaming(t.Context(), openAIGoRequest(stalling, say))
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	stream.Close()
	if end := endOf(t, stalling); end != "client_closed" {
		t.Fatal(end)
	}
}

func openAIGoRequest(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
	}
}
