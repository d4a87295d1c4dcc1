//go:build tools

// Package controlplane pins what deploy/e2e builds, in go.mod and go.sum.
package controlplane

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
