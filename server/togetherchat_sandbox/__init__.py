"""A simulator of Together AI's HTTP API: for demonstrations, for tests and for every failure on demand.

    async with Sandbox(SandboxSettings(seed=7), host="127.0.0.1", port=0) as sandbox:
        ...  # call sandbox.base_url, then read sandbox.ledger

It stands alone: it knows neither the service nor the client of this distribution.
"""

from togetherchat_sandbox.ledger import Ended, Entry, Ledger
from togetherchat_sandbox.server import Sandbox
from togetherchat_sandbox.settings import SandboxSettings

__all__ = ["Ended", "Entry", "Ledger", "Sandbox", "SandboxSettings"]
