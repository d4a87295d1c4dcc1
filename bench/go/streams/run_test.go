package main

import (
	"testing"
	"time"
)

func TestPhasesAreSpreadOverTheTimeBetweenTwoTokens(t *testing.T) {
	const gap, parts, streams = 20 * time.Millisecond, 10, 100
	var counts [parts]int
	for number := range streams {
		counts[phase(number, gap)/(gap/parts)]++
	}
	for part, count := range counts {
		if count < streams/parts-1 || count > streams/parts+1 {
			t.Errorf("%d of %d streams in part %d", count, streams, part)
		}
	}
}

func TestPhaseIsZeroWithoutATimeBetweenTokens(t *testing.T) {
	if got := phase(3, 0); got != 0 {
		t.Errorf("got %v", got)
	}
}
