"""One list of cases for every client, and what judges them. See README.md."""
