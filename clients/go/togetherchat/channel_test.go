package togetherchat_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/togetherchat/togetherchat/clients/go/internal/scripted"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// read returns a file of the repository. A module that was downloaded alone has none.
func read(t *testing.T, parts ...string) string {
	t.Helper()
	repository := filepath.Join("..", "..", "..")
	if _, err := os.Stat(filepath.Join(repository, "protos")); os.IsNotExist(err) {
		t.Skip("not in a checkout of the repository")
	}
	text, err := os.ReadFile(filepath.Join(append([]string{repository}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The embedded service config equals the contract's, byte for byte.
func TestTheServiceConfigEqualsTheContracts(t *testing.T) {
	equal(t, read(t, "protos", "togetherchat", "v1", "service_config.json"), togetherchat.ServiceConfig)
}

// There is a constant for every reason of the service, and no other.
func TestTheConstantsAreTheReasonsOfTheService(t *testing.T) {
	table := read(t, "server", "togetherchat_server", "domain", "reasons.py")
	var reasons []string
	for _, match := range regexp.MustCompile(`Reason\.([A-Z_]+): Row\(`).FindAllStringSubmatch(table, -1) {
		reasons = append(reasons, match[1])
	}
	source := read(t, "clients", "go", "togetherchat", "reasons.go")
	var constants []string
	for _, match := range regexp.MustCompile(`\tReason\w+ += "([A-Z_]+)"`).FindAllStringSubmatch(source, -1) {
		constants = append(constants, match[1])
	}
	slices.Sort(reasons)
	slices.Sort(constants)
	if reasons = slices.Compact(reasons); len(reasons) == 0 || !slices.Equal(reasons, constants) {
		t.Errorf("expected %v, got %v", reasons, constants)
	}
}

// sent returns the values of a header that a service receives.
func sent(
	t *testing.T, header string,
	dialWith []togetherchat.Option, callWith []togetherchat.CallOption, pairs ...string,
) []string {
	t.Helper()
	var found []string
	service := &scripted.Service{OnComplete: func(
		ctx context.Context, _ *togetherchatv1.CompleteRequest,
	) (*togetherchatv1.CompleteResponse, error) {
		found = metadata.ValueFromIncomingContext(ctx, header)
		return &togetherchatv1.CompleteResponse{}, nil
	}}
	ctx := metadata.AppendToOutgoingContext(t.Context(), pairs...)
	client := dialScripted(t, service, dialWith...)
	if _, err := client.Complete(ctx, togetherchat.NewRequest("m", "Hi"), callWith...); err != nil {
		t.Fatal(err)
	}
	return found
}

// One key is sent: the caller's own metadata, else the call's key, else the client's.
func TestOneKeyIsSent(t *testing.T) {
	client := []togetherchat.Option{togetherchat.WithKey(" first\n")}
	call := []togetherchat.CallOption{togetherchat.WithKey("second")}
	for _, row := range []struct {
		name     string
		actual   []string
		expected string
	}{
		{"none", sent(t, "authorization", nil, nil), ""},
		{"the zero value's", sent(t, "authorization", []togetherchat.Option{togetherchat.KeyOption{}}, nil), ""},
		{"the client's", sent(t, "authorization", client, nil), "Bearer first"},
		{"the call's", sent(t, "authorization", client, call), "Bearer second"},
		{"the call's alone", sent(t, "authorization", nil, call), "Bearer second"},
		{"the metadata's", sent(t, "authorization", client, call, "authorization", "Basic third"), "Basic third"},
	} {
		t.Run(row.name, func(t *testing.T) {
			expected := []string{row.expected}
			if row.expected == "" {
				expected = nil
			}
			if !slices.Equal(expected, row.actual) {
				t.Errorf("expected %q, got %q", expected, row.actual)
			}
		})
	}
}

// The caller's own Together key is sent in a second header.
func TestAnUpstreamKeyIsSentBesideTheKey(t *testing.T) {
	options := []togetherchat.Option{togetherchat.WithKey("mine"), togetherchat.WithUpstreamKey("theirs")}
	equal(t, "theirs", sent(t, "x-together-api-key", options, nil)[0])
}

// A call has one id: the option's, else the metadata's, else a random one.
func TestACallHasOneID(t *testing.T) {
	named := []togetherchat.CallOption{togetherchat.WithRequestID("mine")}
	equal(t, "mine", sent(t, "x-request-id", nil, named)[0])
	inMetadata := sent(t, "x-request-id", nil, nil, "x-request-id", "theirs")
	equal(t, 1, len(inMetadata))
	equal(t, "theirs", inMetadata[0])
	equal(t, 32, len(sent(t, "x-request-id", nil, nil)[0]))
}

// The default on this machine is plaintext; WithTLS overrides it.
func TestTLSIsUsedWhereItIsRequested(t *testing.T) {
	service := streaming(nil, whole...)
	for _, row := range []struct {
		name    string
		option  togetherchat.Option
		reaches bool
	}{
		{"default", togetherchat.WithDialOptions(), true},
		{"plaintext", togetherchat.WithPlaintext(), true},
		{"TLS", togetherchat.WithTLS(nil), false},
		{"TLS with a config", togetherchat.WithTLS(&tls.Config{MinVersion: tls.VersionTLS13}), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := dialScripted(t, service, row.option, togetherchat.WithoutRetries()).
				Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
			equal(t, row.reaches, err == nil)
			if !row.reaches {
				equal(t, codes.Unavailable, failure(t, err).Code)
			}
		})
	}
}

// A client connects only to a server whose certificate it trusts.
func TestTLSIsVerified(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())
	service := streaming(nil, whole...)
	service.TLS = &tls.Config{Certificates: certificate.TLS.Certificates, MinVersion: tls.VersionTLS12}
	for _, row := range []struct {
		name    string
		roots   *x509.CertPool
		reaches bool
	}{{"trusted", roots, true}, {"not trusted", x509.NewCertPool(), false}} {
		t.Run(row.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: row.roots, MinVersion: tls.VersionTLS12}
			_, err := dialScripted(t, service, togetherchat.WithTLS(config), togetherchat.WithoutRetries()).
				Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
			equal(t, row.reaches, err == nil)
		})
	}
}

