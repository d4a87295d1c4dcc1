// Package togetherchat calls the togetherchat service: Together AI's chat models over gRPC.
//
//	client, err := togetherchat.Dial("localhost:50051")
//	if err != nil { ... }
//	defer client.Close()
//
//	request := togetherchat.NewRequest("openai/gpt-oss-120b", "What is gRPC?")
//	for text, err := range client.Stream(ctx, request).Text() {
//		if err != nil { ... }
//		fmt.Print(text)
//	}
//
// Messages are the generated types of package togetherchatv1; nothing wraps or copies them, and their
// comments are the contract's. This package adds:
//
//   - [Dial] opens a connection with the contract's service config (retries that the service
//     controls, round robin, timeouts), keepalive, message limits that fit
//     images and long completions, and TLS for every target on another machine;
//   - [CompletionStream] is a completion while the model generates it: ranges over events or text, and
//     the response collected so far ([Accumulator]);
//   - [Error] is every failed call, found with [errors.As]: reason, wait, violations, and the partial
//     response of a stream.
//
// Deadlines and cancellation come from the context. A context without a deadline gets the one of the
// service config: 600 s for a completion, 30 s for models and usage.
package togetherchat
