"""What supervisor and workers say to each other: an assignment at the start, reports ever after.

The assignment travels in one variable of the environment, a report as one packet of JSON on a
socket that only the two hold. Nothing of a call is in either but how many there are. Figures
for `/metrics` come the same way: see `observe/metrics/packets.py`.
"""

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Final, Self

from togetherchat_server.config import Configuration, ProviderConfig

VARIABLE: Final = "TOGETHERCHAT_ASSIGNMENT"
# A worker's signal to leave to another one, which serves at the same address already.
REPLACED: Final = signal.SIGHUP
# Of a report, and of anything that a worker says: figures are sent in packets that are half of this.
REPORT_BYTES_MAX: Final = 4096
PACKET_BYTES_MAX: Final = 64 * 1024
FAILURE_CHARACTERS_MAX: Final = 500


class Role(StrEnum):
    """What a process is started for."""

    WORKER = "worker"
    SANDBOX = "sandbox"


class WorkerPhase(StrEnum):
    """How far a process is, in its own words."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a process is told when it is started.

    `grpc_listen`, `http_listen` and `health_listen` are the settings of that name with the ports that the
    supervisor holds, for the sandbox its own address. `simulator` is the API that the workers ask with
    `--sandbox`, empty without.
    """

    role: Role
    control: int
    heartbeat_s: float
    grpc_listen: str
    http_listen: str | None = None
    health_listen: str | None = None
    simulator: str = ""
    tally: int | None = None
    """The descriptor of what tenants have in use on this machine, where they have limits."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """The assignment of this process; None if it was started by hand."""
        text = environment.get(VARIABLE)
        if text is None:
            return None
        message = cls(**json.loads(text))
        return replace(message, role=Role(message.role))

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    def applied_to(self, configuration: Configuration) -> Configuration:
        """What was set, with the supervisor's word on addresses."""
        changes = {
            "grpc_listen": self.grpc_listen,
            "http_listen": self.http_listen,
            "health_listen": self.health_listen,
            "admin_listen": None,
        }
        upstream = (
            ProviderConfig(base_url=self.simulator, key=None) if self.simulator else configuration.upstream
        )
        return replace(
            configuration, settings=configuration.settings.model_copy(update=changes), upstream=upstream
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A sign of life. `address` is where it serves, `failure` why it cannot."""

    phase: WorkerPhase
    in_flight: int = 0
    address: str = ""
    failure: str = ""

    @classmethod
    def from_packet(cls, packet: bytes) -> Self:
        message = cls(**json.loads(packet))
        return replace(message, phase=WorkerPhase(message.phase))

    def to_packet(self) -> bytes:
        return json.dumps(asdict(replace(self, failure=self.failure[:FAILURE_CHARACTERS_MAX]))).encode()