// A response above gRPC's default of 4 MiB is received.
func TestALargeResponseIsReceived(t *testing.T) {
	large := string(make([]byte, 8<<20))
	service := streaming(nil, scripted.Text(large), scripted.Completed(&togetherchatv1.Completed{}))
	response, err := dialScripted(t, service).
		Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, len(large), len(togetherchat.Text(response)))
}

// attempts returns how many attempts a client makes at a service that always fails with this pushback.
func attempts(t *testing.T, pushback string, options ...togetherchat.Option) int {
	t.Helper()
	made := 0
	service := &scripted.Service{OnComplete: func(
		ctx context.Context, _ *togetherchatv1.CompleteRequest,
	) (*togetherchatv1.CompleteResponse, error) {
		made++
		if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", pushback)); err != nil {
			return nil, err
		}
		return nil, scripted.Failure(codes.Unavailable, togetherchat.ReasonOverloaded, "busy")
	}}
	_, err := dialScripted(t, service, options...).Complete(t.Context(), togetherchat.NewRequest("m", "Hi"))
	equal(t, togetherchat.ReasonOverloaded, failure(t, err).Reason)
	return made
}

// The service controls retries: two attempts with a pushback, one with -1 or without retries.
func TestTheServiceControlsRetries(t *testing.T) {
	equal(t, 2, attempts(t, "1"))
	equal(t, 1, attempts(t, "-1"))
	equal(t, 1, attempts(t, "1", togetherchat.WithoutRetries()))
}

// With health checks, a service that reports NOT_SERVING gets no calls. They are off by default.
func TestAServiceThatIsNotServingGetsNoCalls(t *testing.T) {
	service := streaming(nil, whole...)
	service.NotServing = true
	_, err := dialScripted(t, service, togetherchat.WithoutRetries(), togetherchat.WithHealthChecking(true)).
		Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
	equal(t, codes.Unavailable, failure(t, err).Code)
	_, err = dialScripted(t, service, togetherchat.WithoutRetries()).
		Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect()
	if err != nil {
		t.Errorf("without health checks: %v", err)
	}
}

