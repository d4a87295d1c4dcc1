"""Tests that a rollout with the settings of the manifests loses no call; no cluster needed."""

import json
import os
from pathlib import Path

from rendered import ROOT, command_line, run

REPLICAS = 2


def rolled_out(arguments, environment, *, replicas):
    """Run rollout.py and return its result."""
    plan = json.dumps({"arguments": arguments, "environment": environment, "replicas": replicas})
    python = os.environ.get("TOGETHERCHAT_PYTHON", f"{ROOT}/.venv/bin/python")
    return json.loads(run(python, str(Path(__file__).with_name("rollout.py")), stdin=plan))


def test_a_rollout_loses_no_call(dev, tmp_path):
    """Every pod is replaced under load, every call completes, and every pod exits with status 0."""
    arguments, environment = command_line(dev, tmp_path)

    result = rolled_out(arguments, environment, replicas=REPLICAS)

    assert [] == result["lost"]
    assert [0] * REPLICAS == result["exit_statuses"]
    assert result["streamed"] > 0
    assert result["completed"] > 0


def test_a_too_short_drain_is_detected(dev, tmp_path):
    """The test above can fail: with one second to finish, streams end with DRAINING."""
    arguments, environment = command_line(dev, tmp_path)

    result = rolled_out([*arguments, "--drain-delay-s=0", "--drain-timeout-s=1.5"], environment, replicas=1)

    assert any("DRAINING" in lost for lost in result["lost"])
