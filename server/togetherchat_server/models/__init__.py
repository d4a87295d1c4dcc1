"""Models: the shipped catalog, the provider's list, aliases, prices, and models that are unavailable."""
