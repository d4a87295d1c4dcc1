"""The rows of the admin port's page `/workers`: one per slot and process."""

from togetherchat_server.supervisor.worker_state import Slot, Worker

RosterRow = dict[str, str | int | float | None]


def roster_row(slot: Slot, worker: Worker | None, now: float) -> RosterRow:
    """Return the row of a slot with its process, or without one during its back-off."""
    row: RosterRow = {"role": str(slot.role), "slot": slot.number, "restarts": slot.restarts}
    if worker is None:
        return {**row, "state": "waiting", "starts_in_s": round(max(0.0, slot.start_at - now), 1)}
    last_report_at = worker.last_report_at
    return {
        **row,
        "state": _state(worker),
        "pid": worker.pid,
        "in_flight": worker.in_flight,
        "last_report_age_s": None if last_report_at is None else round(now - last_report_at, 1),
    }


def _state(worker: Worker) -> str:
    if worker.killed:
        return "killed"
    return "stopping" if worker.stopping else str(worker.phase)
