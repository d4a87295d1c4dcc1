package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/togetherchat/togetherchat/clients/go/internal/codeunits"
	"github.com/togetherchat/togetherchat/clients/go/togetherchat"
)

const argumentsModel = "meta-llama/Llama-3.3-70B-Instruct-Turbo"

// arguments are those of a client or a call, in a case about arguments.
type arguments struct {
	Target               *string     `json:"target"`
	Key                  *string     `json:"key"`
	UpstreamKey          *string     `json:"upstream_key"`
	MaxReconnectBackoffS *float64    `json:"max_reconnect_backoff_s"`
	RequestID            string      `json:"request_id"`
	Metadata             [][2]string `json:"metadata"`
	TextUTF16            []rune      `json:"text_utf16"`
}

// check opens a client with the arguments of a case; it calls, unless the case is about the target.
func (a *actor) check(each task) (*observation, error) {
	given := &arguments{TextUTF16: []rune("Hi")}
	if err := json.Unmarshal(each.Arguments, given); err != nil {
		return nil, err
	}
	observed, _ := observe(each.ID, nil, nil)
	err := given.use(a.target)
	var wrong *togetherchat.ArgumentError
	if errors.As(err, &wrong) {
		observed.Code, observed.Message = "REJECTED", wrong.Error()
		return observed, nil
	}
	return observe(each.ID, nil, err)
}

func (g *arguments) use(server string) error {
	options := []togetherchat.Option{togetherchat.WithPlaintext()}
	if g.Key != nil {
		options = append(options, togetherchat.WithKey(*g.Key))
	}
	if g.UpstreamKey != nil {
		options = append(options, togetherchat.WithUpstreamKey(*g.UpstreamKey))
	}
	if g.MaxReconnectBackoffS != nil {
		longest := time.Duration(*g.MaxReconnectBackoffS * float64(time.Second))
		options = append(options, togetherchat.WithMaxReconnectBackoff(longest))
	}
	if g.Target != nil {
		server = *g.Target
	}
	client, err := togetherchat.Dial(server, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	if g.Target != nil {
		return nil
	}
	ctx := context.Background()
	for _, pair := range g.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, pair[0], pair[1])
	}
	request := togetherchat.NewRequest(argumentsModel, codeunits.Text(g.TextUTF16))
	_, err = client.Complete(ctx, request, togetherchat.WithRequestID(g.RequestID))
	return err
}
