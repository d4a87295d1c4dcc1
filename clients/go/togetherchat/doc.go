// Package togetherchat calls the togetherchat service: Together AI's chat models over gRPC.
//
//	client, err := togetherchat.Dial("localhost:50051")
//	if err != nil { ... }
//	defer client.Close()
//
//	request := togetherchat.Ask("openai/gpt-oss-120b", "What is gRPC?")
//	for text, err := range client.Stream(ctx, request).Text() {
//		if err != nil { ... }
//		fmt.Print(text)
//	}
//
// Messages are the generated ones of package togetherchatv1, beneath this one: nothing wraps or
// copies them, and the comments there are the contract's. What this package adds:
//
//   - [Dial] opens a connection with the service config that comes with the contract (retries
//     that the service steers, client-side health checks, round robin, timeouts), keepalive,
//     limits that fit pictures and long answers, TLS wherever a network lies between;
//   - [Stream] is an answer while it is made: ranges over its events or its text, and what has
//     come so far as the one message that Complete would have given ([Accumulator]);
//   - [Error] is every failure, found with [errors.As]: reason, wait, violations, and what a
//     stream gave before it broke.
//
// Deadlines and cancellation are the context's. A context without a deadline gets the service
// config's: 600 s for an answer, 30 s for a page of models.
package togetherchat
