"""Puts the door together: what `app` needs to know of it."""

from collections.abc import Callable
from dataclasses import dataclass

from togetherchat_server.calls.admission import Admission
from togetherchat_server.calls.failures import Failures
from togetherchat_server.calls.lifecycle import CallDesk
from togetherchat_server.certificates import Certificates
from togetherchat_server.fronts.http.app import Door
from togetherchat_server.fronts.http.boundary import Boundary, BoundaryLimits
from togetherchat_server.fronts.http.chat import ChatEndpoint
from togetherchat_server.fronts.http.console import Console, Figures
from togetherchat_server.fronts.http.models import ModelsEndpoint
from togetherchat_server.fronts.http.server import HttpFront
from togetherchat_server.ports import Chat, ModelListing

__all__ = ["BoundaryLimits", "Surroundings", "open_door"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is outside of the door: chance, the time of day, who failed lately, its port, whose pages
    may ask, its certificate (None: plain text), and what is known of the service.
    """

    random: Callable[[], float]
    wall_clock: Callable[[], float]
    failures: Failures
    version: str
    share_port: bool
    certificates: Certificates | None
    local_pages_only: bool
    figures: Figures | None
    """What the console shows of the service; None: there is no console."""


def open_door(
    *,
    desk: CallDesk,
    admission: Admission,
    chat: Chat,
    listing: ModelListing,
    limits: BoundaryLimits,
    surroundings: Surroundings,
) -> HttpFront:
    """The front, not yet listening. `chat` checks what it is asked, see `calls.checked`."""
    boundary = Boundary(
        desk=desk,
        admission=admission,
        failures=surroundings.failures,
        limits=limits,
        random=surroundings.random,
    )
    endpoint = ChatEndpoint(chat, request_bytes_max=limits.request_bytes_max, request_s=limits.request_s)
    figures = surroundings.figures
    door = Door(
        boundary=boundary,
        chat=endpoint,
        models=ModelsEndpoint(listing),
        console=None if figures is None else Console(boundary=boundary, figures=figures),
        version=surroundings.version,
        local_pages_only=surroundings.local_pages_only,
    )
    return HttpFront(
        boundary=boundary,
        application=door.application(),
        wall_clock=surroundings.wall_clock,
        share_port=surroundings.share_port,
        certificates=surroundings.certificates,
    )
