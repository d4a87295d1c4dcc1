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
	"google.golang.org/grpc/metadata"

	contract "togetherchat.bench/contract/togetherchat/v1"
)

// grpcLoad spreads streams over connections, like many callers.
type grpcLoad struct {
	connections []*grpc.ClientConn
	next        atomic.Int64
	request     *contract.CompleteRequest
	headers     metadata.MD
}

func newGRPCLoad(opts options) *grpcLoad {
	load := &grpcLoad{request: &contract.CompleteRequest{Model: opts.model, Messages: []*contract.Message{{
		Role:    contract.Role_ROLE_USER,
		Content: []*contract.ContentPart{{Part: &contract.ContentPart_Text{Text: prompt}}},
	}}}}
	load.headers = metadata.New(opts.headers)
	connections := opts.connections
	if connections == 0 {
		connections = (opts.streams + opts.perConnection - 1) / opts.perConnection
	}
	for range connections {
		connection, err := grpc.NewClient(opts.target,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10))
		if err != nil {
			log.Fatal(err)
		}
		load.connections = append(load.connections, connection)
	}
	return load
}

func (l *grpcLoad) stream(ctx context.Context, onText func(string)) error {
	connection := l.connections[int(l.next.Add(1))%len(l.connections)]
	events, err := contract.NewChatServiceClient(connection).StreamComplete(metadata.NewOutgoingContext(ctx, l.headers), l.request)
	if err != nil {
		return err
	}
	completed := false
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) && completed {
			return nil
		}
		if err != nil {
			return err
		}
		completed = completed || event.GetCompleted() != nil
		if text := event.GetDelta().GetText(); text != "" {
			onText(text)
		}
	}
}

func (l *grpcLoad) health(ctx context.Context) error {
	_, err := grpc_health_v1.NewHealthClient(l.connections[0]).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}
