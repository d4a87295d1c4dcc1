package togetherchat

// The reasons in [Error.Reason]. The list is complete for this version of the service; a later version
// may add reasons.
const (
	ReasonInvalidRequest             = "INVALID_REQUEST"               // INVALID_ARGUMENT
	ReasonRequestTooLarge            = "REQUEST_TOO_LARGE"             // INVALID_ARGUMENT
	ReasonContextLengthExceeded      = "CONTEXT_LENGTH_EXCEEDED"       // INVALID_ARGUMENT
	ReasonModelNotFound              = "MODEL_NOT_FOUND"               // NOT_FOUND
	ReasonUpstreamInvalidRequest     = "UPSTREAM_INVALID_REQUEST"      // INVALID_ARGUMENT
	ReasonMissingCredentials         = "MISSING_CREDENTIALS"           // UNAUTHENTICATED
	ReasonInvalidCredentials         = "INVALID_CREDENTIALS"           // UNAUTHENTICATED
	ReasonCallerKeyRejected          = "CALLER_KEY_REJECTED"           // UNAUTHENTICATED
	ReasonModelNotAllowed            = "MODEL_NOT_ALLOWED"             // PERMISSION_DENIED
	ReasonCallerQuota                = "CALLER_QUOTA"                  // RESOURCE_EXHAUSTED
	ReasonCallerDeadline             = "CALLER_DEADLINE"               // DEADLINE_EXCEEDED
	ReasonCallerCancelled            = "CALLER_CANCELLED"              // CANCELLED
	ReasonCallerStalled              = "CALLER_STALLED"                // CANCELLED
	ReasonServiceKeyRejected         = "SERVICE_KEY_REJECTED"          // UNAUTHENTICATED
	ReasonSpendLimitReached          = "SPEND_LIMIT_REACHED"           // FAILED_PRECONDITION
	ReasonQuotaExhausted             = "QUOTA_EXHAUSTED"               // RESOURCE_EXHAUSTED
	ReasonRateLimited                = "RATE_LIMITED"                  // RESOURCE_EXHAUSTED
	ReasonRateLimitedRequests        = "RATE_LIMITED_REQUESTS"         // RESOURCE_EXHAUSTED
	ReasonRateLimitedTokens          = "RATE_LIMITED_TOKENS"           // RESOURCE_EXHAUSTED
	ReasonUpstreamPermissionDenied   = "UPSTREAM_PERMISSION_DENIED"    // PERMISSION_DENIED
	ReasonUpstreamConnectFailed      = "UPSTREAM_CONNECT_FAILED"       // UNAVAILABLE
	ReasonUpstreamDNSFailed          = "UPSTREAM_DNS_FAILED"           // UNAVAILABLE
	ReasonUpstreamConnectTimeout     = "UPSTREAM_CONNECT_TIMEOUT"      // UNAVAILABLE
	ReasonUpstreamTLSFailed          = "UPSTREAM_TLS_FAILED"           // UNAVAILABLE
	ReasonUpstreamEdgeBlocked        = "UPSTREAM_EDGE_BLOCKED"         // UNAVAILABLE
	ReasonUpstreamEdgeError          = "UPSTREAM_EDGE_ERROR"           // UNAVAILABLE
	ReasonUpstreamEdgeUnreachable    = "UPSTREAM_EDGE_UNREACHABLE"     // UNAVAILABLE
	ReasonUpstreamBadGateway         = "UPSTREAM_BAD_GATEWAY"          // UNAVAILABLE
	ReasonUpstreamEndpointNotFound   = "UPSTREAM_ENDPOINT_NOT_FOUND"   // INTERNAL
	ReasonUpstreamConflict           = "UPSTREAM_CONFLICT"             // ABORTED
	ReasonUpstreamClosed             = "UPSTREAM_CLOSED"               // UNAVAILABLE
	ReasonUpstreamInternal           = "UPSTREAM_INTERNAL"             // INTERNAL
	ReasonUpstreamUnimplemented      = "UPSTREAM_UNIMPLEMENTED"        // UNIMPLEMENTED
	ReasonUpstreamOverloaded         = "UPSTREAM_OVERLOADED"           // UNAVAILABLE
	ReasonUpstreamEndpointNotRunning = "UPSTREAM_ENDPOINT_NOT_RUNNING" // UNAVAILABLE
	ReasonUpstreamUnexpectedStatus   = "UPSTREAM_UNEXPECTED_STATUS"    // UNAVAILABLE
	ReasonUpstreamStreamError        = "UPSTREAM_STREAM_ERROR"         // UNAVAILABLE
	ReasonUpstreamMalformedResponse  = "UPSTREAM_MALFORMED_RESPONSE"   // INTERNAL
	ReasonUpstreamTooLarge           = "UPSTREAM_TOO_LARGE"            // INTERNAL
	ReasonUpstreamReset              = "UPSTREAM_RESET"                // UNAVAILABLE
	ReasonUpstreamTruncated          = "UPSTREAM_TRUNCATED"            // UNAVAILABLE
	ReasonUpstreamRequestTimeout     = "UPSTREAM_REQUEST_TIMEOUT"      // UNAVAILABLE
	ReasonUpstreamGatewayTimeout     = "UPSTREAM_GATEWAY_TIMEOUT"      // DEADLINE_EXCEEDED
	ReasonFirstTokenTimeout          = "FIRST_TOKEN_TIMEOUT"           // DEADLINE_EXCEEDED
	ReasonStreamIdleTimeout          = "STREAM_IDLE_TIMEOUT"           // DEADLINE_EXCEEDED
	ReasonCallTimeout                = "CALL_TIMEOUT"                  // DEADLINE_EXCEEDED
	ReasonOverloaded                 = "OVERLOADED"                    // UNAVAILABLE
	ReasonDraining                   = "DRAINING"                      // UNAVAILABLE
	ReasonInternalError              = "INTERNAL_ERROR"                // INTERNAL
)

// ReasonStreamIncomplete is the only reason that this package sets itself: a stream ended with OK but
// without its last event.
const ReasonStreamIncomplete = "STREAM_INCOMPLETE"
