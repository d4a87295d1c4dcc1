package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// task is a case, as an actor reads it.
type task struct {
	ID         string            `json:"id"`
	Call       string            `json:"call"`
	Request    json.RawMessage   `json:"request"`
	DeadlineMS *int64            `json:"deadline_ms"`
	Cancel     *cancelling       `json:"cancel"`
	Metadata   map[string]string `json:"metadata"`
	Retries    *bool             `json:"retries"`
}

// cancelling says when the caller leaves.
type cancelling struct {
	AfterEvents *int   `json:"after_events"`
	AfterMS     *int64 `json:"after_ms"`
}

func (a *actor) client(asked task) *togetherchat.Client {
	if asked.Retries != nil && !*asked.Retries {
		return a.once
	}
	return a.retrying
}

func (a *actor) perform(asked task) (*sighting, error) {
	ctx, cancel := asked.context()
	defer cancel()
	client, named := a.client(asked), togetherchat.WithRequestID(asked.ID)
	switch asked.Call {
	case "Complete":
		request := &togetherchatv1.CompleteRequest{}
		if err := protojson.Unmarshal(asked.Request, request); err != nil {
			return nil, err
		}
		answer, err := client.Complete(ctx, request, named)
		return see(asked.ID, answerOr(answer), err)
	case "ListModels":
		request := &togetherchatv1.ListModelsRequest{}
		if err := protojson.Unmarshal(asked.Request, request); err != nil {
			return nil, err
		}
		page, err := client.ListModels(ctx, request, named)
		return see(asked.ID, answerOr(page), err)
	case "StreamComplete":
		request := &togetherchatv1.CompleteRequest{}
		if err := protojson.Unmarshal(asked.Request, request); err != nil {
			return nil, err
		}
		return asked.watch(client.Stream(ctx, request, named))
	default:
		return nil, fmt.Errorf("there is no call %q", asked.Call)
	}
}

// watch reads a stream, to its end or to where the case leaves it.
func (t task) watch(stream *togetherchat.Stream) (*sighting, error) {
	events := 0
	var ended error
	for _, err := range stream.Events() {
		if err != nil {
			ended = err
			break
		}
		events++
		if t.leavesAfter(events) {
			break
		}
	}
	if ended == nil && t.leavesAfter(events) {
		_, ended = stream.Recv()
	}
	var answer proto.Message
	if events > 0 {
		answer = stream.Response()
	}
	saw, err := see(t.ID, answer, ended)
	if err == nil {
		saw.Events = events
	}
	return saw, err
}

func (t task) leavesAfter(events int) bool {
	return t.Cancel != nil && t.Cancel.AfterEvents != nil && *t.Cancel.AfterEvents <= events
}

func (t task) context() (context.Context, context.CancelFunc) {
	ctx := context.Background()
	for key, value := range t.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	ctx, cancel := context.WithCancel(ctx)
	if t.Cancel != nil && t.Cancel.AfterMS != nil {
		time.AfterFunc(milliseconds(*t.Cancel.AfterMS), cancel)
	}
	if t.DeadlineMS == nil {
		return ctx, cancel
	}
	ctx, release := context.WithTimeout(ctx, milliseconds(*t.DeadlineMS))
	return ctx, func() { release(); cancel() }
}

func milliseconds(count int64) time.Duration { return time.Duration(count) * time.Millisecond }

// answerOr makes a nil pointer a nil message.
func answerOr[M interface {
	comparable
	proto.Message
}](answer M) proto.Message {
	var none M
	if answer == none {
		return nil
	}
	return answer
}
