"""Conformance cases for the clients of all languages, and the judge. See README.md."""
