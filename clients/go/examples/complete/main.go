// Command complete asks one question and prints the answer, what it used, and who gave it. When
// the service asks for patience, it waits and asks again.
//
//	complete [-target localhost:50051] [-model openai/gpt-oss-120b] What is gRPC?
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
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

const attemptsMax = 3

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
	request.Temperature = proto.Float64(0.2)
	var info togetherchat.CallInfo
	answer, err := patiently(ctx, func() (*togetherchatv1.CompleteResponse, error) {
		return client.Complete(ctx, request, togetherchat.WithInfo(&info))
	})
	if err != nil {
		return err
	}
	fmt.Println(togetherchat.Text(answer))
	fmt.Fprintf(os.Stderr, "%d tokens of %s by %s, request %s\n",
		answer.GetUsage().GetTotalTokens(), answer.GetModel(), info.Upstream, info.RequestID)
	return nil
}

// patiently calls again after the wait that the service asked for, while it says that this may help.
func patiently(
	ctx context.Context, call func() (*togetherchatv1.CompleteResponse, error),
) (*togetherchatv1.CompleteResponse, error) {
	for attempt := 1; ; attempt++ {
		answer, err := call()
		var chatErr *togetherchat.Error
		if !errors.As(err, &chatErr) || !chatErr.Retryable || attempt == attemptsMax {
			return answer, err
		}
		select {
		case <-time.After(chatErr.RetryAfter):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
