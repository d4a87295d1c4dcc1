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

// web asks an OpenAI-compatible server and reads its events without parsing their JSON: the
// load must cost less than what it is put on.
type web struct {
	asked  options
	body   []byte
	client *http.Client
}

func overHTTP(asked options) *web {
	return &web{
		asked: asked,
		body: fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":%q}],"stream":true}`,
			asked.model, prompt),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: asked.streams, DisableCompression: true,
			ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		}},
	}
}

func (w *web) stream(ctx context.Context, heard func(string)) error {
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, w.asked.target, bytes.NewReader(w.body))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	for name, value := range w.asked.headers {
		post.Header.Set(name, value)
	}
	answer, err := w.client.Do(post)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	lines := bufio.NewReader(answer.Body)
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
			heard(text)
		}
	}
}

// contentOf is the text of `"content":"..."`, which in these streams has nothing to unescape.
func contentOf(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`"content":`))
	_, rest, _ = bytes.Cut(rest, []byte(`"`))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	if bytes.HasPrefix(line, []byte("data:")) && len(rest) > 0 {
		return string(text)
	}
	return ""
}

func (w *web) health(ctx context.Context) error {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, w.asked.health, nil)
	if err != nil {
		return err
	}
	answer, err := w.client.Do(get)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
