"""Runs a command beside a service: `with_service.py COMMAND...`. Exits as the command does.

For the suites in other languages. The command finds the base URL in TOGETHERCHAT_BASE_URL, and the address of the
sandbox behind the service in TOGETHERCHAT_SANDBOX_URL.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.service_process import serving

FLAGS = ("--max-retries", "0", "--sandbox-tokens-per-second", "100", "--log-format", "json")
"""Without retries of the service, those of a client are visible."""

with serving(*FLAGS) as service:
    addresses = {
        "TOGETHERCHAT_BASE_URL": service.base_url,
        "TOGETHERCHAT_SANDBOX_URL": service.sandbox_url,
    }
    status = subprocess.run(sys.argv[1:], env={**os.environ, **addresses}, check=False).returncode
sys.exit(status)
