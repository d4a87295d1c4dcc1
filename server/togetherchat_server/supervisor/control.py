"""The messages between the supervisor and its processes: one assignment, then reports.

The assignment is an environment variable. A report is one packet of JSON on a socket pair. Neither
holds anything of a call but the number of calls in flight. Metrics use the same socket: see
`telemetry/metrics/wire.py`.
"""

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Final, Self

from togetherchat_server.config import Configuration, ProviderConfig

ASSIGNMENT_VARIABLE: Final = "TOGETHERCHAT_ASSIGNMENT"
REPLACED_SIGNAL: Final = signal.SIGHUP
"""Sent to a worker whose replacement serves at the same address already."""
PACKET_BYTES_MAX: Final = 64 * 1024
FAILURE_CHARACTERS_MAX: Final = 500
"""JSON may escape a character to six bytes: a report stays below 4 KiB."""


class Role(StrEnum):
    """The role for which a process is started."""

    WORKER = "worker"
    SANDBOX = "sandbox"


class WorkerPhase(StrEnum):
    """The phase that a process reports."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The assignment that a started process receives from its supervisor.

    `control_fd` is the process's end of the socket pair. `grpc_listen`, `http_listen` and
    `health_listen` are the settings of that name with the ports that the supervisor reserved; for
    the sandbox `grpc_listen` is its own address. `sandbox_url` is the provider of the workers with
    `--sandbox`, else empty. `quota_store_fd` is the descriptor of the quota store that the workers
    share if tenants have limits.
    """

    role: Role
    control_fd: int
    heartbeat_s: float
    grpc_listen: str
    http_listen: str | None = None
    health_listen: str | None = None
    sandbox_url: str = ""
    quota_store_fd: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Read the assignment of this process. Return None if no supervisor started it."""
        text = environment.get(ASSIGNMENT_VARIABLE)
        if text is None:
            return None
        assignment = cls(**json.loads(text))
        return replace(assignment, role=Role(assignment.role))

    def to_text(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(asdict(self))

    def applied_to(self, configuration: Configuration) -> Configuration:
        """Return the configuration with the assigned addresses and provider."""
        settings = configuration.settings.model_copy(
            update={
                "grpc_listen": self.grpc_listen,
                "http_listen": self.http_listen,
                "health_listen": self.health_listen,
                "admin_listen": None,
            }
        )
        sandbox = ProviderConfig(base_url=self.sandbox_url, key=None) if self.sandbox_url else None
        return replace(configuration, settings=settings, provider=sandbox or configuration.provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A process's state. `address` is where it serves, `failure` why it cannot."""

    phase: WorkerPhase
    in_flight: int = 0
    address: str = ""
    failure: str = ""

    @classmethod
    def from_packet(cls, packet: bytes) -> Self:
        """Parse a packet."""
        report = cls(**json.loads(packet))
        return replace(report, phase=WorkerPhase(report.phase))

    def to_packet(self) -> bytes:
        """Return the report as one packet. A long failure is cut."""
        return json.dumps(asdict(replace(self, failure=self.failure[:FAILURE_CHARACTERS_MAX]))).encode()
