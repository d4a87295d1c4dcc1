package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

var prompt = strings.Repeat("Why is the sky blue, and why is it red at dusk? ", 15)

// httpLoad sends requests to an OpenAI-compatible server and reads the events without parsing their
// JSON: the load must cost less than the measured server.
type httpLoad struct {
	opts   options
	body   []byte
	client *http.Client
}

func newHTTPLoad(opts options) *httpLoad {
	return &httpLoad{
		opts: opts,
		body: fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":%q}],"stream":true}`,
			opts.model, prompt),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: opts.streams, DisableCompression: true,
			ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		}},
	}
}

func (l *httpLoad) stream(ctx context.Context, onText func(string)) error {
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, l.opts.target, bytes.NewReader(l.body))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	for name, value := range l.opts.headers {
		post.Header.Set(name, value)
	}
	response, err := l.client.Do(post)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return errors.New("the stream ended without [DONE]")
		}
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte("data: [DONE]")) {
			_, err = io.Copy(io.Discard, lines)
			return err
		}
		if text := contentOf(line); text != "" {
			onText(text)
		}
	}
}

// contentOf returns the text of `"content":"..."`, which has no escapes in these streams.
func contentOf(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`"content":`))
	_, rest, _ = bytes.Cut(rest, []byte(`"`))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	if bytes.HasPrefix(line, []byte("data:")) && len(rest) > 0 {
		return string(text)
	}
	return ""
}

func (l *httpLoad) health(ctx context.Context) error {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, l.opts.health, nil)
	if err != nil {
		return err
	}
	response, err := l.client.Do(get)
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
