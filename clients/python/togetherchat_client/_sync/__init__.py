# Generated from _async/__init__.py by generate_sync.py. Edit that file instead.
"""The sync client."""
