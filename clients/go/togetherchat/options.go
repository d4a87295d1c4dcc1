package togetherchat

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
)

// An Option configures [Dial].
type Option interface {
	applyDial(*dialPlan) error
}

// A CallOption configures one call.
type CallOption interface {
	applyCall(*callPlan) error
}

// A KeyOption given to [Dial] applies to every call of the client. Given to a call, it applies to that
// call and takes precedence. The zero value sends no key.
type KeyOption struct {
	// A function, not a string: printing an option must not print a key.
	addTo func(*keys) error
}

func (o KeyOption) applyDial(plan *dialPlan) error { return o.apply(&plan.keys) }
func (o KeyOption) applyCall(plan *callPlan) error { return o.apply(&plan.keys) }

// apply adds nothing for the zero value, so that a caller without a key needs no branch.
func (o KeyOption) apply(keys *keys) error {
	if o.addTo == nil {
		return nil
	}
	return o.addTo(keys)
}

// WithKey sends key as `authorization: Bearer key`. The service authenticates the caller by it.
func WithKey(key string) KeyOption {
	return keyOption(key, "key", "authorization", "Bearer ")
}

// WithUpstreamKey sends the caller's own Together key, for a service that accepts one.
func WithUpstreamKey(key string) KeyOption {
	return keyOption(key, "upstreamKey", "x-together-api-key", "")
}

func keyOption(key, name, header, prefix string) KeyOption {
	return KeyOption{addTo: func(k *keys) error {
		checked, err := checkedKey(key, name)
		if err != nil {
			return err
		}
		k.set(header, prefix+checked)
		return nil
	}}
}

// A ReadyOption given to [Dial] applies to every call of the client. Given to a call, it applies to that
// call and takes precedence.
type ReadyOption struct{ wait bool }

func (o ReadyOption) applyDial(plan *dialPlan) error { plan.waitForReady = o.wait; return nil }
func (o ReadyOption) applyCall(plan *callPlan) error { plan.waitForReady = &o.wait; return nil }

// WithWaitForReady makes a call wait for a server until its deadline, for example while the server
// starts. By default a call fails with Unavailable as soon as connecting has failed.
func WithWaitForReady(wait bool) ReadyOption { return ReadyOption{wait: wait} }

type dialOption func(*dialPlan)

func (o dialOption) applyDial(plan *dialPlan) error { o(plan); return nil }

type checkedDialOption func(*dialPlan) error

func (o checkedDialOption) applyDial(plan *dialPlan) error { return o(plan) }

// WithTLS uses TLS with this configuration; nil means the system's root certificates. Without an
// option, the client uses plaintext for a target on this machine and TLS for any other.
func WithTLS(config *tls.Config) Option {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return dialOption(func(plan *dialPlan) { plan.tls = config; plan.plaintext = false })
}

// WithPlaintext disables TLS for any target. Keys and prompts are then readable on the network: use
// it only where the network encrypts, such as in a service mesh.
func WithPlaintext() Option {
	return dialOption(func(plan *dialPlan) { plan.tls = nil; plan.plaintext = true })
}

// WithoutRetries disables all retries. With retries, a call whose connection was lost is sent again,
// although the first attempt may have been completed and billed.
func WithoutRetries() Option {
	return dialOption(func(plan *dialPlan) { plan.withoutRetries = true })
}

// WithHealthChecking enables or disables gRPC's client-side health checks: a server that reports
// NOT_SERVING gets no calls. The check is a stream of grpc.health.v1.Health with the client's keys. A
// server or proxy that does not answer it within a second counts as healthy.
func WithHealthChecking(enabled bool) Option {
	return dialOption(func(plan *dialPlan) { plan.healthChecking = enabled })
}

// WithMaxReconnectBackoff bounds the wait between two attempts to connect. The first wait is one
// second, and each further one is longer. The default bound is 5 seconds.
func WithMaxReconnectBackoff(longest time.Duration) Option {
	return checkedDialOption(func(plan *dialPlan) error {
		plan.maxReconnectBackoff = longest
		return checkDuration(longest, "maxReconnectBackoff")
	})
}

// WithDialOptions passes options to gRPC. They take precedence over this package's own.
func WithDialOptions(options ...grpc.DialOption) Option {
	return dialOption(func(plan *dialPlan) { plan.extra = append(plan.extra, options...) })
}

type callOption func(*callPlan) error

func (o callOption) applyCall(plan *callPlan) error { return o(plan) }

// WithRequestID sets the id of the call in the logs of both sides: 1 to 128 printable ASCII characters.
// The default, also for an empty id, is a random id. Every [Error] and [CallInfo] contains it.
func WithRequestID(id string) CallOption {
	return callOption(func(plan *callPlan) error { plan.requestID = id; return checkRequestID(id) })
}

// WithInfo fills info when the call has finished or failed. For a stream, that is when its end was read.
func WithInfo(info *CallInfo) CallOption {
	return callOption(func(plan *callPlan) error { plan.info = info; return nil })
}
