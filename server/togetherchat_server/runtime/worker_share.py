"""What a worker process shares with the others."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShare:
    """The resources that a worker shares with the others: its ports, and the quota store's descriptor."""

    share_port: bool = False
    quota_store_fd: int | None = None


SINGLE_PROCESS: Final = WorkerShare()
