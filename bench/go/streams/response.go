package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// responseParser reads an HTTP/1.1 response with an event stream, in pieces of any size. It keeps only what a
// piece leaves incomplete: the head, the size of a chunk, or a line.
type responseParser struct {
	keepAlive bool

	head      []byte
	inBody    bool
	chunked   bool
	left      int // bytes left of the body, or of the chunk with its line end
	size      []byte
	lastChunk bool
	line      []byte
	done      bool
}

const headBytesMax = 64 << 10

// feed parses a piece, calls onText with each text, and returns whether the response is complete.
func (p *responseParser) feed(piece []byte, onText func(string)) (bool, error) {
	if !p.inBody {
		p.head = append(p.head, piece...)
		head, body, found := bytes.Cut(p.head, []byte("\r\n\r\n"))
		if !found {
			if len(p.head) > headBytesMax {
				return false, fmt.Errorf("the head of the response is longer than %d bytes", headBytesMax)
			}
			return false, nil
		}
		if err := p.parseHead(string(head)); err != nil {
			return false, err
		}
		piece = body
	}
	complete, err := p.body(piece, onText)
	if complete && !p.done {
		err = errNoDone
	}
	return complete, err
}

func (p *responseParser) parseHead(head string) error {
	status, fields, _ := strings.Cut(head, "\r\n")
	words := strings.SplitN(status, " ", 3)
	if len(words) < 2 || words[1] != "200" {
		return fmt.Errorf("HTTP status %s", strings.Join(words[1:], " "))
	}
	p.inBody, p.keepAlive = true, true
	for _, field := range strings.Split(fields, "\r\n") {
		name, value, _ := strings.Cut(strings.ToLower(field), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "transfer-encoding":
			p.chunked = value == "chunked"
		case "connection":
			p.keepAlive = value != "close"
		}
	}
	if !p.chunked {
		return fmt.Errorf("the response is not chunked")
	}
	return nil
}

func (p *responseParser) body(piece []byte, onText func(string)) (bool, error) {
	for len(piece) > 0 {
		if p.left > 0 {
			taken := min(p.left, len(piece))
			// The last two bytes of a chunk are its line end.
			if text := min(taken, p.left-2); text > 0 {
				p.text(piece[:text], onText)
			}
			p.left -= taken
			piece = piece[taken:]
			if p.left == 0 && p.lastChunk {
				return true, nil
			}
			continue
		}
		size, rest, found := bytes.Cut(piece, []byte("\n"))
		p.size = append(p.size, size...)
		if !found {
			return false, nil
		}
		piece = rest
		digits, _, _ := strings.Cut(strings.TrimSpace(string(p.size)), ";")
		length, err := strconv.ParseUint(digits, 16, 31)
		if err != nil {
			return false, fmt.Errorf("%q is not the size of a chunk", digits)
		}
		p.size = p.size[:0]
		p.left, p.lastChunk = int(length)+2, length == 0
	}
	return false, nil
}

// text splits the body into lines.
func (p *responseParser) text(piece []byte, onText func(string)) {
	for {
		line, rest, found := bytes.Cut(piece, []byte("\n"))
		if !found {
			p.line = append(p.line, piece...)
			return
		}
		if len(p.line) > 0 {
			p.line = append(p.line, line...)
			line = p.line
		}
		if bytes.HasPrefix(line, done) {
			p.done = true
		} else if text := contentOf(line); len(text) > 0 {
			onText(textOf(text))
		}
		p.line = p.line[:0]
		piece = rest
	}
}
