"""The ledger in PostgreSQL does what it does in SQLite: `make test-usage`."""

from support.usage_cases import LedgerDatabaseCases


class TestPostgresql(LedgerDatabaseCases):
    """All cases."""
