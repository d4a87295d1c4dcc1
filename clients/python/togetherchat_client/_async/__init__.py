"""The client on asyncio. `generate_sync.py` derives `_sync` from this package."""
