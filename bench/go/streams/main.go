// Opens many streams over gRPC or HTTP, at once or on a schedule, and measures when each token arrives.
//
// It measures what public tools cannot: ten thousand open streams with health checks meanwhile, the time
// to the first token of each stream, and the delay of every token from the upstream, which writes the due
// time into the token. Public tools run the other loads.
//
//	streams --protocol grpc --target 127.0.0.1:1 --model bench-400x20 --streams 100
//	streams --protocol http --target http://127.0.0.1:1/v1/chat/completions ... --hold 5s
//	streams --protocol grpc --target 127.0.0.1:1 --every 27ms --token-gap 20ms --fill 8s --measured 8s --drain 8s
//
// The result is one line of JSON. With --hold the program first prints a line when each stream has its
// first token, keeps the streams open, and then cancels them. With --every the streams arrive evenly spread,
// whether earlier ones have ended or not, and all times count from the moment at which a stream was due. Only the
// streams that arrive after --fill and within --measured are measured. The others keep the number of open streams
// constant.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

type options struct {
	protocol, target, model, health        string
	headers                                headers
	streams, repeat, tokens                int
	connections, perConnection, opening    int
	hold, limit                            time.Duration
	every, tokenGap, fill, measured, drain time.Duration
}

// headers are HTTP headers, or gRPC metadata: `--header "Name: value"`, repeatable.
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

// gcPercent makes collections rare: a collection in this process would delay tokens.
const gcPercent = 400

func main() {
	opts := options{headers: headers{}}
	flag.StringVar(&opts.protocol, "protocol", "grpc", "grpc or http")
	flag.StringVar(&opts.target, "target", "", "HOST:PORT, or a URL for http")
	flag.StringVar(&opts.model, "model", "bench-400x20", "script of the upstream")
	flag.StringVar(&opts.health, "health", "", "URL of the health check for http")
	flag.Var(opts.headers, "header", "header of each HTTP request, or metadata of each gRPC call")
	flag.IntVar(&opts.streams, "streams", 1, "streams at once")
	flag.IntVar(&opts.repeat, "repeat", 1, "streams one after another in each of them")
	flag.IntVar(&opts.tokens, "tokens", 0, "tokens without which a stream that ended has failed; 0: any number")
	flag.IntVar(&opts.connections, "connections", 0, "gRPC connections; 0: as --per-connection requires")
	flag.IntVar(&opts.perConnection, "per-connection", 100, "streams on one gRPC connection")
	flag.DurationVar(&opts.hold, "hold", 0, "time to keep the streams open")
	flag.IntVar(&opts.opening, "opening", 0, "maximum streams that wait for their first token at once; 0: all")
	flag.DurationVar(&opts.limit, "limit", 2*time.Minute, "time after which open streams fail")
	flag.DurationVar(&opts.every, "every", 0, "time between two arrivals, instead of --streams; 0: all at once")
	flag.DurationVar(&opts.tokenGap, "token-gap", 0, "time between two tokens, over which arrivals are spread")
	flag.DurationVar(&opts.fill, "fill", 0, "arrivals before the measurement")
	flag.DurationVar(&opts.measured, "measured", 8*time.Second, "arrivals that are measured")
	flag.DurationVar(&opts.drain, "drain", 0, "arrivals after the measurement, while measured streams are open")
	flag.Parse()
	debug.SetGCPercent(gcPercent)
	to := connect(opts)
	ran := runAtOnce
	if opts.every > 0 {
		ran = runOnSchedule
	}
	if err := json.NewEncoder(os.Stdout).Encode(ran(opts, to).result()); err != nil {
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
