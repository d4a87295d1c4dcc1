package togetherchat

import (
	"strings"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// NewRequest returns a request with one user message. Set further fields on it.
func NewRequest(model, text string) *togetherchatv1.CompleteRequest {
	return &togetherchatv1.CompleteRequest{
		Model:    model,
		Messages: []*togetherchatv1.Message{User(text)},
	}
}

// System returns a message with instructions for the whole conversation.
func System(text string) *togetherchatv1.Message {
	return message(togetherchatv1.Role_ROLE_SYSTEM, text)
}

// User returns a message of the user.
func User(text string) *togetherchatv1.Message {
	return message(togetherchatv1.Role_ROLE_USER, text)
}

// Assistant returns a message of the model. The message of a response can be appended unchanged.
func Assistant(text string) *togetherchatv1.Message {
	return message(togetherchatv1.Role_ROLE_ASSISTANT, text)
}

// ToolResult returns a message with the result of a tool call.
func ToolResult(call *togetherchatv1.ToolCall, text string) *togetherchatv1.Message {
	result := message(togetherchatv1.Role_ROLE_TOOL, text)
	result.ToolCallId = call.GetId()
	return result
}

// FunctionTool returns a function that the model may call. parametersJSON is a JSON Schema; it is
// sent byte for byte.
func FunctionTool(name, description, parametersJSON string) *togetherchatv1.Tool {
	return &togetherchatv1.Tool{Tool: &togetherchatv1.Tool_Function{Function: &togetherchatv1.FunctionTool{
		Name: name, Description: description, ParametersJson: parametersJSON,
	}}}
}

// Text returns the text of a response's first choice, or "".
func Text(response *togetherchatv1.CompleteResponse) string {
	return TextOf(FirstMessage(response))
}

// FirstMessage returns the message of a response's first choice, or nil.
func FirstMessage(response *togetherchatv1.CompleteResponse) *togetherchatv1.Message {
	for _, choice := range response.GetChoices() {
		if choice.GetIndex() == 0 {
			return choice.GetMessage()
		}
	}
	return nil
}

// TextOf returns the text of a message, or "".
func TextOf(message *togetherchatv1.Message) string {
	var text strings.Builder
	for _, part := range message.GetContent() {
		text.WriteString(part.GetText())
	}
	return text.String()
}

func message(role togetherchatv1.Role, text string) *togetherchatv1.Message {
	return &togetherchatv1.Message{Role: role, Content: []*togetherchatv1.ContentPart{textPart(text)}}
}

func textPart(text string) *togetherchatv1.ContentPart {
	return &togetherchatv1.ContentPart{Part: &togetherchatv1.ContentPart_Text{Text: text}}
}
