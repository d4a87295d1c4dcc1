"""The quota store that replicas share, in Redis."""
