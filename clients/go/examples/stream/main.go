// Command stream prints an answer while it is made. Ctrl-C ends the answer, at the provider too.
//
//	stream [-target localhost:50051] [-model openai/gpt-oss-120b] What is gRPC?
//
// The key, where the service wants one, is read from TOGETHERCHAT_KEY.
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
	target := flag.String("target", "localhost:50051", "where the service is")
	model := flag.String("model", "openai/gpt-oss-120b", "the model to ask")
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

	stream := client.Stream(ctx, togetherchat.Ask(model, question))
	thinking := false
	for event, err := range stream.Events() {
		if err != nil {
			return err
		}
		delta := event.GetDelta()
		if !thinking && delta.GetReasoning() != "" {
			thinking = true
			fmt.Fprintln(os.Stderr, "(thinking)")
		}
		fmt.Print(delta.GetText())
	}
	fmt.Println()
	answer := stream.Response()
	for _, choice := range answer.GetChoices() {
		fmt.Fprintf(os.Stderr, "%v after %d tokens\n",
			choice.GetFinishReason(), answer.GetUsage().GetCompletionTokens())
	}
	return nil
}
