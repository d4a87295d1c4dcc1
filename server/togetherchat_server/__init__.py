"""The togetherchat service: a gRPC front before an OpenAI-compatible HTTP provider."""
