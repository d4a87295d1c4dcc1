// Package serviceprocess starts the real server and the sandbox (which simulates the provider) for tests, as
// processes on free loopback ports. It does not use the client library.
package serviceprocess

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"time"
)

// startTimeout allows for a busy machine; an idle machine needs one second.
const startTimeout = 2 * time.Minute

var (
	servingLine = regexp.MustCompile(`SERVING: gRPC on ([^, ]+)`)
	sandboxLine = regexp.MustCompile(`listening on (http://\S+)/v1`)
)

// Service is a server whose provider is a sandbox.
type Service struct {
	// Target is the server's address.
	Target string

	sandboxURL string
	processes  []*process
}

// Request is one request in the sandbox's request log.
type Request struct {
	ID    string `json:"id"`
	Model string `json:"model"`
	// Ended is `complete`, `client_closed`, `aborted_by_sandbox` or `running`.
	Ended string `json:"ended"`
}

// Start starts server and sandbox with the Python of TOGETHERCHAT_PYTHON, else of the repository's .venv.
func Start() (*Service, error) {
	sandbox, address, err := start(sandboxLine, nil,
		"togetherchat_sandbox", "--listen", "127.0.0.1:0", "--first-token-ms", "0", "--tokens-per-second", "0")
	if err != nil {
		return nil, err
	}
	service := &Service{sandboxURL: address, processes: []*process{sandbox}}
	if err := service.serve(); err != nil {
		service.Stop()
		return nil, err
	}
	return service, nil
}

// Another starts a second server in front of the same sandbox. Its retry budget is full and its
// adaptive throttle is empty.
func (s *Service) Another() (*Service, error) {
	another := &Service{sandboxURL: s.sandboxURL}
	return another, another.serve()
}

func (s *Service) serve() error {
	server, address, err := start(servingLine, []string{"TOGETHER_BASE_URL=" + s.sandboxURL + "/v1"},
		"togetherchat_server", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "off")
	if err != nil {
		return err
	}
	s.processes = append(s.processes, server)
	s.Target = address
	return nil
}

// Stop stops the processes, the server first.
func (s *Service) Stop() {
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].stop()
	}
}

// RequestLog returns the requests that the sandbox received with this request id.
func (s *Service) RequestLog(requestID string) ([]Request, error) {
	response, err := http.Get(s.sandboxURL + "/sandbox/request-log?id=" + url.QueryEscape(requestID))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var log struct {
		Requests []Request `json:"requests"`
	}
	return log.Requests, json.NewDecoder(response.Body).Decode(&log)
}

// Root returns the folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}

func python() string {
	if path := os.Getenv("TOGETHERCHAT_PYTHON"); path != "" {
		return path
	}
	return filepath.Join(Root(), ".venv", "bin", "python")
}

type process struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	ended   chan struct{}
}

// runUntilEOF runs a Python module until its standard input is closed, so that a killed test leaves no
// process behind.
const runUntilEOF = `
import os, runpy, signal, sys, threading
def watch():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
`

// start runs a Python module and waits for the output line that contains its address.
func start(line *regexp.Regexp, environment []string, arguments ...string) (*process, string, error) {
	command := exec.Command(python(), append([]string{"-c", runUntilEOF}, arguments...)...)
	command.Env = append(os.Environ(), environment...)
	command.Env = append(command.Env, "PYTHONPATH="+
		filepath.Join(Root(), "protos")+string(os.PathListSeparator)+filepath.Join(Root(), "server"))
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	output, writer, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	command.Stdout, command.Stderr = writer, writer
	if err := command.Start(); err != nil {
		return nil, "", fmt.Errorf("%w (set TOGETHERCHAT_PYTHON to a Python with the server's dependencies)", err)
	}
	_ = writer.Close()
	started := &process{command: command, stdin: stdin, ended: make(chan struct{})}
	address := make(chan string, 1)
	go started.read(output, line, address)
	select {
	case found := <-address:
		if found != "" {
			return started, found, nil
		}
		err = errors.New(arguments[0] + " exited before it served")
	case <-time.After(startTimeout):
		err = errors.New(arguments[0] + " did not start in time")
	}
	started.stop()
	return nil, "", err
}

// read sends the address and then discards output until the process exits. If the process exits
// without an address, read prints its output to standard error and sends "".
func (p *process) read(output io.ReadCloser, line *regexp.Regexp, address chan<- string) {
	defer close(p.ended)
	defer output.Close()
	var printed []string
	for lines := bufio.NewScanner(output); lines.Scan(); printed = append(printed, lines.Text()) {
		if match := line.FindStringSubmatch(lines.Text()); match != nil {
			address <- match[1]
			_, _ = io.Copy(io.Discard, output)
			return
		}
	}
	for _, text := range printed {
		fmt.Fprintln(os.Stderr, text)
	}
	address <- ""
}

func (p *process) stop() {
	_ = p.stdin.Close()
	<-p.ended
	_ = p.command.Wait()
}
