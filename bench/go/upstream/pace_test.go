package main

import (
	"bytes"
	"testing"
	"time"
)

// A token has its due time twice, as in Together's events, and a constant length.
func TestATokenCarriesItsDueTime(t *testing.T) {
	stream := pacedStream{due: time.UnixMicro(1786528791000123), token: append([]byte{}, stampChunk...)}
	token := stream.stamped()
	if bytes.Count(token, []byte(" 1786528791000123")) != 2 || len(token) != len(stampChunk) {
		t.Fatalf("%s", token)
	}
}

// The queue keeps the order when it grows around its end.
func TestTheQueueKeepsTheOrder(t *testing.T) {
	var queue ring
	pushed, popped := 0, 0
	for range 3000 {
		for range 2 {
			queue.push(&pacedStream{left: pushed})
			pushed++
		}
		if left := queue.pop().left; left != popped {
			t.Fatalf("%d instead of %d", left, popped)
		}
		popped++
	}
}
