package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The second chunk begins in the middle of an event, as a gateway may cut it.
var response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
	chunk(`data: {"delta":{"content":" a"}}`) + chunk("\n\ndata: {\"content\":\" b\"}\n\ndata: [DONE]\n\n") + chunk("")

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

func parse(t *testing.T, pieces ...string) (string, bool, *responseParser) {
	t.Helper()
	var parser responseParser
	var texts strings.Builder
	complete := false
	for _, piece := range pieces {
		ended, err := parser.feed([]byte(piece), func(text string) { texts.WriteString(text) })
		if err != nil {
			t.Fatal(err)
		}
		complete = complete || ended
	}
	return texts.String(), complete, &parser
}

// The result does not depend on where a read cuts the response.
func TestAResponseIsParsedWhereverItIsCut(t *testing.T) {
	for cut := range len(response) {
		texts, complete, parser := parse(t, response[:cut], response[cut:])
		if texts != " a b" || !complete || !parser.keepAlive {
			t.Fatalf("cut at %d: %q, complete %v, keep-alive %v", cut, texts, complete, parser.keepAlive)
		}
	}
}

// A gateway that ends a stream early must not count as fast.
func TestAResponseWithoutDoneFails(t *testing.T) {
	var parser responseParser
	_, err := parser.feed([]byte(strings.Replace(response, "[DONE]", "[GONE]", 1)), func(string) {})
	if err != errNoDone {
		t.Fatal(err)
	}
}

// The status of a rejected request is the cause of the failure.
func TestAnErrorStatusIsReported(t *testing.T) {
	var parser responseParser
	_, err := parser.feed([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), func(string) {})
	if err == nil || err.Error() != "HTTP status 503 Service Unavailable" {
		t.Fatal(err)
	}
}

// A merged message holds several tokens, each with its own delay.
func TestTokensOfAMergedMessageAreCounted(t *testing.T) {
	var one stream
	one.count(" 1786528791000000 1786528791020000 t07", time.UnixMicro(1786528791030000))
	if one.tokens != 3 || len(one.delays) != 2 || one.delays[0] != 30*time.Millisecond || one.delays[1] != 10*time.Millisecond {
		t.Fatal(one.tokens, one.delays)
	}
}