// A proxy that never answers the health watch does not make calls wait for their deadline.
func TestAWatchWithoutAnAnswerDelaysNoCallForLong(t *testing.T) {
	watches := make(chan metadata.MD, 8)
	service := streaming(nil, whole...)
	service.Watch = func(ctx context.Context) error {
		sent, _ := metadata.FromIncomingContext(ctx)
		watches <- sent
		<-ctx.Done()
		return ctx.Err()
	}
	client := dialScripted(
		t, service, togetherchat.WithoutRetries(), togetherchat.WithHealthChecking(true), togetherchat.WithKey("tc_1"),
	)
	for range 3 {
		// The test's context has no deadline: a call that waits for the watch would not end.
		if _, err := client.Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect(); err != nil {
			t.Error(err)
		}
	}
	equal(t, "Bearer tc_1", strings.Join((<-watches).Get("authorization"), ", "))
	equal(t, 0, len(watches))
}

// A gateway in plaintext that demands a key accepts the watch, which carries the client's key.
func TestAGatewayThatDemandsAKeyAcceptsTheWatch(t *testing.T) {
	demand := func(ctx context.Context) error {
		if sent, _ := metadata.FromIncomingContext(ctx); len(sent.Get("authorization")) == 0 {
			return status.Error(codes.Unauthenticated, "the gateway demands a key")
		}
		return nil
	}
	service := streaming(nil, whole...)
	service.Watch = demand
	client := dialScripted(
		t, service, togetherchat.WithoutRetries(), togetherchat.WithHealthChecking(true), togetherchat.WithKey("tc_1"),
	)
	if _, err := client.Stream(t.Context(), togetherchat.NewRequest("m", "Hi")).Collect(); err != nil {
		t.Error(err)
	}
}

// A call that is cancelled while the watch has no answer ends at once.
func TestACallThatWaitsForTheWatchCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	service := streaming(nil, whole...)
	service.Watch = func(watch context.Context) error {
		cancel()
		<-watch.Done()
		return watch.Err()
	}
	_, err := dialScripted(t, service, togetherchat.WithHealthChecking(true)).
		Stream(ctx, togetherchat.NewRequest("m", "Hi")).Collect()
	equal(t, codes.Canceled, failure(t, err).Code)
}

// Models ranges over all pages and sends the filters with each.
func TestModelsRangesOverAllPages(t *testing.T) {
	var queries []string
	service := &scripted.Service{OnListModels: func(
		_ context.Context, request *togetherchatv1.ListModelsRequest,
	) (*togetherchatv1.ListModelsResponse, error) {
		queries = append(queries, request.GetQuery())
		next := map[string]string{"": "b", "b": "c"}[request.GetPageToken()]
		return &togetherchatv1.ListModelsResponse{
			Models: []*togetherchatv1.Model{{Id: "model-" + request.GetPageToken()}}, NextPageToken: next,
		}, nil
	}}
	request := &togetherchatv1.ListModelsRequest{Query: "llama"}
	var ids []string
	for model, err := range dialScripted(t, service).Models(t.Context(), request) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, model.GetId())
	}
	if !slices.Equal([]string{"model-", "model-b", "model-c"}, ids) {
		t.Errorf("got %v", ids)
	}
	if !slices.Equal([]string{"llama", "llama", "llama"}, queries) {
		t.Errorf("got %v", queries)
	}
	equal(t, "", request.GetPageToken())
}

// The error of a page is the last pair.
func TestModelsEndsWithTheErrorOfAPage(t *testing.T) {
	failures := 0
	for _, err := range dialScripted(t, &scripted.Service{}).Models(t.Context(), &togetherchatv1.ListModelsRequest{}) {
		equal(t, codes.Unimplemented, failure(t, err).Code)
		failures++
	}
	equal(t, 1, failures)
}
