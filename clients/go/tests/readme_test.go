package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/togetherchat/togetherchat/clients/go/internal/served"
)

const addressOfTheREADME = "localhost:50051"

var (
	snippets = regexp.MustCompile("(?ms)^## ([^\n]+)$[^#]*?^```go\n(.*?)^```")
	module   = filepath.Join(served.Root(), "clients", "go")
)

// What each program of the README must print, beside what the sandbox makes up.
var printed = map[string]string{
	"A stream":                "“What is gRPC?”",
	"A call":                  "“What is gRPC?”",
	"A tool loop":             "get_weather {\"city\":",
	"An error, with back-off": "RATE_LIMITED_REQUESTS",
}

// What the README shows is a whole program, formatted as gofmt has it, that runs as printed.
func TestTheREADMEsProgramsRunAsPrinted(t *testing.T) {
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
			file := written(t, strings.Replace(snippet, addressOfTheREADME, service.Target, 1))
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

// The examples answer, and the tool's result comes back through the model.
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

func written(t *testing.T, source string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// command is the output of a program that ran in the module and ended well.
func command(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	running := exec.CommandContext(ctx, name, arguments...)
	running.Dir = module
	output, err := running.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return string(output)
}
