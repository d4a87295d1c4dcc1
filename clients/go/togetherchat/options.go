package togetherchat

import (
	"crypto/tls"

	"google.golang.org/grpc"
)

// An Option changes what [Dial] does.
type Option interface {
	applyDial(*dialPlan) error
}

// A CallOption changes one call.
type CallOption interface {
	applyCall(*callPlan) error
}

// A KeyOption holds for every call of a client when it is given to [Dial], and for one call when
// it is given to that call, where it wins. The zero value sends no key.
type KeyOption struct {
	// A function and no text: printing an option must not print a key.
	addTo func(*keys) error
}

func (o KeyOption) applyDial(plan *dialPlan) error { return o.apply(&plan.keys) }
func (o KeyOption) applyCall(plan *callPlan) error { return o.apply(&plan.keys) }

// apply adds nothing for the zero value: who has no key need not branch.
func (o KeyOption) apply(keys *keys) error {
	if o.addTo == nil {
		return nil
	}
	return o.addTo(keys)
}

// WithKey sends key as `authorization: Bearer key`: what the service knows this caller by.
func WithKey(key string) KeyOption {
	return keyOption(key, "the key", "authorization", "Bearer ")
}

// WithUpstreamKey sends the caller's own Together key, where the service takes one.
func WithUpstreamKey(key string) KeyOption {
	return keyOption(key, "the upstream key", "x-together-api-key", "")
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

type dialOption func(*dialPlan)

func (o dialOption) applyDial(plan *dialPlan) error { o(plan); return nil }

// WithTLS encrypts, with this configuration; nil stands for the system's roots. Without it a
// target on this machine is spoken to in plain text and every other over TLS.
func WithTLS(config *tls.Config) Option {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return dialOption(func(plan *dialPlan) { plan.tls = config; plan.plaintext = false })
}

// WithPlaintext does not encrypt, wherever the target is. Keys and prompts are then readable on
// the way: it is for networks that encrypt by themselves, such as a service mesh.
func WithPlaintext() Option {
	return dialOption(func(plan *dialPlan) { plan.tls = nil; plan.plaintext = true })
}

// WithoutRetries never sends a call twice. With retries, a call whose connection was lost is sent
// again although its first answer may have been made, and billed.
func WithoutRetries() Option {
	return dialOption(func(plan *dialPlan) { plan.withoutRetries = true })
}

// WithDialOptions hands options to gRPC; they win over this package's own.
func WithDialOptions(options ...grpc.DialOption) Option {
	return dialOption(func(plan *dialPlan) { plan.extra = append(plan.extra, options...) })
}

type callOption func(*callPlan)

func (o callOption) applyCall(plan *callPlan) error { o(plan); return nil }

// WithRequestID names the call in the records of both sides: 1 to 128 printable ASCII characters.
// Without it an id is made up; every [Error] and [CallInfo] tells it.
func WithRequestID(id string) CallOption {
	return callOption(func(plan *callPlan) { plan.requestID = id })
}

// WithInfo fills info when the call has ended, well or not; for a stream, when its end was read.
func WithInfo(info *CallInfo) CallOption {
	return callOption(func(plan *callPlan) { plan.info = info })
}
