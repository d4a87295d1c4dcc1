"""The usage ledger: one row per finished call, and the reports that are read from it."""
