package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/togetherchat/togetherchat/clients/go/internal/serviceprocess"
)

const addressInREADME = "localhost:50051"

var (
	snippets = regexp.MustCompile("(?ms)^## ([^\n]+)$[^#]*?^```go\n(.*?)^```")
	module   = filepath.Join(serviceprocess.Root(), "clients", "go")
)

// printed is text that the output of each program of the README must contain.
var printed = map[string]string{
	"A stream":                "“What is gRPC?”",
	"A call":                  "“What is gRPC?”",
	"A tool loop":             "get_weather {\"city\":",
	"An error, with back-off": "RATE_LIMITED_REQUESTS",
	"Usage and cost":          "usage",
}

// Every program of the README is formatted by gofmt, and runs unchanged.
func TestTheProgramsOfTheREADMERun(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := snippets.FindAllStringSubmatch(string(text), -1)
	equal(t, strings.Count(string(text), "```go\n"), len(found))
	equal(t, len(printed), len(found))
	for _, match := range found {
		title, snippet := match[1], match[2]
		t.Run(title, func(t *testing.T) {
			file := writeFile(t, strings.Replace(snippet, addressInREADME, service.Target, 1))
			equal(t, "", command(t, "gofmt", "-l", file))
			output := command(t, "go", "run", file)
			expected, known := printed[title]
			equal(t, true, known)
			if !strings.Contains(output, expected) {
				t.Errorf("expected %q in %q", expected, output)
			}
		})
	}
}

// The examples print the completion, and the tool's result is in the model's text.
func TestTheExamplesRun(t *testing.T) {
	for name, row := range map[string]struct{ question, expected string }{
		"complete": {"echo: one call", "one call"},
		"stream":   {"echo: one stream", "one stream"},
		"tools":    {"What is the weather in Paris?", "18 degrees and sunny"},
	} {
		t.Run(name, func(t *testing.T) {
			output := command(t, "go", "run", "./examples/"+name, "-target", service.Target, row.question)
			if !strings.Contains(output, row.expected) {
				t.Errorf("expected %q in %q", row.expected, output)
			}
		})
	}
}

func writeFile(t *testing.T, source string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// command runs a program in the module's folder and returns its output.
func command(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*waitTimeout)
	defer cancel()
	running := exec.CommandContext(ctx, name, arguments...)
	running.Dir = module
	output, err := running.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return string(output)
}
