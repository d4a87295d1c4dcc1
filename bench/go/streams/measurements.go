package main

import (
	"slices"
	"sync"
	"syscall"
	"time"
)

// result is the printed line. Times are in milliseconds. `all_tokens` also counts the streams that are not
// measured: they cost CPU, too.
type result struct {
	Streams      int            `json:"streams"`
	Failed       int            `json:"failed"`
	Failures     map[string]int `json:"failures"`
	Tokens       int            `json:"tokens"`
	AllTokens    int            `json:"all_tokens"`
	FirstTokenMs quantiles      `json:"first_token_ms"`
	DurationMs   quantiles      `json:"duration_ms"`
	TokenMs      quantiles      `json:"token_ms"`
	HealthMs     quantiles      `json:"health_ms"`
	HealthFailed int            `json:"health_failed"`
	CPUs         float64        `json:"cpu_s"`
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

// stream is what was measured of one stream.
type stream struct {
	first, duration time.Duration
	delays          []time.Duration
	tokens          int
	err             error
	cancelled       bool // by this program
}

// count counts the words of a text, each of which is a token, and notes the delays of paced tokens.
func (s *stream) count(text string, now time.Time) {
	for begin := 0; begin < len(text); {
		if text[begin] == ' ' {
			begin++
			continue
		}
		end := begin
		for end < len(text) && text[end] != ' ' {
			end++
		}
		s.tokens++
		if due, stamped := stampOf(text[begin:end]); stamped {
			s.delays = append(s.delays, time.Duration(now.UnixMicro()-due)*time.Microsecond)
		}
		begin = end
	}
}

// stampOf parses a paced token, which is its due time in microseconds since the epoch.
func stampOf(word string) (int64, bool) {
	if len(word) != 16 {
		return 0, false
	}
	var micros int64
	for index := range len(word) {
		if word[index] < '0' || word[index] > '9' {
			return 0, false
		}
		micros = micros*10 + int64(word[index]-'0')
	}
	return micros, true
}

// measurements holds the streams of a run, and the health checks.
type measurements struct {
	mutex        sync.Mutex
	streams      []stream
	unmeasured   []stream
	healthChecks []time.Duration
	healthFailed int
}

func (m *measurements) add(one stream) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.streams = append(m.streams, one)
}

// include adds streams of which only tokens and failures count.
func (m *measurements) include(unmeasured *measurements) { m.unmeasured = unmeasured.streams }

func (m *measurements) result() result {
	out := result{
		Streams: len(m.streams) + len(m.unmeasured), Failures: map[string]int{},
		HealthMs: quantilesOf(m.healthChecks), HealthFailed: m.healthFailed, CPUs: cpuSeconds(),
	}
	var firsts, durations, delays []time.Duration
	for _, one := range m.streams {
		out.Tokens += one.tokens
		delays = append(delays, one.delays...)
		if one.first > 0 {
			firsts = append(firsts, one.first)
		}
		if one.err == nil {
			durations = append(durations, one.duration)
		}
	}
	out.AllTokens = out.Tokens
	for _, one := range m.unmeasured {
		out.AllTokens += one.tokens
	}
	for _, one := range slices.Concat(m.streams, m.unmeasured) {
		if one.err != nil && !one.cancelled {
			out.Failed++
			out.Failures[causeOf(one.err)]++
		}
	}
	out.FirstTokenMs, out.DurationMs, out.TokenMs = quantilesOf(firsts), quantilesOf(durations), quantilesOf(delays)
	return out
}

// cpuSeconds returns the CPU time of this process: the load must not be the limit.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
