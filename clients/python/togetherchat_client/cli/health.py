"""`togetherchat health`: the health status of the service."""

import json

from togetherchat_client import Client, ServingStatus
from togetherchat_client.cli.arguments import Arguments
from togetherchat_client.cli.exit_codes import ExitCode
from togetherchat_client.cli.terminal import Terminal


def run(client: Client, arguments: Arguments, terminal: Terminal) -> ExitCode:
    """Print the status. The exit code is 7 for every status but SERVING."""
    status = client.health(arguments.service)
    record = json.dumps({"service": arguments.service, "status": status.name})
    terminal.line(record if arguments.json else status.name)
    return ExitCode.DONE if status is ServingStatus.SERVING else ExitCode.UNAVAILABLE
