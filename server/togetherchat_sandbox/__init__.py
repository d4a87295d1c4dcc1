"""The sandbox: a simulator of Together AI's HTTP API, for demonstrations, tests and faults on demand.

    async with Sandbox(SandboxSettings(seed=7), host="127.0.0.1", port=0) as sandbox:
        ...  # call sandbox.base_url, then read sandbox.request_log

Imports neither the service nor the client of this distribution.
"""

from togetherchat_sandbox.request_log import Ended, LoggedRequest, RequestLog
from togetherchat_sandbox.server import Sandbox
from togetherchat_sandbox.settings import SandboxSettings

__all__ = ["Ended", "LoggedRequest", "RequestLog", "Sandbox", "SandboxSettings"]
