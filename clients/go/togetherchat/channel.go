package togetherchat

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // registers the client-side health check that the service config asks for
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

// dialPlan is what the options of [Dial] add up to.
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

// transportCredentials keeps keys off the network in the clear: plain text is for this machine,
// and for who asked for it.
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
		// DNS could say otherwise in a TXT record, but the config is a part of the contract.
		grpc.WithDefaultServiceConfig(ServiceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(receiveBytesMax),
			// gRPC's default of 256 KiB leaves every longer conversation without a retry.
			grpc.MaxRetryRPCBufferSize(retryBufferBytes),
		),
	}
	if isLocal(target) {
		// A proxy for the outside world (https_proxy) is no way to this machine.
		options = append(options, grpc.WithNoProxy())
	}
	if p.withoutRetries {
		options = append(options, grpc.WithDisableRetry())
	}
	return append(options, p.extra...)
}
