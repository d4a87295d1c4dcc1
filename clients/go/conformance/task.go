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

// task is a case as an actor reads it.
type task struct {
	ID         string            `json:"id"`
	Call       string            `json:"call"`
	Request    json.RawMessage   `json:"request"`
	DeadlineMS *int64            `json:"deadline_ms"`
	Cancel     *cancelTask       `json:"cancel"`
	Metadata   map[string]string `json:"metadata"`
	Retries    *bool             `json:"retries"`
	Arguments  json.RawMessage   `json:"arguments"`
}

// cancelTask is the condition on which the caller cancels the call.
type cancelTask struct {
	AfterEvents *int   `json:"after_events"`
	AfterMS     *int64 `json:"after_ms"`
}

func (a *actor) client(each task) *togetherchat.Client {
	if each.Retries != nil && !*each.Retries {
		return a.once
	}
	return a.retrying
}

func (a *actor) run(each task) (*observation, error) {
	ctx, cancel := each.context()
	defer cancel()
	client, withID := a.client(each), togetherchat.WithRequestID(each.ID)
	switch each.Call {
	case "Complete":
		request := &togetherchatv1.CompleteRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		response, err := client.Complete(ctx, request, withID)
		return observe(each.ID, messageOrNil(response), err)
	case "ListModels":
		request := &togetherchatv1.ListModelsRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		page, err := client.ListModels(ctx, request, withID)
		return observe(each.ID, messageOrNil(page), err)
	case "GetModel":
		request := &togetherchatv1.GetModelRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		found, err := client.GetModel(ctx, request, withID)
		return observe(each.ID, messageOrNil(found), err)
	case "QueryUsage":
		request := &togetherchatv1.QueryUsageRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		report, err := client.QueryUsage(ctx, request, withID)
		return observe(each.ID, messageOrNil(report), err)
	case "ListQuotas":
		request := &togetherchatv1.ListQuotasRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		quotas, err := client.ListQuotas(ctx, request, withID)
		return observe(each.ID, messageOrNil(quotas), err)
	case "ResetQuota":
		request := &togetherchatv1.ResetQuotaRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		quotas, err := client.ResetQuota(ctx, request, withID)
		return observe(each.ID, messageOrNil(quotas), err)
	case "Arguments":
		return a.check(each)
	case "StreamComplete":
		request := &togetherchatv1.CompleteRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return nil, err
		}
		return each.read(client.Stream(ctx, request, withID))
	default:
		return nil, fmt.Errorf("unknown call %q", each.Call)
	}
}

// read reads a stream to its end, or to the event after which the case cancels it.
func (t task) read(stream *togetherchat.CompletionStream) (*observation, error) {
	events := 0
	var failed error
	for _, err := range stream.Events() {
		if err != nil {
			failed = err
			break
		}
		events++
		if t.cancelsAfter(events) {
			break
		}
	}
	if failed == nil && t.cancelsAfter(events) {
		_, failed = stream.Recv()
	}
	var response proto.Message
	if events > 0 {
		response = stream.Response()
	}
	observed, err := observe(t.ID, response, failed)
	if err == nil {
		observed.Events = events
	}
	return observed, err
}

func (t task) cancelsAfter(events int) bool {
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

// messageOrNil turns a nil pointer into a nil interface.
func messageOrNil[M interface {
	comparable
	proto.Message
}](message M) proto.Message {
	var none M
	if message == none {
		return nil
	}
	return message
}
