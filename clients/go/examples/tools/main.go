// Command tools runs a tool loop: the model calls a function of this program until it replies with text.
//
//	tools [-target localhost:50051] [-model openai/gpt-oss-120b] What is the weather in Paris?
//
// Set TOGETHERCHAT_KEY if the service requires a key.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// roundsMax stops a model that calls the function again and again.
const roundsMax = 5

const parameters = `{
  "type": "object",
  "properties": {"city": {"type": "string", "description": "Such as Paris"}},
  "required": ["city"]
}`

func main() {
	target := flag.String("target", "localhost:50051", "address of the service")
	model := flag.String("model", "openai/gpt-oss-120b", "model id")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *target, *model, strings.Join(flag.Args(), " ")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, target, model, question string) error {
	var key togetherchat.KeyOption
	if text := os.Getenv("TOGETHERCHAT_KEY"); text != "" {
		key = togetherchat.WithKey(text)
	}
	client, err := togetherchat.Dial(target, key)
	if err != nil {
		return err
	}
	defer client.Close()

	request := togetherchat.NewRequest(model, question)
	request.Tools = []*togetherchatv1.Tool{
		togetherchat.FunctionTool("get_weather", "The weather in a city, now.", parameters),
	}
	for range roundsMax {
		response, err := client.Stream(ctx, request).Collect()
		if err != nil {
			return err
		}
		turn := togetherchat.FirstMessage(response)
		if len(turn.GetToolCalls()) == 0 {
			fmt.Println(togetherchat.TextOf(turn))
			return nil
		}
		// Send the model's message back unchanged, reasoning included, followed by the results.
		request.Messages = append(request.Messages, turn)
		for _, call := range turn.GetToolCalls() {
			result := callFunction(call.GetFunction())
			fmt.Fprintf(os.Stderr, "%s(%s) = %s\n",
				call.GetFunction().GetName(), call.GetFunction().GetArguments(), result)
			request.Messages = append(request.Messages, togetherchat.ToolResult(call, result))
		}
	}
	return fmt.Errorf("no final message after %d rounds", roundsMax)
}

// callFunction runs the function that the model called. Errors are returned to the model, which may
// correct its call.
func callFunction(function *togetherchatv1.FunctionCall) string {
	var arguments struct {
		City string `json:"city"`
	}
	if function.GetName() != "get_weather" {
		return "error: unknown function " + function.GetName()
	}
	if err := json.Unmarshal([]byte(function.GetArguments()), &arguments); err != nil {
		return "error: the arguments are not JSON"
	}
	return "18 degrees and sunny in " + arguments.City
}
