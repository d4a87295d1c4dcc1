// Command complete sends one question and prints the completion, its token count, model and provider.
// When the service asks for a wait, the command waits and retries.
//
//	complete [-target localhost:50051] [-model openai/gpt-oss-120b] What is gRPC?
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
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

const attemptsMax = 3

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
	request.Temperature = proto.Float64(0.2)
	var info togetherchat.CallInfo
	response, err := withRetries(ctx, func() (*togetherchatv1.CompleteResponse, error) {
		return client.Complete(ctx, request, togetherchat.WithInfo(&info))
	})
	if err != nil {
		return err
	}
	fmt.Println(togetherchat.Text(response))
	fmt.Fprintf(os.Stderr, "%d tokens of %s by %s, request %s\n",
		response.GetUsage().GetTotalTokens(), response.GetModel(), info.Upstream, info.RequestID)
	return nil
}

// withRetries repeats a retryable call after the wait that the service requested.
func withRetries(
	ctx context.Context, call func() (*togetherchatv1.CompleteResponse, error),
) (*togetherchatv1.CompleteResponse, error) {
	for attempt := 1; ; attempt++ {
		response, err := call()
		var chatErr *togetherchat.Error
		if !errors.As(err, &chatErr) || !chatErr.Retryable || attempt == attemptsMax {
			return response, err
		}
		select {
		case <-time.After(chatErr.RetryAfter):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
