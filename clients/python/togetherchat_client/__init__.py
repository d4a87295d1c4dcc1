"""The togetherchat client library."""
