// Opens many streams at once, over gRPC or HTTP, and says when each token came.
//
// It owns what no public tool does: ten thousand streams held open with the health of the server
// asked meanwhile, the first token of each, and the way of every token from the upstream, which
// writes into the token when it sent it. Loads without such questions are left to public tools.
//
//	streams --protocol grpc --target 127.0.0.1:1 --model bench-400x20 --streams 100
//	streams --protocol http --target http://127.0.0.1:1/v1/chat/completions ... --hold 5s
//
// The result is one line of JSON. With --hold the streams are left open once each has its first
// token, after a line that says so, and are closed without reading them to their end.
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

// headers are HTTP headers, `--header "Name: value"`, any number of times.
type headers map[string]string

func (h headers) String() string { return fmt.Sprint(map[string]string(h)) }

func (h headers) Set(text string) error {
	name, value, found := strings.Cut(text, ": ")
	if !found {
		return fmt.Errorf("%q is no header", text)
	}
	h[name] = value
	return nil
}

// asker opens one stream and calls heard with the text of each piece as it comes.
type asker interface {
	stream(ctx context.Context, heard func(text string)) error
	health(ctx context.Context) error
}

func main() {
	asked := options{headers: headers{}}
	flag.StringVar(&asked.protocol, "protocol", "grpc", "grpc or http")
	flag.StringVar(&asked.target, "target", "", "HOST:PORT, or a URL")
	flag.StringVar(&asked.model, "model", "bench-400x20", "the upstream's script")
	flag.StringVar(&asked.health, "health", "", "URL of the health over HTTP")
	flag.Var(asked.headers, "header", "of each HTTP request")
	flag.IntVar(&asked.streams, "streams", 1, "at once")
	flag.IntVar(&asked.repeat, "repeat", 1, "so many one after the other in each place")
	flag.IntVar(&asked.perConnection, "per-connection", 100, "streams on one gRPC connection")
	flag.DurationVar(&asked.hold, "hold", 0, "leave the streams open for so long")
	flag.IntVar(&asked.opening, "opening", 0, "at most so many at once that wait for their first token; 0: all")
	flag.DurationVar(&asked.limit, "limit", 2*time.Minute, "give up the streams that have not ended by then")
	flag.Parse()
	result := run(asked, connect(asked))
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func connect(asked options) asker {
	switch asked.protocol {
	case "grpc":
		return overRPC(asked)
	case "http":
		return overHTTP(asked)
	}
	log.Fatalf("no protocol %q", asked.protocol)
	return nil
}

// result is what is printed. Times are milliseconds.
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

// tally gathers what the streams saw.
type tally struct {
	mutex                      sync.Mutex
	first, whole, ways, checks []time.Duration
	tokens, sick               int
	failures                   []string
}

func run(asked options, to asker) result {
	ctx, leave := context.WithTimeout(context.Background(), asked.limit)
	defer leave()
	seen := &tally{}
	var begun, ended sync.WaitGroup
	places := make(chan struct{}, max(asked.opening, 1))
	for range asked.streams {
		begun.Add(1)
		ended.Add(1)
		go func() {
			defer ended.Done()
			tell := sync.OnceFunc(begun.Done)
			if asked.opening > 0 {
				places <- struct{}{}
				tell = sync.OnceFunc(func() { <-places; begun.Done() })
			}
			defer tell()
			for range asked.repeat {
				one(ctx, to, seen, asked.hold > 0, tell)
			}
		}()
	}
	if asked.hold > 0 {
		hold(ctx, asked, to, seen, &begun)
		leave()
	}
	ended.Wait()
	return result{
		Streams: asked.streams * asked.repeat, Failed: len(seen.failures), Failures: distinct(seen.failures), Tokens: seen.tokens,
		FirstTokenMs: quantilesOf(seen.first), DurationMs: quantilesOf(seen.whole),
		TokenMs: quantilesOf(seen.ways), HealthMs: quantilesOf(seen.checks), HealthFailed: seen.sick,
	}
}

// one stream from its start to its end; tell is called when its first token is here. A held one is
// ended by leaving it, which is no failure.
func one(ctx context.Context, to asker, seen *tally, held bool, tell func()) {
	began := time.Now()
	var first time.Duration
	var ways []time.Duration
	tokens := 0
	err := to.stream(ctx, func(text string) {
		now := time.Now()
		if first == 0 {
			first = now.Sub(began)
			tell()
		}
		for _, word := range strings.Fields(text) {
			tokens++
			if sent, stamped := stampOf(word); stamped {
				ways = append(ways, now.Sub(sent))
			}
		}
	})
	seen.mutex.Lock()
	defer seen.mutex.Unlock()
	if first > 0 {
		seen.first = append(seen.first, first)
	}
	seen.tokens += tokens
	seen.ways = append(seen.ways, ways...)
	switch {
	case held && ctx.Err() != nil && first > 0:
	case err != nil:
		seen.failures = append(seen.failures, err.Error())
	default:
		seen.whole = append(seen.whole, time.Since(began))
	}
}

// stampOf reads the microseconds since the epoch that a paced token consists of.
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

func hold(ctx context.Context, asked options, to asker, seen *tally, begun *sync.WaitGroup) {
	begun.Wait()
	fmt.Println(`{"open":true}`)
	for until := time.Now().Add(asked.hold); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		began := time.Now()
		if err := to.health(ctx); err != nil {
			seen.sick++
			continue
		}
		seen.checks = append(seen.checks, time.Since(began))
	}
}

// distinct failures, the first few: a thousand streams fail for one reason.
func distinct(failures []string) []string {
	slices.Sort(failures)
	failures = slices.Compact(failures)
	return failures[:min(len(failures), 3)]
}
