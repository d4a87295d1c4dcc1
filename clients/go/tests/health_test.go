package tests

import (
	"strings"
	"testing"
)

// The client imports grpc/health, without which gRPC makes no health checks. A test that makes a call
// could not show this: every test that serves imports the package too.
func TestTheClientImportsTheHealthCheck(t *testing.T) {
	packages := strings.Fields(command(t, "go", "list", "-deps", "./togetherchat"))
	for _, each := range packages {
		if each == "google.golang.org/grpc/health" {
			return
		}
	}
	t.Errorf("grpc/health is not among the %d packages that the client imports", len(packages))
}
