"""The asyncio client. `generate_sync.py` generates `_sync` from this package."""
