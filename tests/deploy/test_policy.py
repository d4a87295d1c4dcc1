"""Tests of the objects with kube-score, and of the checks that are ignored with a reason."""

import json
from pathlib import Path

import pytest
from rendered import ROOT, Rendering, finished, tool

IGNORE = "kube-score/ignore:"
OPTIONAL = ("container-seccomp-profile", "container-ports-check")
PERFECT = 10


def failed_checks(rendering: Rendering, *flags: str) -> dict[str, list[str]]:
    """Return each failed check with its comments."""
    command = [tool("kube-score"), "score", "--output-format", "json", "--kubernetes-version", "v1.35"]
    optional = [word for check in OPTIONAL for word in ("--enable-optional-test", check)]
    scored = json.loads(finished(*command, *optional, *flags, "-", stdin=rendering.text).stdout)
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
def test_kube_score_passes_except_for_ignored_checks(request, name):
    """No check fails that is not ignored in an annotation. The chart with dev values equals the dev overlay."""
    assert {} == failed_checks(request.getfixturevalue(name))


@pytest.mark.parametrize("name", ["dev", "production"])
def test_every_ignored_check_would_fail(request, name):
    """A check may be ignored only while it fails."""
    rendering = request.getfixturevalue(name)
    ignored = rendering.one("Deployment")["metadata"]["annotations"]["kube-score/ignore"].split(",")

    assert set(ignored) == set(failed_checks(rendering, "--disable-ignore-checks-annotations"))


def test_every_ignored_check_has_a_reason():
    """A comment names each ignored check: in the same file, or in the file that an overlay changes."""
    base = ROOT / "deploy/kustomize/base/deployment.yaml"
    for file in (ROOT / "deploy").rglob("*.yaml"):
        lines = [line.partition(IGNORE)[2] for line in file.read_text("utf-8").splitlines() if IGNORE in line]
        reasons = comments(file) + comments(base)

        assert [] == [check for line in lines for check in line.strip().split(",") if check not in reasons], (
            file
        )


def test_a_privileged_container_is_found(dev):
    """The test above can fail."""
    opened = Rendering(
        name="opened", text=dev.text.replace("readOnlyRootFilesystem: true", "privileged: true")
    )

    assert "container-security-context-privileged" in failed_checks(opened)
