"""Runs one attack, in a process of its own: `python -m attack.attacker`, with a target as JSON on its input.

Prints what the victim answered, as JSON.
"""

import asyncio
import json
import sys

from attack.table import BY_NAME
from attack.target import Target


async def main() -> None:
    given = json.load(sys.stdin)
    attack = BY_NAME[given.pop("attack")]
    target = Target(**given)
    await attack.run(target)
    sys.stdout.write(json.dumps(dict(target.seen)))


if __name__ == "__main__":
    asyncio.run(main())
