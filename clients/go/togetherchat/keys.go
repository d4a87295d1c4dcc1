package togetherchat

import (
	"context"
	"maps"

	"google.golang.org/grpc/metadata"
)

// keys are the caller's credentials. gRPC sends them as per-RPC credentials, so calls over
// [Client.Conn] carry them as well. The keys of a single call travel in its context.
type keys struct {
	byHeader map[string]string
}

type callKeys struct{}

// GetRequestMetadata is called by gRPC. A header that the caller set itself is not sent a second
// time: a server rejects two keys.
func (k *keys) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	headers := map[string]string{}
	maps.Copy(headers, k.byHeader)
	if ofCall, found := ctx.Value(callKeys{}).(*keys); found {
		maps.Copy(headers, ofCall.byHeader)
	}
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	for header := range headers {
		if len(outgoing.Get(header)) > 0 {
			delete(headers, header)
		}
	}
	return headers, nil
}

// RequireTransportSecurity is false because [Dial] decides where plaintext is allowed.
func (*keys) RequireTransportSecurity() bool { return false }

func (k *keys) set(header, value string) {
	if k.byHeader == nil {
		k.byHeader = map[string]string{}
	}
	k.byHeader[header] = value
}
