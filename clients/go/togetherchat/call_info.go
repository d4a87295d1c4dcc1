package togetherchat

import (
	"strings"

	"google.golang.org/grpc/metadata"
)

const (
	requestIDHeader         = "x-request-id"
	upstreamRequestIDHeader = "x-upstream-request-id"
	upstreamHeader          = "x-upstream"
)

var rateLimitPrefixes = []string{"x-ratelimit", "x-tokenlimit"}

// CallInfo is what the trailers of a call report beside its response.
type CallInfo struct {
	// RequestID is the id that was sent, unless the service replaced it.
	RequestID string
	// UpstreamRequestID is the provider's own id, for its support. Empty if the provider sent none.
	UpstreamRequestID string
	// Upstream is the provider of the completion: `together` or `sandbox`. Empty if no request was
	// sent to a provider.
	Upstream string
	// RateLimits are the provider's rate-limit headers, in lower case.
	RateLimits map[string]string
	// Metadata holds all trailers, unchanged.
	Metadata metadata.MD
}

func readCallInfo(trailer metadata.MD, sentID string) CallInfo {
	info := CallInfo{
		RequestID:         sentID,
		UpstreamRequestID: first(trailer, upstreamRequestIDHeader),
		Upstream:          first(trailer, upstreamHeader),
		RateLimits:        map[string]string{},
		Metadata:          trailer,
	}
	if id := first(trailer, requestIDHeader); id != "" {
		info.RequestID = id
	}
	for key := range trailer {
		for _, prefix := range rateLimitPrefixes {
			if strings.HasPrefix(key, prefix) {
				info.RateLimits[key] = first(trailer, key)
			}
		}
	}
	return info
}

func first(trailer metadata.MD, key string) string {
	if values := trailer.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}
