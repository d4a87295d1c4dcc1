// Command conformance is the Go actor of clients/conformance: it makes the calls that stand on its
// standard input, one JSON object a line, through the client library, and writes for each of them
// what it saw. It judges nothing.
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
	if err := act(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// actor has a client with retries, and one without.
type actor struct {
	retrying *togetherchat.Client
	once     *togetherchat.Client
}

func act(target string, input io.Reader, output io.Writer) error {
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
	return eachCase(&actor{retrying: retrying, once: once}, input, output)
}

func eachCase(actor *actor, input io.Reader, output io.Writer) error {
	answers := json.NewEncoder(output)
	answers.SetEscapeHTML(false)
	lines := bufio.NewReader(input)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			if failed := actor.answer(line, answers); failed != nil {
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

func (a *actor) answer(line []byte, answers *json.Encoder) error {
	var asked task
	if err := json.Unmarshal(line, &asked); err != nil {
		return err
	}
	saw, err := a.perform(asked)
	if err != nil {
		return fmt.Errorf("case %s: %w", asked.ID, err)
	}
	return answers.Encode(saw)
}
