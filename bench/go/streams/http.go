package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

var prompt = strings.Repeat("Why is the sky blue, and why is it red at dusk? ", 15)

// httpLoad sends requests to an OpenAI-compatible server and reads the events without parsing their JSON: the
// load must cost less than the measured server.
//
// net/http has two goroutines, two reads and several wake-ups for each token. Here one goroutine reads all
// connections, with one system call for a token. A connection serves one stream at a time and is then reused.
type httpLoad struct {
	opts    options
	address syscall.SockaddrInet4
	request []byte
	epoll   int

	mutex sync.Mutex
	open  map[int]*httpConnection
	idle  []*httpConnection
}

// edgeTriggered is EPOLLET, whose constant in package syscall is negative.
const edgeTriggered = 1 << 31

// httpConnection is a socket with the stream that uses it, which is nil while the connection is idle.
type httpConnection struct {
	fd     int
	stream *httpStream
}

// httpStream is a request in flight. Only the reading goroutine uses it, until `ended` has its error.
type httpStream struct {
	onText   func(string)
	ended    chan error
	response responseParser
}

func newHTTPLoad(opts options) *httpLoad {
	target, err := url.Parse(opts.target)
	if err != nil {
		log.Fatal(err)
	}
	address, err := netip.ParseAddrPort(target.Host)
	if err != nil || !address.Addr().Is4() {
		log.Fatalf("--target: %q does not have an IPv4 address and a port", opts.target)
	}
	load := &httpLoad{
		opts: opts, open: map[int]*httpConnection{}, request: requestOf(opts, target),
		address: syscall.SockaddrInet4{Addr: address.Addr().As4(), Port: int(address.Port())},
	}
	if load.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		log.Fatal(err)
	}
	go load.read()
	return load
}

func requestOf(opts options, target *url.URL) []byte {
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"stream":true}`, opts.model, prompt)
	var head strings.Builder
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n",
		target.RequestURI(), target.Host, len(body))
	for name, value := range opts.headers {
		fmt.Fprintf(&head, "%s: %s\r\n", name, value)
	}
	return []byte(head.String() + "\r\n" + body)
}

func (l *httpLoad) stream(ctx context.Context, onText func(string)) error {
	stream := &httpStream{onText: onText, ended: make(chan error, 1)}
	connection, err := l.send(stream)
	if err != nil {
		return err
	}
	select {
	case err := <-stream.ended:
		return err
	case <-ctx.Done():
		l.abort(connection, stream)
		<-stream.ended
		return ctx.Err()
	}
}

// send writes the request to an idle connection, or to a new one.
func (l *httpLoad) send(stream *httpStream) (*httpConnection, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for len(l.idle) > 0 {
		connection := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		if written, err := syscall.Write(connection.fd, l.request); err == nil && written == len(l.request) {
			connection.stream = stream
			return connection, nil
		}
		l.close(connection)
	}
	l.mutex.Unlock()
	fd, err := l.connect()
	l.mutex.Lock()
	if err != nil {
		return nil, err
	}
	connection := &httpConnection{fd: fd, stream: stream}
	l.open[fd] = connection
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edgeTriggered, Fd: int32(fd)}
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		log.Fatal(err)
	}
	return connection, nil
}

// connect returns a connected socket to which the request was written.
func (l *httpLoad) connect() (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	timeout := syscall.NsecToTimeval(l.opts.limit.Nanoseconds())
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &timeout),
	)
	if err == nil {
		err = syscall.Connect(fd, &l.address)
	}
	if err == nil {
		// Without it the kernel acknowledges every token on its own, which costs as much as reading it.
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 0)
	}
	if err == nil {
		_, err = syscall.Write(fd, l.request)
	}
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		syscall.Close(fd)
	}
	return fd, err
}

// abort ends the stream: the reading goroutine notices the end of the connection and closes it.
func (l *httpLoad) abort(connection *httpConnection, stream *httpStream) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.open[connection.fd] == connection && connection.stream == stream {
		_ = syscall.Shutdown(connection.fd, syscall.SHUT_RDWR)
	}
}

// close closes the socket. The caller holds the mutex.
func (l *httpLoad) close(connection *httpConnection) {
	delete(l.open, connection.fd)
	syscall.Close(connection.fd)
}

// read reads from all connections. The epoll descriptor is itself polled by Go's runtime, so that waiting does
// not hold the processor that other goroutines need.
func (l *httpLoad) read() {
	if err := syscall.SetNonblock(l.epoll, true); err != nil {
		log.Fatal(err)
	}
	pollable, err := os.NewFile(uintptr(l.epoll), "epoll").SyscallConn()
	if err != nil {
		log.Fatal(err)
	}
	events, buffer := make([]syscall.EpollEvent, 256), make([]byte, 64<<10)
	for {
		count := 0
		err := pollable.Read(func(fd uintptr) bool {
			count, _ = syscall.EpollWait(int(fd), events, 0)
			return count > 0
		})
		if err != nil {
			log.Fatal(err)
		}
		for _, event := range events[:count] {
			l.readOne(int(event.Fd), event.Events&^syscall.EPOLLIN != 0, buffer)
		}
	}
}

// readOne reads what has arrived. Less than a full buffer is all of it; a read that finds nothing would cost as
// much as the one before. Only an edge that reports the end of the connection needs that read.
func (l *httpLoad) readOne(fd int, closed bool, buffer []byte) {
	l.mutex.Lock()
	connection, stream := l.open[fd], (*httpStream)(nil)
	if connection != nil {
		stream = connection.stream
	}
	l.mutex.Unlock()
	if connection == nil {
		return
	}
	for {
		count, err := syscall.Read(fd, buffer)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return
		}
		if err == nil && count == 0 {
			err = io.ErrUnexpectedEOF
		}
		ended := false
		if stream != nil && err == nil {
			ended, err = stream.response.feed(buffer[:count], stream.onText)
		}
		if ended || err != nil {
			l.end(connection, err)
			return
		}
		if !closed && count < len(buffer) {
			return
		}
	}
}

// end reports the end of the stream, and keeps or closes the connection.
func (l *httpLoad) end(connection *httpConnection, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	stream := connection.stream
	connection.stream = nil
	if err == nil && stream.response.keepAlive {
		l.idle = append(l.idle, connection)
	} else {
		for index, idle := range l.idle {
			if idle == connection {
				l.idle = append(l.idle[:index], l.idle[index+1:]...)
				break
			}
		}
		l.close(connection)
	}
	if stream != nil {
		stream.ended <- err
	}
}

func (l *httpLoad) health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, l.opts.health, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(get)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// textOf returns the bytes as a string without a copy, for callers that do not keep it.
func textOf(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }

var (
	errNoDone = errors.New("the stream ended without [DONE]")
	done      = []byte("data: [DONE]")
	data      = []byte("data:")
	content   = []byte(`"content":`)
	quote     = []byte(`"`)
)

// contentOf returns the text of `"content":"..."`, which has no escapes in these streams.
func contentOf(line []byte) []byte {
	_, rest, _ := bytes.Cut(line, content)
	_, rest, _ = bytes.Cut(rest, quote)
	text, _, _ := bytes.Cut(rest, quote)
	if bytes.HasPrefix(line, data) && len(rest) > 0 {
		return text
	}
	return nil
}
