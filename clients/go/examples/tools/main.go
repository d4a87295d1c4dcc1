// Command tools lets the model call a function of this program until it can answer.
//
//	tools [-target localhost:50051] [-model openai/gpt-oss-120b] What is the weather in Paris?
//
// The key, where the service wants one, is read from TOGETHERCHAT_KEY.
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

// roundsMax bounds a model that never stops asking.
const roundsMax = 5

const parameters = `{
  "type": "object",
  "properties": {"city": {"type": "string", "description": "Such as Paris"}},
  "required": ["city"]
}`

func main() {
	target := flag.String("target", "localhost:50051", "where the service is")
	model := flag.String("model", "openai/gpt-oss-120b", "the model to ask")
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

	request := togetherchat.Ask(model, question)
	request.Tools = []*togetherchatv1.Tool{
		togetherchat.FunctionTool("get_weather", "The weather in a city, now.", parameters),
	}
	for range roundsMax {
		answer, err := client.Stream(ctx, request).Collect()
		if err != nil {
			return err
		}
		turn := togetherchat.First(answer)
		if len(turn.GetToolCalls()) == 0 {
			fmt.Println(togetherchat.TextOf(turn))
			return nil
		}
		// The model's turn goes back unchanged, thinking included, and its results after it.
		request.Messages = append(request.Messages, turn)
		for _, call := range turn.GetToolCalls() {
			result := use(call.GetFunction())
			fmt.Fprintf(os.Stderr, "%s(%s) = %s\n",
				call.GetFunction().GetName(), call.GetFunction().GetArguments(), result)
			request.Messages = append(request.Messages, togetherchat.ToolResult(call, result))
		}
	}
	return fmt.Errorf("no answer after %d rounds", roundsMax)
}

// use calls the function that the model asked for. What is wrong with the call is for the model to
// read: it may mend it.
func use(function *togetherchatv1.FunctionCall) string {
	var arguments struct {
		City string `json:"city"`
	}
	if function.GetName() != "get_weather" {
		return "error: there is no function " + function.GetName()
	}
	if err := json.Unmarshal([]byte(function.GetArguments()), &arguments); err != nil {
		return "error: the arguments are no JSON"
	}
	return "18 degrees and sunny in " + arguments.City
}
