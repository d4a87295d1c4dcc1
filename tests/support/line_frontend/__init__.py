"""A frontend for a toy protocol, one JSON object per line: what a new frontend consists of."""
