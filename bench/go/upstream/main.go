// The scripted upstream: the part of Together's HTTP API that the benchmark uses.
//
// It owns the pace of the responses and counts the requests; it does not know the contestants. It serves
// HTTP/1.1 over plain sockets instead of net/http: a response is one write of prepared bytes, which costs
// a few microseconds, so that the upstream never limits a contestant. The name of the model is the script:
// `bench-unary`, `bench-wait20` (responds after 20 ms), `bench-400x0` (400 tokens at once, each its own
// HTTP chunk), `bench-400x20` (one token every 20 ms; each token is its due time in microseconds since the
// epoch).
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bodyBytesMax = 1 << 20
	// gcPercent makes collections rare: a collection in this process would delay tokens.
	gcPercent = 400
	// acceptRetry is the pause after a failed accept.
	acceptRetry = 10 * time.Millisecond
)

// Counters since the start; `open` is a gauge of streams in flight.
var calls, streams, tokens, open atomic.Int64

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "HOST:PORT")
	flag.Parse()
	debug.SetGCPercent(gcPercent)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil { // too many open files, for example: that passes
			log.Print(err)
			time.Sleep(acceptRetry)
			continue
		}
		go serve(connection)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 16<<10)
	for {
		path, body, err := readRequest(reader)
		if err != nil || respond(connection, path, body) != nil {
			return
		}
	}
}

// readRequest reads one request with a Content-Length, a chunked body, or none.
func readRequest(reader *bufio.Reader) (path string, body []byte, err error) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return "", nil, err
	}
	words := strings.Fields(string(line))
	if len(words) != 3 {
		return "", nil, io.ErrUnexpectedEOF
	}
	length, chunked := 0, false
	for {
		line, err = reader.ReadSlice('\n')
		if err != nil {
			return "", nil, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || length > bodyBytesMax {
				return "", nil, io.ErrShortBuffer
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = true
		}
	}
	if chunked {
		body, err = readChunks(reader)
		return words[1], body, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(reader, body)
	return words[1], body, err
}

func readChunks(reader *bufio.Reader) ([]byte, error) {
	var body []byte
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil || len(body)+int(size) > bodyBytesMax {
			return nil, io.ErrShortBuffer
		}
		chunk := make([]byte, size+2)
		if _, err = io.ReadFull(reader, chunk); err != nil {
			return nil, err
		}
		if size == 0 {
			return body, nil
		}
		body = append(body, chunk[:size]...)
	}
}

func respond(connection net.Conn, path string, body []byte) error {
	switch {
	case strings.HasSuffix(path, "/counts"):
		return write(connection, withHead(fmt.Appendf(nil, `{"calls":%d,"streams":%d,"tokens":%d,"open":%d}`,
			calls.Load(), streams.Load(), tokens.Load(), open.Load())))
	case strings.HasSuffix(path, "/chat/completions"):
		return complete(connection, scriptOf(body))
	default:
		return write(connection, models)
	}
}

// script is the parsed name of a model.
type script struct {
	tokens int // 0: a unary response
	gap    time.Duration
}

func scriptOf(body []byte) script {
	name := modelOf(body)
	if wait, found := strings.CutPrefix(name, "wait"); found {
		return script{gap: milliseconds(wait)}
	}
	count, gap, found := strings.Cut(name, "x")
	if !found {
		return script{}
	}
	number, _ := strconv.Atoi(count)
	return script{tokens: number, gap: milliseconds(gap)}
}

// modelOf returns the name after `"model": "bench-`. Gateways change the order of the members.
func modelOf(body []byte) string {
	_, rest, _ := bytes.Cut(body, []byte(`"model"`))
	_, rest, _ = bytes.Cut(rest, []byte("bench-"))
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(name)
}

func milliseconds(text string) time.Duration {
	number, _ := strconv.Atoi(text)
	return time.Duration(number) * time.Millisecond
}

