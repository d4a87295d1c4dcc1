package togetherchat

import (
	"context"
	"errors"
	"maps"
	"strings"

	"google.golang.org/grpc/metadata"
)

// keys are what goes out with a call to say who asks. They reach gRPC as per-RPC credentials, so
// that calls made over [Client.Conn] carry them as well; those of one call travel in its context.
type keys struct {
	byHeader map[string]string
}

type callKeys struct{}

// GetRequestMetadata is called by gRPC. A header that the caller set itself is left alone: two of
// them would be neither.
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

// RequireTransportSecurity is false: [Dial] decides where plain text will do.
func (*keys) RequireTransportSecurity() bool { return false }

func (k *keys) set(header, value string) {
	if k.byHeader == nil {
		k.byHeader = map[string]string{}
	}
	k.byHeader[header] = value
}

// checkedKey is a key without the white space around it. No error says what the key was.
func checkedKey(key, name string) (string, error) {
	key = strings.TrimSpace(key)
	for _, letter := range key {
		if letter <= ' ' || letter >= 0x7f {
			return "", errors.New("togetherchat: " + name + " has a character that metadata cannot carry")
		}
	}
	if key == "" {
		return "", errors.New("togetherchat: " + name + " is empty")
	}
	return key, nil
}
