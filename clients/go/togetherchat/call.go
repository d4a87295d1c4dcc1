package togetherchat

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"google.golang.org/grpc/metadata"
)

// callPlan is what the options of one call add up to.
type callPlan struct {
	keys      keys
	requestID string
	info      *CallInfo
}

func planCall(options []CallOption) (*callPlan, error) {
	plan := &callPlan{}
	for _, option := range options {
		if err := option.applyCall(plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// outgoing is ctx with what goes out beside the request. An id that the caller put into the
// metadata itself is as good as one that was given as an option.
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

func (p *callPlan) report(trailer metadata.MD) {
	if p.info != nil {
		*p.info = readCallInfo(trailer, p.requestID)
	}
}

func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by its own word
	return hex.EncodeToString(id[:])
}
