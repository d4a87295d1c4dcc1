package togetherchat

import (
	"regexp"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reasons that this package sets itself when a call failed without a reason of the service.
const (
	ReasonNotConnected         = "NOT_CONNECTED"
	ReasonProxyAccessDenied    = "PROXY_ACCESS_DENIED"
	ReasonProxyNoRoute         = "PROXY_NO_ROUTE"
	ReasonProxyRequestTooLarge = "PROXY_REQUEST_TOO_LARGE"
	ReasonProxyRateLimited     = "PROXY_RATE_LIMITED"
	ReasonProxyUnavailable     = "PROXY_UNAVAILABLE"
	ReasonProxyError           = "PROXY_ERROR"
)

// clientReason is a row of clients/conformance/client_reasons.json, which is the same in all clients.
type clientReason struct {
	reason    string
	statuses  []int
	retryable bool
	hint      string
}

var notConnected = clientReason{ReasonNotConnected, nil, true,
	"the service was not reached, or the connection was lost; check the target, TLS on both sides, " +
		"and that the service is running"}

var proxyReasons = []clientReason{
	{ReasonProxyAccessDenied, []int{401, 403}, false, "a proxy rejected the call; check its access rules"},
	{ReasonProxyNoRoute, []int{404}, false,
		"an HTTP server without this method answered; check the target and the routes of the proxy"},
	{ReasonProxyRequestTooLarge, []int{413}, false,
		"a proxy rejected the size of the request; raise its limit (in nginx, client_max_body_size)"},
	{ReasonProxyRateLimited, []int{429}, true, "a proxy limits the calls; wait before the next one"},
	{ReasonProxyUnavailable, []int{502, 503, 504}, true,
		"a proxy did not reach the service; check the address that the proxy calls, " +
			"and that it speaks HTTP/2 to the service"},
}

var proxyError = clientReason{ReasonProxyError, nil, false,
	"a proxy answered with an HTTP error instead of a gRPC status; see its log"}

// gRPC reports the HTTP status of a response that is not gRPC's only in the text of its status.
var httpStatus = regexp.MustCompile(`unexpected HTTP status code received from server: (\d+)`)

// clientReasonOf returns the row of a failure for which the service sent no reason; nil for none.
func clientReasonOf(failed *status.Status) *clientReason {
	if found := httpStatus.FindStringSubmatch(failed.Message()); found != nil {
		number, _ := strconv.Atoi(found[1])
		for _, row := range proxyReasons {
			if slices.Contains(row.statuses, number) {
				return &row
			}
		}
		return &proxyError
	}
	if failed.Code() == codes.Unavailable {
		return &notConnected
	}
	return nil
}
