"""Migrations of the ledger's tables, by Alembic: expand first, contract in a later version.

A version of the service may write to tables of the version after it. So a migration adds tables, indexes and
columns with a default; it removes one only when no supported version uses it.
"""
