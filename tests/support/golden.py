"""Finds the golden cases: folders of files under tests/golden/<subject>/<case>/."""

from pathlib import Path

from google.protobuf import text_format

from togetherchat.v1 import chat_service_pb2 as service

_ROOT = Path(__file__).parent.parent / "golden"
_EVENT_LINE = "# event\n"


def cases(subject: str) -> list[Path]:
    """The case folders of a subject; a subject without cases is an error."""
    found = sorted(path for path in (_ROOT / subject).iterdir() if path.is_dir())
    if not found:
        raise AssertionError(f"no golden case for {subject}")
    return found


def name(case: Path) -> str:
    return case.name


def upstream(case: Path) -> bytes:
    """The bytes from the provider, or for it, whatever their format."""
    (path,) = case.glob("upstream.*")
    return path.read_bytes()


def request(case: Path) -> service.CompleteRequest:
    return text_format.Parse((case / "request.textproto").read_text("utf-8"), service.CompleteRequest())


def response(case: Path) -> service.CompleteResponse:
    return text_format.Parse((case / "response.textproto").read_text("utf-8"), service.CompleteResponse())


def models(case: Path) -> service.ListModelsResponse:
    return text_format.Parse((case / "models.textproto").read_text("utf-8"), service.ListModelsResponse())


def events(case: Path) -> list[service.StreamCompleteResponse]:
    """The events of a stream; each follows a line `# event`."""
    _, *texts = (case / "events.textproto").read_text("utf-8").split(_EVENT_LINE)
    return [text_format.Parse(text, service.StreamCompleteResponse()) for text in texts]
