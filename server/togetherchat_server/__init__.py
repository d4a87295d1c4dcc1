"""The togetherchat server: a gRPC and HTTP service in front of an OpenAI-compatible provider."""
