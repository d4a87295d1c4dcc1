// A minimal translator from the contract to HTTP: the lower limit of the cost of a compiled service.
//
// It contains the shortest path from a CompleteRequest to the upstream and back with grpc-go and net/http.
// It has no validation, limits, retries, useful errors, metrics or log, and ignores all fields that the
// benchmark does not send.
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

// The upstream's JSON: the fields that the benchmark uses ----------------------------------------

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

type jsonCompletion struct {
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

func (t *translator) post(ctx context.Context, request *contract.CompleteRequest, stream bool) (io.ReadCloser, error) {
	payload := jsonRequest{Model: request.GetModel(), MaxTokens: request.MaxTokens, Stream: stream}
	for _, message := range request.GetMessages() {
		var text string
		for _, part := range message.GetContent() {
			text += part.GetText()
		}
		payload.Messages = append(payload.Messages, jsonMessage{Role: roles[message.GetRole()], Content: text})
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, status.Error(codes.Internal, "the request could not be encoded")
	}
	httpRequest, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, status.Error(codes.Internal, "the upstream request could not be created")
	}
	httpRequest.Header.Set("Content-Type", "application/json")
	httpRequest.Header.Set("Authorization", "Bearer bench")
	httpResponse, err := t.client.Do(httpRequest)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "the upstream could not be reached")
	}
	if httpResponse.StatusCode != http.StatusOK {
		httpResponse.Body.Close()
		return nil, status.Error(codes.Unavailable, httpResponse.Status)
	}
	return httpResponse.Body, nil
}

func (t *translator) Complete(ctx context.Context, request *contract.CompleteRequest) (*contract.CompleteResponse, error) {
	body, err := t.post(ctx, request, false)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "the response body could not be read")
	}
	var completion jsonCompletion
	if err := json.Unmarshal(text, &completion); err != nil {
		return nil, status.Error(codes.Internal, "the response is not valid JSON")
	}
	response := &contract.CompleteResponse{
		Id: completion.ID, Model: completion.Model, CreateTime: &timestamppb.Timestamp{Seconds: completion.Created}, Usage: usage(completion.Usage),
	}
	for _, choice := range completion.Choices {
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
	body, err := t.post(stream.Context(), request, true)
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
		var chunk jsonCompletion
		if err := json.Unmarshal(data, &chunk); err != nil {
			return status.Error(codes.Internal, "an event is not valid JSON")
		}
		if !started {
			started = true
			if err := stream.Send(startedEvent(&chunk)); err != nil {
				return err
			}
		}
		for _, event := range events(&chunk) {
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
	return status.Error(codes.Unavailable, "the stream ended without [DONE]")
}

func startedEvent(chunk *jsonCompletion) *contract.StreamCompleteResponse {
	return &contract.StreamCompleteResponse{Event: &contract.StreamCompleteResponse_Started{
		Started: &contract.Started{Id: chunk.ID, Model: chunk.Model, CreateTime: &timestamppb.Timestamp{Seconds: chunk.Created}},
	}}
}

func events(chunk *jsonCompletion) []*contract.StreamCompleteResponse {
	var out []*contract.StreamCompleteResponse
	for _, choice := range chunk.Choices {
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
	if chunk.Usage != nil {
		out = append(out, &contract.StreamCompleteResponse{Event: &contract.StreamCompleteResponse_Completed{
			Completed: &contract.Completed{Usage: usage(chunk.Usage)},
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
