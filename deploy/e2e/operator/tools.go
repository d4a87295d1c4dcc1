//go:build tools

// Package operator pins the Prometheus operator in go.mod and go.sum. deploy/e2e installs its resource definitions.
package operator

import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
