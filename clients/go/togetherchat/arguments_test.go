package togetherchat_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/togetherchat/togetherchat/clients/go/internal/codeunits"
	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

const language = "go"

// argumentCase is a case of clients/conformance/arguments.json.
type argumentCase struct {
	ID        string `json:"id"`
	Arguments struct {
		Target               *string     `json:"target"`
		Key                  *string     `json:"key"`
		UpstreamKey          *string     `json:"upstream_key"`
		MaxReconnectBackoffS *float64    `json:"max_reconnect_backoff_s"`
		RequestID            *repeated   `json:"request_id"`
		Metadata             [][2]string `json:"metadata"`
		TextUTF16            []rune      `json:"text_utf16"`
	} `json:"arguments"`
	Message      string            `json:"message"`
	Argument     string            `json:"argument"`
	Placeholders map[string]string `json:"placeholders"`
	Languages    []string          `json:"languages"`
}

// argumentList is clients/conformance/arguments.json: what every client accepts and rejects.
type argumentList struct {
	Names       map[string]map[string]string `json:"names"`
	Prefixes    map[string]string            `json:"prefixes"`
	Messages    map[string]string            `json:"messages"`
	TargetForms []struct {
		Example   string   `json:"example"`
		Languages []string `json:"languages"`
	} `json:"target_forms"`
	Options []map[string]any `json:"options"`
	Cases   []argumentCase   `json:"cases"`
}

// repeated is a text, or {"$repeat": ["text", N]}.
type repeated string

