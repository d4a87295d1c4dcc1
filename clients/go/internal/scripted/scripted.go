// Package scripted is a fake chat service whose responses are functions of the test. It does not use
// the client library.
package scripted

import (
	"context"
	"crypto/tls"
	"net"

	spb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// Service calls its functions for each RPC; an RPC whose function is nil is UNIMPLEMENTED.
type Service struct {
	togetherchatv1.UnimplementedChatServiceServer

	OnComplete func(context.Context, *togetherchatv1.CompleteRequest) (*togetherchatv1.CompleteResponse, error)
	OnStream   func(
		*togetherchatv1.CompleteRequest, grpc.ServerStreamingServer[togetherchatv1.StreamCompleteResponse],
	) error
	OnListModels func(
		context.Context, *togetherchatv1.ListModelsRequest,
	) (*togetherchatv1.ListModelsResponse, error)
	// NotServing makes the health service report NOT_SERVING.
	NotServing bool
	// Watch is called before each health watch. A watch for which it returns an error ends with that error.
	Watch func(context.Context) error
	// TLS is the TLS configuration; nil means plaintext.
	TLS *tls.Config
}

// Start serves on a free loopback port. It returns the address and a function that stops the server.
func (s *Service) Start() (target string, stop func()) {
	return s.start("127.0.0.1:0")
}

// StartAt serves at an address that an earlier server had. It returns a function that stops the server.
func (s *Service) StartAt(target string) (stop func()) {
	_, stop = s.start(target)
	return stop
}

// CodeName returns the name of a status code as gRPC's specification spells it.
func CodeName(code codes.Code) string {
	return spb.Code(code).String()
}

func (s *Service) start(at string) (target string, stop func()) {
	listener, err := net.Listen("tcp", at)
	if err != nil {
		panic(err)
	}
	transport := insecure.NewCredentials()
	if s.TLS != nil {
		transport = credentials.NewTLS(s.TLS)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.Creds(transport))
	togetherchatv1.RegisterChatServiceServer(server, s)
	serving := grpc_health_v1.HealthCheckResponse_SERVING
	if s.NotServing {
		serving = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	state := health.NewServer()
	state.SetServingStatus(togetherchatv1.ChatService_ServiceDesc.ServiceName, serving)
	grpc_health_v1.RegisterHealthServer(server, &watched{Server: state, before: s.Watch})
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), server.Stop
}

// watched is a health service whose watches may be held back or rejected.
type watched struct {
	*health.Server
	before func(context.Context) error
}

// Watch implements HealthServer.
func (w *watched) Watch(
	request *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer,
) error {
	if w.before != nil {
		if err := w.before(stream.Context()); err != nil {
			return err
		}
	}
	return w.Server.Watch(request, stream)
}

// Complete implements ChatServiceServer.
func (s *Service) Complete(
	ctx context.Context, request *togetherchatv1.CompleteRequest,
) (*togetherchatv1.CompleteResponse, error) {
	if s.OnComplete == nil {
		return s.UnimplementedChatServiceServer.Complete(ctx, request)
	}
	return s.OnComplete(ctx, request)
}

// StreamComplete implements ChatServiceServer.
func (s *Service) StreamComplete(
	request *togetherchatv1.CompleteRequest,
	stream grpc.ServerStreamingServer[togetherchatv1.StreamCompleteResponse],
) error {
	if s.OnStream == nil {
		return s.UnimplementedChatServiceServer.StreamComplete(request, stream)
	}
	return s.OnStream(request, stream)
}

// ListModels implements ChatServiceServer.
func (s *Service) ListModels(
	ctx context.Context, request *togetherchatv1.ListModelsRequest,
) (*togetherchatv1.ListModelsResponse, error) {
	if s.OnListModels == nil {
		return s.UnimplementedChatServiceServer.ListModels(ctx, request)
	}
	return s.OnListModels(ctx, request)
}

// Failure returns the error of a status with the service's ErrorInfo and more details.
func Failure(code codes.Code, reason, message string, more ...protoadapt.MessageV1) error {
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "togetherchat", Reason: reason}}, more...)
	failed, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return failed.Err()
}

// Started returns the first event of a stream.
func Started(id, model string) *togetherchatv1.StreamCompleteResponse {
	return &togetherchatv1.StreamCompleteResponse{Event: &togetherchatv1.StreamCompleteResponse_Started{
		Started: &togetherchatv1.Started{Id: id, Model: model},
	}}
}

// Delta returns the event of a delta.
func Delta(delta *togetherchatv1.Delta) *togetherchatv1.StreamCompleteResponse {
	return &togetherchatv1.StreamCompleteResponse{
		Event: &togetherchatv1.StreamCompleteResponse_Delta{Delta: delta},
	}
}

// Text returns the event of a text delta of the first choice.
func Text(text string) *togetherchatv1.StreamCompleteResponse {
	return Delta(&togetherchatv1.Delta{Text: text})
}

// Finished returns the last event of a choice.
func Finished(finished *togetherchatv1.ChoiceFinished) *togetherchatv1.StreamCompleteResponse {
	return &togetherchatv1.StreamCompleteResponse{
		Event: &togetherchatv1.StreamCompleteResponse_ChoiceFinished{ChoiceFinished: finished},
	}
}

// Completed returns the last event of a stream.
func Completed(completed *togetherchatv1.Completed) *togetherchatv1.StreamCompleteResponse {
	return &togetherchatv1.StreamCompleteResponse{
		Event: &togetherchatv1.StreamCompleteResponse_Completed{Completed: completed},
	}
}

// Unknown returns an event of a later contract version, in field 99.
func Unknown() *togetherchatv1.StreamCompleteResponse {
	event := &togetherchatv1.StreamCompleteResponse{}
	event.ProtoReflect().SetUnknown([]byte("\x9a\x06\x03abc"))
	return event
}
