"""What the admin port says of the places and their processes, for people."""

from togetherchat_server.supervisor.worker_process import Slot, Worker

RosterRow = dict[str, str | int | float | None]


def row(place: Slot, member: Worker | None, now: float) -> RosterRow:
    """One line: a place with its process, or without one until its back-off is over."""
    about: RosterRow = {"role": str(place.role), "place": place.number, "restarts": place.restarts}
    if member is None:
        return {**about, "state": "waiting", "starts_in_s": round(max(0.0, place.start_at - now), 1)}
    return {
        **about,
        "state": _state(member),
        "pid": member.pid,
        "in_flight": member.in_flight,
        "heard_s_ago": None if member.heard_at is None else round(now - member.heard_at, 1),
    }


def _state(member: Worker) -> str:
    if member.killed:
        return "killed"
    return "stopping" if member.leaving else str(member.phase)
