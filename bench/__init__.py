"""The side-by-side benchmark: `make bench`. What it measures and why so stands in README.md."""
