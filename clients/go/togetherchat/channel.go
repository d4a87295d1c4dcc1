package togetherchat

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // registers the client-side health check of WithHealthChecking
	"google.golang.org/grpc/keepalive"
)

const (
	mebibyte         = 1 << 20
	receiveBytesMax  = 64 * mebibyte
	retryBufferBytes = 32 * mebibyte
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// gRPC's default for connecting, which its connect parameters replace as well.
	connectTimeout = 20 * time.Second
	// gRPC's default of 120 s makes clients return long after a server did.
	maxReconnectBackoff = 5 * time.Second
	userAgent           = "togetherchat-go"
)

// dialPlan collects the options of [Dial].
type dialPlan struct {
	keys                keys
	tls                 *tls.Config
	plaintext           bool
	withoutRetries      bool
	healthChecking      bool
	waitForReady        bool
	maxReconnectBackoff time.Duration
	extra               []grpc.DialOption
}

func planDial(options []Option) (*dialPlan, error) {
	plan := &dialPlan{maxReconnectBackoff: maxReconnectBackoff}
	for _, option := range options {
		if err := option.applyDial(plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// transportCredentials uses plaintext only for this machine, or where the caller chose it: keys must
// not cross a network unencrypted.
func (p *dialPlan) transportCredentials(local bool) credentials.TransportCredentials {
	switch {
	case p.tls != nil:
		return credentials.NewTLS(p.tls)
	case p.plaintext || local:
		return insecure.NewCredentials()
	default:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
}

func (p *dialPlan) grpcOptions(local bool) []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(p.transportCredentials(local)),
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
			grpc.WaitForReady(p.waitForReady),
		),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: p.backoff(), MinConnectTimeout: connectTimeout}),
	}
	if !p.healthChecking {
		options = append(options, grpc.WithDisableHealthCheck())
	}
	if local {
		// A proxy in the environment (https_proxy) cannot reach this machine's loopback addresses.
		options = append(options, grpc.WithNoProxy())
	}
	if p.withoutRetries {
		options = append(options, grpc.WithDisableRetry())
	}
	return append(options, p.extra...)
}

// backoff returns gRPC's waits between two attempts to connect, with the client's upper bound.
func (p *dialPlan) backoff() backoff.Config {
	config := backoff.DefaultConfig
	config.MaxDelay = p.maxReconnectBackoff
	config.BaseDelay = min(config.BaseDelay, p.maxReconnectBackoff)
	return config
}
