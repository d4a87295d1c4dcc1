//go:build tools

// Package operator pins the Prometheus operator, whose kinds deploy/e2e takes, in go.mod and go.sum.
package operator

import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
