// Command conformance is the Go actor of clients/conformance. It reads cases from standard input, one
// JSON object a line, makes each call through the client library, and writes what it observed. The
// judge compares; the actor does not.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: conformance HOST:PORT < cases")
		os.Exit(2)
	}
	if err := runCases(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// actor has one client that retries and one that does not, and opens others for cases about arguments.
type actor struct {
	target   string
	retrying *togetherchat.Client
	once     *togetherchat.Client
}

func runCases(target string, input io.Reader, output io.Writer) error {
	retrying, err := togetherchat.Dial(target, togetherchat.WithPlaintext())
	if err != nil {
		return err
	}
	defer retrying.Close()
	once, err := togetherchat.Dial(target, togetherchat.WithPlaintext(), togetherchat.WithoutRetries())
	if err != nil {
		return err
	}
	defer once.Close()
	actor := &actor{target: target, retrying: retrying, once: once}
	return actor.runEach(input, output)
}

func (a *actor) runEach(input io.Reader, output io.Writer) error {
	observations := json.NewEncoder(output)
	observations.SetEscapeHTML(false)
	lines := bufio.NewReader(input)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			if failed := a.runLine(line, observations); failed != nil {
				return failed
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (a *actor) runLine(line []byte, observations *json.Encoder) error {
	var each task
	if err := json.Unmarshal(line, &each); err != nil {
		return err
	}
	observed, err := a.run(each)
	if err != nil {
		return fmt.Errorf("case %s: %w", each.ID, err)
	}
	return observations.Encode(observed)
}
