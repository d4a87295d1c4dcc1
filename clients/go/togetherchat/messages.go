package togetherchat

import (
	"strings"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// Ask is a request with one question of the user's. Set on it whatever else is wanted.
func Ask(model, question string) *togetherchatv1.CompleteRequest {
	return &togetherchatv1.CompleteRequest{
		Model:    model,
		Messages: []*togetherchatv1.Message{User(question)},
	}
}

// System is a message with instructions for the whole conversation.
func System(text string) *togetherchatv1.Message {
	return message(togetherchatv1.Role_ROLE_SYSTEM, text)
}

// User is a question.
func User(text string) *togetherchatv1.Message {
	return message(togetherchatv1.Role_ROLE_USER, text)
}

// Assistant is an answer of the model. One that came from a call can be appended as it is.
func Assistant(text string) *togetherchatv1.Message {
	return message(togetherchatv1.Role_ROLE_ASSISTANT, text)
}

// ToolResult is what a tool gave back for the call that asked for it.
func ToolResult(call *togetherchatv1.ToolCall, text string) *togetherchatv1.Message {
	result := message(togetherchatv1.Role_ROLE_TOOL, text)
	result.ToolCallId = call.GetId()
	return result
}

// FunctionTool is a function that the model may ask for. parametersJSON is a JSON Schema and goes
// out byte for byte.
func FunctionTool(name, description, parametersJSON string) *togetherchatv1.Tool {
	return &togetherchatv1.Tool{Tool: &togetherchatv1.Tool_Function{Function: &togetherchatv1.FunctionTool{
		Name: name, Description: description, ParametersJson: parametersJSON,
	}}}
}

// Text is the text of an answer's first choice; empty where there is none.
func Text(answer *togetherchatv1.CompleteResponse) string {
	return TextOf(First(answer))
}

// First is the message of an answer's first choice; nil where there is none.
func First(answer *togetherchatv1.CompleteResponse) *togetherchatv1.Message {
	for _, choice := range answer.GetChoices() {
		if choice.GetIndex() == 0 {
			return choice.GetMessage()
		}
	}
	return nil
}

// TextOf is the text of a message; empty where there is none.
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
