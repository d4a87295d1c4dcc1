// Package sdks tests Go clients for OpenAI's API, as published, against the service.
//
// with_service.py starts the service and the sandbox behind it.
package sdks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	model           = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo"
	text            = "Hello there, friend."
	say             = "say: " + text
	weatherQuestion = "What is the weather in Paris?"
	personQuestion  = "Who? Answer in JSON."
)

var (
	long     = strings.TrimSpace(strings.Repeat(text+" ", 20))
	sayLong  = "say: " + long
	statuses = []int{401, 404, 429, 500, 503}
	// Models of the sandbox whose stream fails after its first tokens.
	failingStreams = []string{"sandbox/stream-error-after-3", "sandbox/cut-stream"}

	weatherParameters = map[string]any{
		"type":       "object",
		"properties": map[string]any{"city": map[string]string{"type": "string"}},
		"required":   []string{"city"},
	}
	personSchema = map[string]any{
		"type": "object",
		"properties": map[string]any{
			"name": map[string]string{"type": "string"},
			"age":  map[string]string{"type": "integer"},
		},
		"required":             []string{"name", "age"},
		"additionalProperties": false,
	}
)

type person struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}

// A client is the functions that test the features of a client.
type client struct {
	name, source                              string
	call, stream, tools, schema, errs, cancel func(*testing.T)
}

// run runs the tests. Each passed one is a line of JSON in the file that INTEGRATIONS_OUT names (../README.md).
func (c client) run(t *testing.T) {
	for _, feature := range []struct {
		name string
		test func(*testing.T)
	}{
		{"call", c.call}, {"stream", c.stream}, {"tools", c.tools},
		{"schema", c.schema}, {"errors", c.errs}, {"cancel", c.cancel},
	} {
		if t.Run(feature.name, feature.test) {
			record(t, map[string]string{
				"client": c.name, "feature": feature.name, "result": "yes", "source": c.source,
			})
		}
	}
}

func record(t *testing.T, line map[string]string) {
	path := os.Getenv("INTEGRATIONS_OUT")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := json.NewEncoder(file).Encode(line); err != nil {
		t.Fatal(err)
	}
}

func baseURL(t *testing.T) string {
	return address(t, "TOGETHERCHAT_BASE_URL")
}

func address(t *testing.T, variable string) string {
	t.Helper()
	found := os.Getenv(variable)
	if found == "" {
		t.Fatalf("%s is not set: run the tests with tests/sdks/with_service.py", variable)
	}
	return found
}

// endOf waits until the only request for a model has ended, and returns how.
func endOf(t *testing.T, model string) string {
	t.Helper()
	log := address(t, "TOGETHERCHAT_SANDBOX_URL") + "/sandbox/request-log?model=" + url.QueryEscape(model)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(log)
		if err != nil {
			t.Fatal(err)
		}
		var found struct {
			Requests []struct{ Ended string }
		}
		err = json.NewDecoder(response.Body).Decode(&found)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Requests) == 1 && found.Requests[0].Ended != "running" {
			return found.Requests[0].Ended
		}
	}
	t.Fatalf("%s did not end", model)
	return ""
}

// errorModel returns the model that fails with a status.
func errorModel(status int) string {
	return fmt.Sprintf("sandbox/error-%d", status)
}

// checkArguments checks the arguments of a call of get_weather.
func checkArguments(t *testing.T, name, arguments string) {
	t.Helper()
	var found struct{ City *string }
	if err := json.Unmarshal([]byte(arguments), &found); err != nil {
		t.Fatal(err)
	}
	if name != "get_weather" || found.City == nil {
		t.Fatalf("called %s(%s)", name, arguments)
	}
}

// checkPerson checks a completion that must fit the schema of a person.
func checkPerson(t *testing.T, content string) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(content))
	decoder.DisallowUnknownFields()
	var found person
	if err := decoder.Decode(&found); err != nil {
		t.Fatal(err)
	}
	if found.Name == "" {
		t.Fatalf("no name in %s", content)
	}
}
