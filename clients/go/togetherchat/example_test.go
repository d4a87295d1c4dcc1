package togetherchat_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// target is the address of a scripted service for the examples.
var target string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	service := streaming(nil,
		scripted.Started("chat-1", "m"), scripted.Text("Hello, "), scripted.Text("world"),
		scripted.Completed(&togetherchatv1.Completed{Usage: &togetherchatv1.Usage{TotalTokens: 7}}),
	)
	service.OnComplete = func(
		_ context.Context, request *togetherchatv1.CompleteRequest,
	) (*togetherchatv1.CompleteResponse, error) {
		if len(request.GetMessages()) == 0 {
			return nil, scripted.Failure(codes.InvalidArgument, togetherchat.ReasonInvalidRequest, "1 violation",
				&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
					{Field: "messages", Description: "must not be empty"},
				}})
		}
		return accumulate(scripted.Text("Hello, world")), nil
	}
	var stop func()
	target, stop = service.Start()
	defer stop()
	return m.Run()
}

func ExampleClient_Complete() {
	client, err := togetherchat.Dial(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	response, err := client.Complete(context.Background(), togetherchat.NewRequest("openai/gpt-oss-120b", "Greet me"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(togetherchat.Text(response))
	// Output: Hello, world
}

func ExampleCompletionStream_Text() {
	client, err := togetherchat.Dial(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	stream := client.Stream(context.Background(), togetherchat.NewRequest("openai/gpt-oss-120b", "Greet me"))
	for text, err := range stream.Text() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", text)
	}
	fmt.Println(stream.Response().GetUsage().GetTotalTokens(), "tokens")
	// Output:
	// "Hello, "
	// "world"
	// 7 tokens
}

func ExampleCompletionStream_Collect() {
	client, err := togetherchat.Dial(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	stream := client.Stream(context.Background(), togetherchat.NewRequest("openai/gpt-oss-120b", "Greet me"))
	response, err := stream.Collect()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(togetherchat.Text(response))
	// Output: Hello, world
}

func ExampleError() {
	client, err := togetherchat.Dial(target)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Complete(context.Background(), &togetherchatv1.CompleteRequest{Model: "openai/gpt-oss-120b"})
	var chatErr *togetherchat.Error
	if errors.As(err, &chatErr) && chatErr.Reason == togetherchat.ReasonInvalidRequest {
		for _, violation := range chatErr.Violations {
			fmt.Println(violation.Field, violation.Description)
		}
	}
	// Output: messages must not be empty
}

func ExampleAccumulator() {
	var accumulator togetherchat.Accumulator
	for _, arguments := range []string{`{"city":`, `"Paris"}`} {
		accumulator.Add(&togetherchatv1.StreamCompleteResponse{Event: &togetherchatv1.StreamCompleteResponse_Delta{
			Delta: &togetherchatv1.Delta{ToolCalls: []*togetherchatv1.ToolCallDelta{{Arguments: arguments}}},
		}})
	}
	call := togetherchat.FirstMessage(accumulator.Response()).GetToolCalls()[0]
	fmt.Println(call.GetFunction().GetArguments(), accumulator.Whole())
	// Output: {"city":"Paris"} false
}
