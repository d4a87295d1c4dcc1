package togetherchat

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // registers the client-side health check that the service config enables
	"google.golang.org/grpc/keepalive"
)

const (
	mebibyte         = 1 << 20
	receiveBytesMax  = 64 * mebibyte
	retryBufferBytes = 32 * mebibyte
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	userAgent        = "togetherchat-go"
)

// dialPlan collects the options of [Dial].
type dialPlan struct {
	keys           keys
	tls            *tls.Config
	plaintext      bool
	withoutRetries bool
	extra          []grpc.DialOption
}

func planDial(options []Option) (*dialPlan, error) {
	plan := &dialPlan{}
	for _, option := range options {
		if err := option.applyDial(plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// transportCredentials uses plaintext only for this machine, or where the caller chose it: keys must
// not cross a network unencrypted.
func (p *dialPlan) transportCredentials(target string) credentials.TransportCredentials {
	switch {
	case p.tls != nil:
		return credentials.NewTLS(p.tls)
	case p.plaintext || isLocal(target):
		return insecure.NewCredentials()
	default:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
}

func (p *dialPlan) grpcOptions(target string) []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(p.transportCredentials(target)),
		grpc.WithPerRPCCredentials(&p.keys),
		grpc.WithUserAgent(userAgent),
		// The config is part of the contract: a TXT record in DNS must not replace it.
		grpc.WithDefaultServiceConfig(ServiceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(receiveBytesMax),
			// With gRPC's default of 256 KiB, longer conversations are never retried.
			grpc.MaxRetryRPCBufferSize(retryBufferBytes),
		),
	}
	if isLocal(target) {
		// A proxy in the environment (https_proxy) cannot reach this machine's loopback addresses.
		options = append(options, grpc.WithNoProxy())
	}
	if p.withoutRetries {
		options = append(options, grpc.WithDisableRetry())
	}
	return append(options, p.extra...)
}
