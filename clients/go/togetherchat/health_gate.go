package togetherchat

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// watchTimeout is how long calls wait for the first answer of a health watch.
const watchTimeout = time.Second

// A healthGate sends calls over a connection with health checks, as long as its servers answer the
// watch. gRPC holds calls back until the first answer, without a bound of its own. A proxy that never
// answers would make each call wait for its whole deadline. After watchTimeout, calls use a second
// connection, without health checks, until the watch is answered.
type healthGate struct {
	checked, plain *grpc.ClientConn
	timeout        time.Duration

	mu sync.Mutex
	// When a call first found no answer; zero while the last call found one.
	since time.Time
}

// Invoke implements [grpc.ClientConnInterface].
func (g *healthGate) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	return g.choose(ctx).Invoke(ctx, method, args, reply, options...)
}

// NewStream implements [grpc.ClientConnInterface].
func (g *healthGate) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return g.choose(ctx).NewStream(ctx, desc, method, options...)
}

// Close closes both connections.
func (g *healthGate) Close() error { return errors.Join(g.checked.Close(), g.plain.Close()) }

// choose returns the connection of a call. It waits until the watch is answered, at most for the rest of the timeout.
func (g *healthGate) choose(ctx context.Context) *grpc.ClientConn {
	for {
		state := g.checked.GetState()
		switch state {
		case connectivity.Idle:
			g.checked.Connect()
		case connectivity.Connecting:
		case connectivity.Ready, connectivity.TransientFailure, connectivity.Shutdown:
			g.answered()
			return g.checked
		}
		left := g.left()
		if left <= 0 {
			return g.plain
		}
		waiting, cancel := context.WithTimeout(ctx, left)
		g.checked.WaitForStateChange(waiting, state)
		cancel()
		if ctx.Err() != nil {
			return g.checked
		}
	}
}

func (g *healthGate) answered() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since = time.Time{}
}

// left returns how long a call may still wait.
func (g *healthGate) left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since.IsZero() {
		g.since = time.Now()
	}
	return g.timeout - time.Since(g.since)
}
