"""A simulator of Together AI's HTTP API."""