func (r *repeated) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		return json.Unmarshal(raw, (*string)(r))
	}
	var parts struct {
		Repeat [2]any `json:"$repeat"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	text, _ := parts.Repeat[0].(string)
	count, _ := parts.Repeat[1].(float64)
	*r = repeated(strings.Repeat(text, int(count)))
	return nil
}

func arguments(t *testing.T) argumentList {
	t.Helper()
	var list argumentList
	if err := json.Unmarshal([]byte(read(t, "clients", "conformance", "arguments.json")), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// expected returns the error text of a case; "" if the case is accepted.
func (list argumentList) expected(each argumentCase) string {
	if each.Message == "" {
		return ""
	}
	words := []string{"{tls}", list.Names["tls"][language], "{argument}", list.Names[each.Argument][language]}
	for name, value := range each.Placeholders {
		words = append(words, "{"+name+"}", value)
	}
	return list.Prefixes[language] + strings.NewReplacer(words...).Replace(list.Messages[each.Message])
}

// use gives the argument of a case to the client and returns the error, as text.
func (each argumentCase) use(t *testing.T) string {
	t.Helper()
	target, options := "localhost:1", []togetherchat.Option{}
	if each.Arguments.Target != nil {
		target = *each.Arguments.Target
	}
	if each.Arguments.Key != nil {
		options = append(options, togetherchat.WithKey(*each.Arguments.Key))
	}
	if each.Arguments.UpstreamKey != nil {
		options = append(options, togetherchat.WithUpstreamKey(*each.Arguments.UpstreamKey))
	}
	if each.Arguments.MaxReconnectBackoffS != nil {
		longest := time.Duration(*each.Arguments.MaxReconnectBackoffS * float64(time.Second))
		options = append(options, togetherchat.WithMaxReconnectBackoff(longest))
	}
	client, err := togetherchat.Dial(target, options...)
	if err != nil {
		return argumentErrorText(t, err)
	}
	defer client.Close()
	return each.call(t)
}

// call makes a call and a stream with the arguments of a call, and returns the error of both.
func (each argumentCase) call(t *testing.T) string {
	t.Helper()
	service := streaming(nil, whole...)
	service.OnComplete = func(context.Context, *togetherchatv1.CompleteRequest) (*togetherchatv1.CompleteResponse, error) {
		return &togetherchatv1.CompleteResponse{}, nil
	}
	client := dialScripted(t, service)
	ctx := t.Context()
	for _, pair := range each.Arguments.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, pair[0], pair[1])
	}
	request := togetherchat.NewRequest("m", codeunits.Text(each.Arguments.TextUTF16))
	var options []togetherchat.CallOption
	if each.Arguments.RequestID != nil {
		options = append(options, togetherchat.WithRequestID(string(*each.Arguments.RequestID)))
	}
	_, err := client.Complete(ctx, request, options...)
	_, streamErr := client.Stream(ctx, request, options...).Collect()
	if err == nil && streamErr == nil {
		return ""
	}
	equal(t, argumentErrorText(t, err), argumentErrorText(t, streamErr))
	return err.Error()
}

func argumentErrorText(t *testing.T, err error) string {
	t.Helper()
	var wrong *togetherchat.ArgumentError
	if !errors.As(err, &wrong) {
		t.Fatalf("expected an ArgumentError, got %v", err)
	}
	equal(t, codes.InvalidArgument, status.Code(err))
	return err.Error()
}

// A wrong target, option, metadata pair or text is rejected at once, in the words of all clients.
func TestArgumentsAreCheckedInTheSharedWords(t *testing.T) {
	list := arguments(t)
	for _, each := range list.Cases {
		if each.Languages == nil || slices.Contains(each.Languages, language) {
			t.Run(each.ID, func(t *testing.T) { equal(t, list.expected(each), each.use(t)) })
		}
	}
}

// A target form is accepted where the shared list says so, and rejected otherwise.
func TestTargetFormsAreThoseOfTheSharedList(t *testing.T) {
	for _, form := range arguments(t).TargetForms {
		t.Run(form.Example, func(t *testing.T) {
			_, err := togetherchat.Dial(form.Example)
			equal(t, slices.Contains(form.Languages, language), err == nil)
		})
	}
}

// Every option of the shared list exists under its name.
func TestEveryOptionOfTheSharedListExists(t *testing.T) {
	source := read(t, "clients", "go", "togetherchat", "options.go")
	for _, row := range arguments(t).Options {
		name, _ := row[language].(string)
		if !strings.Contains(source, "\nfunc "+name+"(") {
			t.Errorf("there is no function %q", name)
		}
	}
}

// Bytes that are not UTF-8 are rejected with their place, wherever they are in the request.
func TestTextThatIsNotUTF8IsRejectedWithItsPlace(t *testing.T) {
	request := togetherchat.NewRequest("m", "Hi")
	request.Tools = []*togetherchatv1.Tool{togetherchat.FunctionTool("f", "gr\xf6\xdfe", "{}")}
	_, err := dialScripted(t, &scripted.Service{}).Complete(t.Context(), request)
	equal(t, "togetherchat: tools[0].function.description: is not valid UTF-8; decode the bytes before they become text",
		argumentErrorText(t, err))
}

// proxyAnswer returns the error of a call that a proxy answered with an HTTP status and a page.
func proxyAnswer(t *testing.T, httpStatus int) *togetherchat.Error {
	t.Helper()
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("content-type", "text/html")
		response.WriteHeader(httpStatus)
		_, _ = response.Write([]byte("<html></html>"))
	}))
	proxy.Config.Protocols = new(http.Protocols)
	proxy.Config.Protocols.SetUnencryptedHTTP2(true)
	proxy.Start()
	defer proxy.Close()
	client, err := togetherchat.Dial(proxy.Listener.Addr().String(), togetherchat.WithoutRetries())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, failed := client.Complete(t.Context(), togetherchat.NewRequest("m", "Hi"))
	return failure(t, failed)
}

// A proxy's HTTP error has the reason and the hint of the shared list.
func TestAProxysAnswerHasAReasonAndAHint(t *testing.T) {
	var list struct {
		Rows []struct {
			Reason    string   `json:"reason"`
			Codes     []string `json:"codes"`
			Statuses  []int    `json:"http_statuses"`
			Retryable *bool    `json:"retryable"`
			Hint      string   `json:"hint"`
		} `json:"client_reasons"`
	}
	if err := json.Unmarshal([]byte(read(t, "clients", "conformance", "client_reasons.json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, row := range list.Rows {
		statuses := row.Statuses
		if row.Reason == togetherchat.ReasonProxyError {
			statuses = []int{418, 500}
		}
		for _, httpStatus := range statuses {
			t.Run(strconv.Itoa(httpStatus), func(t *testing.T) {
				failed := proxyAnswer(t, httpStatus)
				equal(t, row.Reason, failed.Reason)
				equal(t, row.Hint, failed.Hint)
				equal(t, row.Retryable != nil && *row.Retryable, failed.Retryable)
				code := scripted.CodeName(failed.Code)
				equal(t, true, len(row.Codes) == 0 || slices.Contains(row.Codes, code))
			})
		}
	}
}

// A call with WithWaitForReady waits for a server that starts later; without it, the call fails at once.
func TestACallCanWaitForAServer(t *testing.T) {
	service := streaming(nil, whole...)
	target, stop := service.Start()
	stop()
	client, err := togetherchat.Dial(target, togetherchat.WithWaitForReady(true), togetherchat.WithoutRetries(),
		togetherchat.WithMaxReconnectBackoff(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request := togetherchat.NewRequest("m", "Hi")
	_, failed := client.Complete(t.Context(), request, togetherchat.WithWaitForReady(false))
	equal(t, togetherchat.ReasonNotConnected, failure(t, failed).Reason)
	collected := make(chan error)
	go func() {
		_, err := client.Stream(t.Context(), request).Collect()
		collected <- err
	}()
	defer service.StartAt(target)()
	if err := <-collected; err != nil {
		t.Fatal(err)
	}
}

// A call that waits for a server ends with its deadline.
func TestACallThatWaitsEndsWithItsDeadline(t *testing.T) {
	target, stop := (&scripted.Service{}).Start()
	stop()
	client, err := togetherchat.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, failed := client.Complete(ctx, togetherchat.NewRequest("m", "Hi"), togetherchat.WithWaitForReady(true))
	equal(t, codes.DeadlineExceeded, failure(t, failed).Code)
}
