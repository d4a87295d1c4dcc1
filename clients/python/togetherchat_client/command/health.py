"""`togetherchat health`: whether the service takes calls."""

import json

from togetherchat_client import Client, ServingStatus
from togetherchat_client.command.arguments import Arguments
from togetherchat_client.command.failures import Exit
from togetherchat_client.command.terminal import Terminal


def run(client: Client, arguments: Arguments, terminal: Terminal) -> Exit:
    """Print the status; anything but SERVING ends with 7."""
    status = client.health(arguments.service)
    record = json.dumps({"service": arguments.service, "status": status.name})
    terminal.line(record if arguments.json else status.name)
    return Exit.DONE if status is ServingStatus.SERVING else Exit.UNAVAILABLE
