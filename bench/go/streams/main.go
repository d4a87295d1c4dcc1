// Opens many streams at once, over gRPC or HTTP, and measures when each token arrives.
//
// It measures what public tools cannot: ten thousand open streams with health checks meanwhile, the time
// to the first token of each stream, and the delay of every token from the upstream, which writes the time
// of sending into the token. Public tools run the other loads.
//
//	streams --protocol grpc --target 127.0.0.1:1 --model bench-400x20 --streams 100
//	streams --protocol http --target http://127.0.0.1:1/v1/chat/completions ... --hold 5s
//
// The result is one line of JSON. With --hold the program first prints a line when each stream has its
// first token, keeps the streams open, and then cancels them.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

type options struct {
	protocol, target, model, health         string
	headers                                 headers
	streams, repeat, perConnection, opening int
	hold, limit                             time.Duration
}

// headers are HTTP headers: `--header "Name: value"`, repeatable.
type headers map[string]string

func (h headers) String() string { return fmt.Sprint(map[string]string(h)) }

func (h headers) Set(text string) error {
	name, value, found := strings.Cut(text, ": ")
	if !found {
		return fmt.Errorf(`%q is not a header: use "Name: value"`, text)
	}
	h[name] = value
	return nil
}

// load opens one stream and calls onText with the text of each event when it arrives.
type load interface {
	stream(ctx context.Context, onText func(text string)) error
	health(ctx context.Context) error
}

func main() {
	opts := options{headers: headers{}}
	flag.StringVar(&opts.protocol, "protocol", "grpc", "grpc or http")
	flag.StringVar(&opts.target, "target", "", "HOST:PORT, or a URL for http")
	flag.StringVar(&opts.model, "model", "bench-400x20", "script of the upstream")
	flag.StringVar(&opts.health, "health", "", "URL of the health check for http")
	flag.Var(opts.headers, "header", "header of each HTTP request")
	flag.IntVar(&opts.streams, "streams", 1, "streams at once")
	flag.IntVar(&opts.repeat, "repeat", 1, "streams one after another in each of them")
	flag.IntVar(&opts.perConnection, "per-connection", 100, "streams on one gRPC connection")
	flag.DurationVar(&opts.hold, "hold", 0, "time to keep the streams open")
	flag.IntVar(&opts.opening, "opening", 0, "maximum streams that wait for their first token at once; 0: all")
	flag.DurationVar(&opts.limit, "limit", 2*time.Minute, "time after which open streams fail")
	flag.Parse()
	result := run(opts, connect(opts))
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func connect(opts options) load {
	switch opts.protocol {
	case "grpc":
		return newGRPCLoad(opts)
	case "http":
		return newHTTPLoad(opts)
	}
	log.Fatalf("--protocol: %q is not grpc or http", opts.protocol)
	return nil
}

// result is the printed line. Times are in milliseconds.
type result struct {
	Streams      int       `json:"streams"`
	Failed       int       `json:"failed"`
	Failures     []string  `json:"failures"`
	Tokens       int       `json:"tokens"`
	FirstTokenMs quantiles `json:"first_token_ms"`
	DurationMs   quantiles `json:"duration_ms"`
	TokenMs      quantiles `json:"token_ms"`
	HealthMs     quantiles `json:"health_ms"`
	HealthFailed int       `json:"health_failed"`
}

type quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func quantilesOf(times []time.Duration) quantiles {
	if len(times) == 0 {
		return quantiles{}
	}
	slices.Sort(times)
	at := func(share float64) float64 {
		return float64(times[int(share*float64(len(times)-1))].Microseconds()) / 1000
	}
	return quantiles{Count: len(times), P50: at(0.5), P99: at(0.99), Max: at(1)}
}

// measurements holds the times, counts and failures of all streams.
type measurements struct {
	mutex                                             sync.Mutex
	firstTokens, durations, tokenDelays, healthChecks []time.Duration
	tokens, healthFailed                              int
	failures                                          []string
}

func run(opts options, to load) result {
	ctx, cancel := context.WithTimeout(context.Background(), opts.limit)
	defer cancel()
	measured := &measurements{}
	var opened, ended sync.WaitGroup
	slots := make(chan struct{}, max(opts.opening, 1))
	for range opts.streams {
		opened.Add(1)
		ended.Add(1)
		go func() {
			defer ended.Done()
			onFirstToken := sync.OnceFunc(opened.Done)
			if opts.opening > 0 {
				slots <- struct{}{}
				onFirstToken = sync.OnceFunc(func() { <-slots; opened.Done() })
			}
			defer onFirstToken()
			for range opts.repeat {
				runOne(ctx, to, measured, opts.hold > 0, onFirstToken)
			}
		}()
	}
	if opts.hold > 0 {
		hold(ctx, opts, to, measured, &opened)
		cancel()
	}
	ended.Wait()
	return result{
		Streams: opts.streams * opts.repeat, Failed: len(measured.failures), Failures: distinct(measured.failures), Tokens: measured.tokens,
		FirstTokenMs: quantilesOf(measured.firstTokens), DurationMs: quantilesOf(measured.durations),
		TokenMs: quantilesOf(measured.tokenDelays), HealthMs: quantilesOf(measured.healthChecks), HealthFailed: measured.healthFailed,
	}
}

// runOne runs one stream to its end and calls onFirstToken at its first token. A held stream ends by
// cancellation, which is not a failure.
func runOne(ctx context.Context, to load, measured *measurements, held bool, onFirstToken func()) {
	began := time.Now()
	var first time.Duration
	var delays []time.Duration
	tokens := 0
	err := to.stream(ctx, func(text string) {
		now := time.Now()
		if first == 0 {
			first = now.Sub(began)
			onFirstToken()
		}
		for _, word := range strings.Fields(text) {
			tokens++
			if sent, stamped := stampOf(word); stamped {
				delays = append(delays, now.Sub(sent))
			}
		}
	})
	measured.mutex.Lock()
	defer measured.mutex.Unlock()
	if first > 0 {
		measured.firstTokens = append(measured.firstTokens, first)
	}
	measured.tokens += tokens
	measured.tokenDelays = append(measured.tokenDelays, delays...)
	switch {
	case held && ctx.Err() != nil && first > 0:
	case err != nil:
		measured.failures = append(measured.failures, err.Error())
	default:
		measured.durations = append(measured.durations, time.Since(began))
	}
}

// stampOf parses a paced token, which is a time in microseconds since the epoch.
func stampOf(word string) (time.Time, bool) {
	if len(word) != 16 {
		return time.Time{}, false
	}
	var micros int64
	for _, digit := range word {
		if digit < '0' || digit > '9' {
			return time.Time{}, false
		}
		micros = micros*10 + int64(digit-'0')
	}
	return time.UnixMicro(micros), true
}

func hold(ctx context.Context, opts options, to load, measured *measurements, opened *sync.WaitGroup) {
	opened.Wait()
	fmt.Println(`{"open":true}`)
	for until := time.Now().Add(opts.hold); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		began := time.Now()
		if err := to.health(ctx); err != nil {
			measured.healthFailed++
			continue
		}
		measured.healthChecks = append(measured.healthChecks, time.Since(began))
	}
}

// distinct returns the first three distinct failures: a thousand streams often fail for one reason.
func distinct(failures []string) []string {
	slices.Sort(failures)
	failures = slices.Compact(failures)
	return failures[:min(len(failures), 3)]
}
