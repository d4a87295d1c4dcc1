package tests

import (
	"strings"
	"testing"
)

// gRPC's health check works only in a program that has its package: the client brings it along. (A
// test cannot see it at work, for every test that serves has the package too.)
func TestTheClientBringsTheHealthCheck(t *testing.T) {
	packages := strings.Fields(command(t, "go", "list", "-deps", "./togetherchat"))
	for _, each := range packages {
		if each == "google.golang.org/grpc/health" {
			return
		}
	}
	t.Errorf("not among %d packages", len(packages))
}