func complete(connection net.Conn, requested script) error {
	calls.Add(1)
	if requested.tokens == 0 {
		time.Sleep(requested.gap)
		return write(connection, unary)
	}
	streams.Add(1)
	open.Add(1)
	defer open.Add(-1)
	if requested.gap == 0 {
		tokens.Add(int64(requested.tokens))
		return write(connection, burst(requested.tokens))
	}
	return trickle(connection, requested)
}

// bursts holds the bytes of complete streams by their number of tokens. The tokens differ: some gateways
// treat a hundred equal tokens as a failure of the model and end the stream.
var bursts sync.Map

func burst(count int) []byte {
	if stream, found := bursts.Load(count); found {
		return stream.([]byte)
	}
	stream := append(append([]byte{}, streamHead...), firstChunk...)
	for number := range count {
		stream = append(stream, token(fmt.Sprintf(" t%02d", number%100))...)
	}
	stream = append(stream, streamEnd...)
	bursts.Store(count, stream)
	return stream
}

func write(connection net.Conn, data []byte) error {
	_, err := connection.Write(data)
	return err
}

// Responses, in the format of Together ---------------------------------------------------------

const (
	created    = 1786528791
	stampZeros = "0000000000000000"
)

var (
	text  = strings.Repeat("The quick brown fox jumps over the lazy dog. ", 20)
	unary = withHead(fmt.Appendf(nil, `{"id":"ovtS38F-bench","object":"chat.completion","created":%d,`+
		`"model":"bench","prompt":[],"choices":[{"finish_reason":"stop","seed":1234567890,"logprobs":null,`+
		`"index":0,"message":{"role":"assistant","content":%q,"tool_calls":[]}}],`+
		`"usage":{"prompt_tokens":180,"completion_tokens":200,"total_tokens":380}}`, created, text))
	models = withHead(fmt.Appendf(nil, `{"object":"list","data":[%s,%s]}`, model("bench-unary"), model("bench-400x0")))

	streamHead = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n" +
		"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n")
	firstChunk = event(`"index":0,"text":"","logprobs":null,"finish_reason":null,`+
		`"delta":{"token_id":null,"role":"assistant","content":""}`, "null")
	stampChunk     = token(" " + stampZeros)
	stampPositions = positionsOf(stampZeros, stampChunk)
	streamEnd      = bytes.Join([][]byte{
		event(`"index":0,"text":"","logprobs":null,"finish_reason":"stop","seed":1234567890,`+
			`"delta":{"token_id":0,"role":"assistant","content":""}`,
			`{"prompt_tokens":180,"completion_tokens":400,"total_tokens":580}`),
		chunk("data: [DONE]\n\n"),
		[]byte("0\r\n\r\n"),
	}, nil)
)

func model(id string) string {
	return fmt.Sprintf(`{"id":%q,"object":"model","created":%d,"owned_by":"bench","type":"chat"}`, id, created)
}

func withHead(body []byte) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	return append([]byte(head), body...)
}

// positionsOf returns where a text begins: a token is in its event twice.
func positionsOf(text string, in []byte) (positions []int) {
	for from := 0; ; from += len(text) {
		index := bytes.Index(in[from:], []byte(text))
		if index < 0 {
			return positions
		}
		from += index
		positions = append(positions, from)
	}
}

func event(choice, usage string) []byte {
	return chunk(fmt.Sprintf(`data: {"id":"ovtS38F-bench","object":"chat.completion.chunk","created":%d,`+
		`"choices":[{%s}],"model":"bench","usage":%s}`+"\n\n", created, choice, usage))
}

func token(text string) []byte {
	return event(fmt.Sprintf(`"index":0,"text":%q,"logprobs":null,"finish_reason":null,`+
		`"delta":{"token_id":4037,"role":"assistant","content":%q}`, text, text), "null")
}

func chunk(data string) []byte {
	return fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data)
}
