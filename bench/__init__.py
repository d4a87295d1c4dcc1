"""The benchmark against peers: `make bench`. README.md describes its method."""
