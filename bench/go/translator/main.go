// A minimal translator of the contract into HTTP, compiled: the limit that the service is compared with.
//
// It owns the shortest way from a CompleteRequest to the upstream and back that grpc-go and net/http
// give, and refuses everything that a service needs beyond that: no validation, no limits, no retries,
// no errors worth reading, no metrics, no log, and none of the fields that the benchmark does not send.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	contract "togetherchat.bench/contract/togetherchat/v1"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "HOST:PORT")
	upstream := flag.String("upstream", "", "base URL")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	contract.RegisterChatServiceServer(server, &translator{
		url: *upstream + "/chat/completions",
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 16384,
			DisableCompression:  true,
		}},
	})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	fmt.Println(listener.Addr())
	log.Fatal(server.Serve(listener))
}

type translator struct {
	contract.UnimplementedChatServiceServer
	url    string
	client *http.Client
}

// The upstream's JSON, as far as the benchmark uses it ------------------------------------------

type jsonMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type jsonRequest struct {
	Model     string        `json:"model"`
	Messages  []jsonMessage `json:"messages"`
	MaxTokens *int32        `json:"max_tokens,omitempty"`
	Stream    bool          `json:"stream,omitempty"`
}

type jsonUsage struct {
	PromptTokens     int32 `json:"prompt_tokens"`
	CompletionTokens int32 `json:"completion_tokens"`
	TotalTokens      int32 `json:"total_tokens"`
}

type jsonAnswer struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Created int64  `json:"created"`
	Choices []struct {
		Index        int32       `json:"index"`
		Message      jsonMessage `json:"message"`
		Delta        jsonMessage `json:"delta"`
		FinishReason string      `json:"finish_reason"`
	} `json:"choices"`
	Usage *jsonUsage `json:"usage"`
}

var roles = map[contract.Role]string{
	contract.Role_ROLE_SYSTEM:    "system",
	contract.Role_ROLE_USER:      "user",
	contract.Role_ROLE_ASSISTANT: "assistant",
}

func (t *translator) ask(ctx context.Context, request *contract.CompleteRequest, stream bool) (io.ReadCloser, error) {
	asked := jsonRequest{Model: request.GetModel(), MaxTokens: request.MaxTokens, Stream: stream}
	for _, message := range request.GetMessages() {
		var text string
		for _, part := range message.GetContent() {
			text += part.GetText()
		}
		asked.Messages = append(asked.Messages, jsonMessage{Role: roles[message.GetRole()], Content: text})
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return nil, status.Error(codes.Internal, "encoding")
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, status.Error(codes.Internal, "request")
	}
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("Authorization", "Bearer bench")
	answer, err := t.client.Do(post)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "upstream")
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, status.Error(codes.Unavailable, answer.Status)
	}
	return answer.Body, nil
}

func (t *translator) Complete(ctx context.Context, request *contract.CompleteRequest) (*contract.CompleteResponse, error) {
	body, err := t.ask(ctx, request, false)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "body")
	}
	var answer jsonAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, status.Error(codes.Internal, "answer")
	}
	response := &contract.CompleteResponse{
		Id: answer.ID, Model: answer.Model, CreateTime: &timestamppb.Timestamp{Seconds: answer.Created}, Usage: usage(answer.Usage),
	}
	for _, choice := range answer.Choices {
		response.Choices = append(response.Choices, &contract.Choice{
			Index:        choice.Index,
			FinishReason: contract.FinishReason_FINISH_REASON_STOP,
			Message: &contract.Message{
				Role:    contract.Role_ROLE_ASSISTANT,
				Content: []*contract.ContentPart{{Part: &contract.ContentPart_Text{Text: choice.Message.Content}}},
			},
		})
	}
	return response, nil
}

func (t *translator) StreamComplete(request *contract.CompleteRequest, stream grpc.ServerStreamingServer[contract.StreamCompleteResponse]) error {
	body, err := t.ask(stream.Context(), request, true)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	started := false
	for lines.Scan() {
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !found {
			continue
		}
		if bytes.Equal(data, []byte("[DONE]")) {
			return nil
		}
		var piece jsonAnswer
		if err := json.Unmarshal(data, &piece); err != nil {
			return status.Error(codes.Internal, "event")
		}
		if !started {
			started = true
			if err := stream.Send(begun(&piece)); err != nil {
				return err
			}
		}
		for _, event := range events(&piece) {
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
	return status.Error(codes.Unavailable, "cut short")
}

func begun(piece *jsonAnswer) *contract.StreamCompleteResponse {
	return &contract.StreamCompleteResponse{Event: &contract.StreamCompleteResponse_Started{
		Started: &contract.Started{Id: piece.ID, Model: piece.Model, CreateTime: &timestamppb.Timestamp{Seconds: piece.Created}},
	}}
}

func events(piece *jsonAnswer) []*contract.StreamCompleteResponse {
	var out []*contract.StreamCompleteResponse
	for _, choice := range piece.Choices {
		if choice.Delta.Content != "" {
			out = append(out, &contract.StreamCompleteResponse{Event: &contract.StreamCompleteResponse_Delta{
				Delta: &contract.Delta{ChoiceIndex: choice.Index, Text: choice.Delta.Content},
			}})
		}
		if choice.FinishReason != "" {
			out = append(out, &contract.StreamCompleteResponse{Event: &contract.StreamCompleteResponse_ChoiceFinished{
				ChoiceFinished: &contract.ChoiceFinished{ChoiceIndex: choice.Index, FinishReason: contract.FinishReason_FINISH_REASON_STOP},
			}})
		}
	}
	if piece.Usage != nil {
		out = append(out, &contract.StreamCompleteResponse{Event: &contract.StreamCompleteResponse_Completed{
			Completed: &contract.Completed{Usage: usage(piece.Usage)},
		}})
	}
	return out
}

func usage(from *jsonUsage) *contract.Usage {
	if from == nil {
		return nil
	}
	return &contract.Usage{
		PromptTokens: from.PromptTokens, CompletionTokens: from.CompletionTokens, TotalTokens: from.TotalTokens,
	}
}
