package togetherchat

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// callPlan collects the options of one call.
type callPlan struct {
	keys         keys
	requestID    string
	info         *CallInfo
	waitForReady *bool
}

// planCall applies the options, and rejects a request or metadata that gRPC cannot send.
func planCall(ctx context.Context, request proto.Message, options []CallOption) (*callPlan, error) {
	plan := &callPlan{}
	for _, option := range options {
		if err := option.applyCall(plan); err != nil {
			return nil, err
		}
	}
	if err := checkMetadata(ctx); err != nil {
		return nil, err
	}
	return plan, checkText(request.ProtoReflect(), "")
}

// outgoing returns ctx with the request id and the keys. An id that the caller put into the metadata
// is used like one from [WithRequestID].
func (p *callPlan) outgoing(ctx context.Context) context.Context {
	if p.requestID == "" {
		if sent, _ := metadata.FromOutgoingContext(ctx); len(sent.Get(requestIDHeader)) > 0 {
			p.requestID = sent.Get(requestIDHeader)[0]
			return p.withKeys(ctx)
		}
		p.requestID = newRequestID()
	}
	return p.withKeys(metadata.AppendToOutgoingContext(ctx, requestIDHeader, p.requestID))
}

func (p *callPlan) withKeys(ctx context.Context) context.Context {
	if len(p.keys.byHeader) == 0 {
		return ctx
	}
	return context.WithValue(ctx, callKeys{}, &p.keys)
}

// grpcOptions returns gRPC's options of the call, and more.
func (p *callPlan) grpcOptions(more ...grpc.CallOption) []grpc.CallOption {
	if p.waitForReady != nil {
		more = append(more, grpc.WaitForReady(*p.waitForReady))
	}
	return more
}

func (p *callPlan) report(trailer metadata.MD) {
	if p.info != nil {
		*p.info = readCallInfo(trailer, p.requestID)
	}
}

func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // documented never to fail
	return hex.EncodeToString(id[:])
}
