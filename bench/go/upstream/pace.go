package main

import (
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A pacer writes the tokens of all streams with the same gap between tokens.
//
// One goroutine serves all of them: a timer and a goroutine per stream cost more than the writes at a
// thousand streams. The queue needs no sorting: what was written last is due last. Every token is one write,
// because a write of several tokens would save the measured service a part of its work.
type pacer struct {
	gap   time.Duration
	mutex sync.Mutex
	added []*pacedStream
	wake  chan struct{}
}

// pacedStream is the state of a stream between two tokens.
type pacedStream struct {
	connection net.Conn
	raw        syscall.RawConn
	due        time.Time
	left       int
	token      []byte // written again and again with another time
	unwritten  []byte
	write      func(fd uintptr) bool
	err        error
	ended      chan error
}

var (
	pacersMutex sync.Mutex
	pacers      = map[time.Duration]*pacer{}
)

func pacerOf(gap time.Duration) *pacer {
	pacersMutex.Lock()
	defer pacersMutex.Unlock()
	if pacers[gap] == nil {
		pacers[gap] = &pacer{gap: gap, wake: make(chan struct{}, 1)}
		go pacers[gap].run()
	}
	return pacers[gap]
}

// trickle writes the head with the first token at once, then one token per gap. Each token has an absolute
// due time and carries it. So delays do not add up, and a late write counts as a delay of the token.
func trickle(connection net.Conn, requested script) error {
	raw, err := connection.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	stream := &pacedStream{
		connection: connection, raw: raw, due: time.Now(), left: requested.tokens,
		token: append([]byte{}, stampChunk...), ended: make(chan error, 1),
	}
	stream.write = stream.writeOnce
	pending := append(append([]byte{}, streamHead...), firstChunk...)
	if err := write(connection, append(pending, stream.stamped()...)); err != nil {
		return err
	}
	stream.advance(requested.gap)
	pacerOf(requested.gap).add(stream)
	return <-stream.ended
}

// stamped returns the next token with its due time; the length is constant until the year 2286.
func (s *pacedStream) stamped() []byte {
	var digits [20]byte
	stamp := strconv.AppendInt(digits[:0], s.due.UnixMicro(), 10)
	for _, position := range stampPositions {
		copy(s.token[position:], stamp)
	}
	return s.token
}

func (s *pacedStream) advance(gap time.Duration) {
	tokens.Add(1)
	s.left--
	s.due = s.due.Add(gap)
}

// next returns the bytes that are due now.
func (s *pacedStream) next() []byte {
	if s.left == 0 {
		return streamEnd
	}
	return s.stamped()
}

func (p *pacer) add(stream *pacedStream) {
	p.mutex.Lock()
	p.added = append(p.added, stream)
	p.mutex.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pacer) run() {
	var waiting ring
	timer := time.NewTimer(time.Hour)
	for {
		p.mutex.Lock()
		for _, stream := range p.added {
			waiting.push(stream)
		}
		p.added = p.added[:0]
		p.mutex.Unlock()
		for now := time.Now(); waiting.count > 0 && !waiting.first().due.After(now); now = time.Now() {
			if stream := waiting.pop(); p.step(stream) {
				waiting.push(stream)
			}
		}
		wait := time.Hour
		if waiting.count > 0 {
			wait = time.Until(waiting.first().due)
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// step writes what is due and returns whether the stream continues in this pacer. A client that does not read
// blocks only its own stream, which then catches up in a goroutine.
func (p *pacer) step(s *pacedStream) bool {
	s.unwritten = s.next()
	if err := s.raw.Write(s.write); err != nil || s.err != nil {
		s.ended <- net.ErrClosed
		return false
	}
	if len(s.unwritten) > 0 {
		go p.catchUp(s)
		return false
	}
	if s.left == 0 {
		s.ended <- nil
		return false
	}
	s.advance(p.gap)
	return true
}

// writeOnce writes as much as the socket takes; `true` returns to the caller instead of waiting for more.
func (s *pacedStream) writeOnce(fd uintptr) bool {
	written, err := syscall.Write(int(fd), s.unwritten)
	if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
		s.err = err
	}
	s.unwritten = s.unwritten[max(written, 0):]
	return true
}

// catchUp writes with waiting, until no token is late.
func (p *pacer) catchUp(s *pacedStream) {
	for {
		if err := write(s.connection, s.unwritten); err != nil {
			s.ended <- err
			return
		}
		if s.left == 0 {
			s.ended <- nil
			return
		}
		s.advance(p.gap)
		if s.due.After(time.Now()) {
			p.add(s)
			return
		}
		s.unwritten = s.next()
	}
}

// ring is a queue of streams that grows and does not shrink.
type ring struct {
	streams     []*pacedStream
	head, count int
}

func (r *ring) first() *pacedStream { return r.streams[r.head] }

func (r *ring) push(stream *pacedStream) {
	if r.count == len(r.streams) {
		grown := make([]*pacedStream, max(1024, 2*r.count))
		for index := range r.count {
			grown[index] = r.streams[(r.head+index)%len(r.streams)]
		}
		r.streams, r.head = grown, 0
	}
	r.streams[(r.head+r.count)%len(r.streams)] = stream
	r.count++
}

func (r *ring) pop() *pacedStream {
	stream := r.streams[r.head]
	r.streams[r.head] = nil
	r.head = (r.head + 1) % len(r.streams)
	r.count--
	return stream
}
