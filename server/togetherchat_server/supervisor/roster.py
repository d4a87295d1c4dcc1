"""What the admin port says of the places and their processes, for people."""

from togetherchat_server.supervisor.worker_process import Slot, Worker

RosterRow = dict[str, str | int | float | None]


def row(slot: Slot, worker: Worker | None, now: float) -> RosterRow:
    """One line: a slot with its process, or without one until its back-off is over."""
    about: RosterRow = {"role": str(slot.role), "slot": slot.number, "restarts": slot.restarts}
    if worker is None:
        return {**about, "state": "waiting", "starts_in_s": round(max(0.0, slot.start_at - now), 1)}
    return {
        **about,
        "state": _state(worker),
        "pid": worker.pid,
        "in_flight": worker.in_flight,
        "heard_s_ago": None if worker.heard_at is None else round(now - worker.heard_at, 1),
    }


def _state(worker: Worker) -> str:
    if worker.killed:
        return "killed"
    return "stopping" if worker.leaving else str(worker.phase)
