package togetherchat

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// Client calls the service over one connection. It is safe for concurrent use; share it.
type Client struct {
	conn *grpc.ClientConn
	stub togetherchatv1.ChatServiceClient
}

// Dial gives a client of the service at target: `host:port`, or any target that gRPC knows
// (`dns:///host:port`, `unix:path`). It connects when the first call is made.
//
// A target on this machine (localhost, 127.x, ::1, a unix socket) is spoken to in plain text, any
// other over TLS, unless an option says otherwise.
func Dial(target string, options ...Option) (*Client, error) {
	plan, err := planDial(options)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target, plan.grpcOptions(target)...)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, stub: togetherchatv1.NewChatServiceClient(conn)}, nil
}

// Close ends the connection, and every call that is under way.
func (c *Client) Close() error { return c.conn.Close() }

// Conn is the connection itself, for the generated stubs and for other services beside this one.
// The keys go out with its calls too; errors over it are gRPC's own.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Complete answers a conversation in one message.
func (c *Client) Complete(
	ctx context.Context, request *togetherchatv1.CompleteRequest, options ...CallOption,
) (*togetherchatv1.CompleteResponse, error) {
	return unary(ctx, c.stub.Complete, request, options)
}

// Stream answers a conversation while the answer is being made. Read the stream to its end, leave
// a range over it, Close it or end ctx: one of them lets go of the call. What fails, fails when
// the stream is read.
func (c *Client) Stream(
	ctx context.Context, request *togetherchatv1.CompleteRequest, options ...CallOption,
) *Stream {
	ctx, cancel := context.WithCancel(ctx)
	stream := &Stream{ctx: ctx, cancel: cancel}
	if stream.plan, stream.err = planCall(options); stream.err != nil {
		cancel()
		return stream
	}
	var err error
	if stream.events, err = c.stub.StreamComplete(stream.plan.outgoing(ctx), request); err != nil {
		stream.fail(err, nil)
		cancel()
	}
	return stream
}

// ListModels lists one page of models.
func (c *Client) ListModels(
	ctx context.Context, request *togetherchatv1.ListModelsRequest, options ...CallOption,
) (*togetherchatv1.ListModelsResponse, error) {
	return unary(ctx, c.stub.ListModels, request, options)
}

// Models ranges over all models that the request's filters let through, page after page. A failure
// is the last pair.
func (c *Client) Models(
	ctx context.Context, request *togetherchatv1.ListModelsRequest, options ...CallOption,
) iter.Seq2[*togetherchatv1.Model, error] {
	return func(yield func(*togetherchatv1.Model, error) bool) {
		asked := proto.CloneOf(request)
		for {
			page, err := c.ListModels(ctx, asked, options...)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, model := range page.GetModels() {
				if !yield(model, nil) {
					return
				}
			}
			if asked.PageToken = page.GetNextPageToken(); asked.PageToken == "" {
				return
			}
		}
	}
}

// unary makes one call of either unary method, and says how it ended.
func unary[Request, Response any](
	ctx context.Context,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
	options []CallOption,
) (*Response, error) {
	plan, err := planCall(options)
	if err != nil {
		return nil, err
	}
	var trailer metadata.MD
	response, err := method(plan.outgoing(ctx), request, grpc.Trailer(&trailer))
	plan.report(trailer)
	if err != nil {
		return nil, newError(ctx, err, trailer, plan.requestID)
	}
	return response, nil
}
