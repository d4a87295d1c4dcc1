// Command stream prints a completion while the model generates it. Ctrl-C cancels the call, and the
// provider stops generating.
//
//	stream [-target localhost:50051] [-model openai/gpt-oss-120b] What is gRPC?
//
// Set TOGETHERCHAT_KEY if the service requires a key.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

func main() {
	target := flag.String("target", "localhost:50051", "address of the service")
	model := flag.String("model", "openai/gpt-oss-120b", "model id")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, *target, *model, strings.Join(flag.Args(), " "))
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "\nstopped")
		return
	}
	if err != nil {
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

	stream := client.Stream(ctx, togetherchat.NewRequest(model, question))
	reasoning := false
	for event, err := range stream.Events() {
		if err != nil {
			return err
		}
		delta := event.GetDelta()
		if !reasoning && delta.GetReasoning() != "" {
			reasoning = true
			fmt.Fprintln(os.Stderr, "(reasoning)")
		}
		fmt.Print(delta.GetText())
	}
	fmt.Println()
	response := stream.Response()
	for _, choice := range response.GetChoices() {
		fmt.Fprintf(os.Stderr, "%v after %d tokens\n",
			choice.GetFinishReason(), response.GetUsage().GetCompletionTokens())
	}
	return nil
}
