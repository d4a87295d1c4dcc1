"""Inserts rows into a usage ledger that no service has open: `python -m support.usage_seed FILE < rows.jsonl`.

Each line is a JSON object with fields of a row. Those that are missing have the values of `usage_row`.
"""

import asyncio
import json
import sys
import time

from support.usage import usage_row
from togetherchat_server.config import Settings
from togetherchat_server.usage.ledger import open_ledger

BATCH = 1_000


async def insert_rows(database, rows):
    """Insert rows into the SQLite file, which is created if it is missing. Return how many are new."""
    settings = Settings(usage_database=f"sqlite:///{database}", usage_spill_dir=None)
    ledger = open_ledger(settings, clock=time.monotonic, wall_clock=time.time)
    try:
        return sum([await ledger.insert(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)])
    finally:
        await ledger.aclose()


if __name__ == "__main__":
    asyncio.run(
        insert_rows(
            sys.argv[1], [usage_row(number, **json.loads(line)) for number, line in enumerate(sys.stdin)]
        )
    )
