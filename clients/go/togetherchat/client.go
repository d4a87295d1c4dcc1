package togetherchat

import (
	"context"
	"errors"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// Client calls the service over one connection. A Client is safe for concurrent use; share it.
type Client struct {
	conn  *grpc.ClientConn
	gate  *healthGate // nil without health checks
	stub  togetherchatv1.ChatServiceClient
	usage togetherchatv1.UsageServiceClient
}

// Dial returns a client of the service at target: `host:port`, `dns:///host:port`, `unix:path`, or a
// target with a scheme whose resolver is registered with gRPC. The client connects when the first call
// is made. A target or option that cannot work is an [ArgumentError].
//
// The client uses plaintext for a target on this machine (localhost, 127.x, ::1, a unix socket) and
// TLS for any other, unless [WithTLS] or [WithPlaintext] is given.
func Dial(target string, options ...Option) (*Client, error) {
	local, err := checkTarget(target)
	if err != nil {
		return nil, err
	}
	plan, err := planDial(options)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target, plan.grpcOptions(local)...)
	if err != nil {
		return nil, err
	}
	if !plan.healthChecking {
		return newClient(conn, nil, conn), nil
	}
	plan.healthChecking = false
	plain, err := grpc.NewClient(target, plan.grpcOptions(local)...)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	gate := &healthGate{checked: conn, plain: plain, timeout: watchTimeout}
	return newClient(conn, gate, gate), nil
}

func newClient(conn *grpc.ClientConn, gate *healthGate, calls grpc.ClientConnInterface) *Client {
	return &Client{
		conn:  conn,
		gate:  gate,
		stub:  togetherchatv1.NewChatServiceClient(calls),
		usage: togetherchatv1.NewUsageServiceClient(calls),
	}
}

// Close closes the connection and cancels every call in flight.
func (c *Client) Close() error {
	if c.gate != nil {
		return c.gate.Close()
	}
	return c.conn.Close()
}

// Conn returns the connection, for the generated stubs and for other services of the same server.
// Its calls carry the keys; its errors are gRPC's own. With [WithHealthChecking] its calls wait for the
// watch until their deadline.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Complete returns the completion of a conversation in one message.
func (c *Client) Complete(
	ctx context.Context, request *togetherchatv1.CompleteRequest, options ...CallOption,
) (*togetherchatv1.CompleteResponse, error) {
	return unary(ctx, c.stub.Complete, request, options)
}

// Stream streams the completion of a conversation. Read the stream to its end, break out of a range
// over it, call Close or cancel ctx: any of these releases the call. Errors are reported when the
// stream is read.
func (c *Client) Stream(
	ctx context.Context, request *togetherchatv1.CompleteRequest, options ...CallOption,
) *CompletionStream {
	ctx, cancel := context.WithCancel(ctx)
	stream := &CompletionStream{ctx: ctx, cancel: cancel}
	if stream.plan, stream.err = planCall(ctx, request, options); stream.err != nil {
		cancel()
		return stream
	}
	var err error
	if stream.events, err = c.stub.StreamComplete(
		stream.plan.outgoing(ctx), request, stream.plan.grpcOptions()...,
	); err != nil {
		stream.fail(err, nil)
		cancel()
	}
	return stream
}

// ListModels returns one page of models.
func (c *Client) ListModels(
	ctx context.Context, request *togetherchatv1.ListModelsRequest, options ...CallOption,
) (*togetherchatv1.ListModelsResponse, error) {
	return unary(ctx, c.stub.ListModels, request, options)
}

// Models ranges over all models that match the request's filters, across all pages. An error is the
// last pair.
func (c *Client) Models(
	ctx context.Context, request *togetherchatv1.ListModelsRequest, options ...CallOption,
) iter.Seq2[*togetherchatv1.Model, error] {
	return func(yield func(*togetherchatv1.Model, error) bool) {
		next := proto.CloneOf(request)
		for {
			page, err := c.ListModels(ctx, next, options...)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, model := range page.GetModels() {
				if !yield(model, nil) {
					return
				}
			}
			if next.PageToken = page.GetNextPageToken(); next.PageToken == "" {
				return
			}
		}
	}
}

// GetModel returns one model by its id or an alias. For an unknown id, the error's Code is NotFound and
// its ResourceName is the id.
func (c *Client) GetModel(
	ctx context.Context, request *togetherchatv1.GetModelRequest, options ...CallOption,
) (*togetherchatv1.GetModelResponse, error) {
	return unary(ctx, c.stub.GetModel, request, options)
}

// unary makes one call of a unary method, fills the caller's [CallInfo] and translates the error.
func unary[Request proto.Message, Response any](
	ctx context.Context,
	method func(context.Context, Request, ...grpc.CallOption) (*Response, error),
	request Request,
	options []CallOption,
) (*Response, error) {
	plan, err := planCall(ctx, request, options)
	if err != nil {
		return nil, err
	}
	var trailer metadata.MD
	response, err := method(plan.outgoing(ctx), request, plan.grpcOptions(grpc.Trailer(&trailer))...)
	plan.report(trailer)
	if err != nil {
		return nil, newError(ctx, err, trailer, plan.requestID)
	}
	return response, nil
}
