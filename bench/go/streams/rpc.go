package main

import (
	"context"
	"errors"
	"io"
	"log"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	contract "togetherchat.bench/contract/togetherchat/v1"
)

// rpc spreads streams over connections, as many callers would.
type rpc struct {
	connections []*grpc.ClientConn
	next        atomic.Int64
	request     *contract.CompleteRequest
}

func overRPC(asked options) *rpc {
	made := &rpc{request: &contract.CompleteRequest{Model: asked.model, Messages: []*contract.Message{{
		Role:    contract.Role_ROLE_USER,
		Content: []*contract.ContentPart{{Part: &contract.ContentPart_Text{Text: prompt}}},
	}}}}
	for range (asked.streams + asked.perConnection - 1) / asked.perConnection {
		connection, err := grpc.NewClient(asked.target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10))
		if err != nil {
			log.Fatal(err)
		}
		made.connections = append(made.connections, connection)
	}
	return made
}

func (r *rpc) stream(ctx context.Context, heard func(string)) error {
	connection := r.connections[int(r.next.Add(1))%len(r.connections)]
	events, err := contract.NewChatServiceClient(connection).StreamComplete(ctx, r.request)
	if err != nil {
		return err
	}
	whole := false
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) && whole {
			return nil
		}
		if err != nil {
			return err
		}
		whole = whole || event.GetCompleted() != nil
		if text := event.GetDelta().GetText(); text != "" {
			heard(text)
		}
	}
}

func (r *rpc) health(ctx context.Context) error {
	_, err := grpc_health_v1.NewHealthClient(r.connections[0]).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}
