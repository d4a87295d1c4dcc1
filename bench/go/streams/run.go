package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// load opens one stream and calls onText with the text of each event when it arrives. The text may only be used
// during that call.
type load interface {
	stream(ctx context.Context, onText func(text string)) error
	health(ctx context.Context) error
}

var errUnmeasured = errors.New("all measured streams have ended")

// runAtOnce opens all streams in the same instant, or with at most --opening of them before their first token.
func runAtOnce(opts options, to load) *measurements {
	ctx, cancel := context.WithTimeout(context.Background(), opts.limit)
	defer cancel()
	measured := &measurements{}
	var opened, ended sync.WaitGroup
	slots := make(chan struct{}, max(opts.opening, 1))
	began := time.Now()
	for range opts.streams {
		opened.Add(1)
		ended.Add(1)
		go func() {
			defer ended.Done()
			due, onFirstToken := began, sync.OnceFunc(opened.Done)
			if opts.opening > 0 {
				slots <- struct{}{}
				due, onFirstToken = time.Now(), sync.OnceFunc(func() { <-slots; opened.Done() })
			}
			defer onFirstToken()
			for range opts.repeat {
				runOne(ctx, opts, to, measured, due, onFirstToken)
				due = time.Now()
			}
		}()
	}
	if opts.hold > 0 {
		hold(ctx, opts, to, measured, &opened)
		cancel()
	}
	ended.Wait()
	return measured
}

// goldenRatio: the fractional parts of its multiples are evenly distributed, however many of them are taken.
const goldenRatio = 0.618034

// phase returns by how much a stream arrives later, up to --token-gap. Where the time between two arrivals is a
// multiple of the time between two tokens, all streams would otherwise have their tokens in the same instant.
func phase(number int, tokenGap time.Duration) time.Duration {
	_, fraction := math.Modf(float64(number) * goldenRatio)
	return time.Duration(fraction * float64(tokenGap))
}

// runOnSchedule opens a stream every --every. It ends when all measured streams have ended, or at the limit.
func runOnSchedule(opts options, to load) *measurements {
	limited, cancelLimited := context.WithTimeout(context.Background(), opts.limit)
	defer cancelLimited()
	ctx, cancel := context.WithCancelCause(limited)
	measured, unmeasured := &measurements{}, &measurements{}
	var measuredEnded, ended sync.WaitGroup
	began := time.Now()
	for number := 0; ; number++ {
		after := time.Duration(number) * opts.every
		if after >= opts.fill+opts.measured+opts.drain {
			break
		}
		time.Sleep(time.Until(began.Add(after)))
		due := began.Add(after + phase(number, opts.tokenGap))
		into := unmeasured
		if counts := after >= opts.fill && after < opts.fill+opts.measured; counts {
			into = measured
			measuredEnded.Add(1)
		}
		ended.Add(1)
		go func() {
			defer ended.Done()
			time.Sleep(time.Until(due))
			runOne(ctx, opts, to, into, due, func() {})
			if into == measured {
				measuredEnded.Done()
			}
		}()
	}
	measuredEnded.Wait()
	cancel(errUnmeasured)
	ended.Wait()
	measured.include(unmeasured)
	return measured
}

// runOne runs one stream to its end and calls onFirstToken at its first token. All times count from `due`.
func runOne(ctx context.Context, opts options, to load, into *measurements, due time.Time, onFirstToken func()) {
	one := stream{delays: make([]time.Duration, 0, opts.tokens)}
	one.err = to.stream(ctx, func(text string) {
		now := time.Now()
		if one.first == 0 {
			one.first = now.Sub(due)
			onFirstToken()
		}
		one.count(text, now)
	})
	one.duration = time.Since(due)
	if one.err == nil && one.tokens < opts.tokens {
		one.err = fmt.Errorf("%d of %d tokens arrived", one.tokens, opts.tokens)
	}
	switch {
	case one.err == nil || ctx.Err() == nil:
	case ctx.Err() == context.DeadlineExceeded:
		one.err = fmt.Errorf("not ended after %v", opts.limit)
	case one.first > 0 && opts.hold > 0 || context.Cause(ctx) == errUnmeasured:
		one.cancelled = true
	}
	into.add(one)
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
