"""What kube-score says of the objects, and the exceptions that are written beside them."""

import json
from pathlib import Path

import pytest
from rendered import ROOT, Rendering, finished, tool

IGNORE = "kube-score/ignore:"
OPTIONAL = ("container-seccomp-profile", "container-ports-check")
PERFECT = 10


def complaints(rendering: Rendering, *flags: str) -> dict[str, list[str]]:
    """Each check that an object does not pass, with what is said of it."""
    words = [tool("kube-score"), "score", "--output-format", "json", "--kubernetes-version", "v1.35"]
    asked = [word for check in OPTIONAL for word in ("--enable-optional-test", check)]
    scored = json.loads(finished(*words, *asked, *flags, "-", stdin=rendering.text).stdout)
    assert len(scored) > 2
    return {
        check["check"]["id"]: [comment["summary"] for comment in check["comments"] or []]
        for it in scored
        for check in it["checks"]
        if not check["skipped"] and check["grade"] < PERFECT
    }


def comments(file: Path) -> str:
    return "\n".join(line for line in file.read_text("utf-8").splitlines() if line.lstrip().startswith("#"))


@pytest.mark.parametrize("name", ["dev", "production", "chart"])
def test_nothing_is_found_that_is_not_explained(request, name):
    """kube-score agrees, but for the written exceptions. The chart's dev values make the dev overlay."""
    assert {} == complaints(request.getfixturevalue(name))


@pytest.mark.parametrize("name", ["dev", "production"])
def test_every_exception_is_needed(request, name):
    """A check that is ignored would fail: an exception goes when its reason goes."""
    rendering = request.getfixturevalue(name)
    ignored = rendering.one("Deployment")["metadata"]["annotations"]["kube-score/ignore"].split(",")

    assert set(ignored) == set(complaints(rendering, "--disable-ignore-checks-annotations"))


def test_every_exception_has_its_reason_beside_it():
    """A comment names each check that is ignored: in the same file, or in the one that an overlay changes."""
    base = ROOT / "deploy/kustomize/base/deployment.yaml"
    for file in (ROOT / "deploy").rglob("*.yaml"):
        lines = [line.partition(IGNORE)[2] for line in file.read_text("utf-8").splitlines() if IGNORE in line]
        said = comments(file) + comments(base)

        assert [] == [check for line in lines for check in line.strip().split(",") if check not in said], file


def test_an_open_door_is_found(dev):
    """The check above is none that lets everything pass."""
    opened = Rendering(
        name="opened", text=dev.text.replace("readOnlyRootFilesystem: true", "privileged: true")
    )

    assert "container-security-context-privileged" in complaints(opened)
