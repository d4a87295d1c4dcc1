package main

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const causeBytesMax = 100

// causeOf returns a text by which failures are counted: the gRPC status, or the error.
func causeOf(err error) string {
	text := err.Error()
	if from, isStatus := status.FromError(err); isStatus && from.Code() != codes.OK {
		text = from.Code().String() + ": " + from.Message()
	}
	return text[:min(len(text), causeBytesMax)]
}
