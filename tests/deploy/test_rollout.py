"""What a rollout costs callers, with the settings of the manifests and without a cluster."""

import json
import os
from pathlib import Path

from rendered import ROOT, command_line, run

REPLICAS = 2


def rolled_out(words, environment, *, replicas):
    """What callers saw of it."""
    plan = json.dumps({"words": words, "environment": environment, "replicas": replicas})
    python = os.environ.get("TOGETHERCHAT_PYTHON", f"{ROOT}/.venv/bin/python")
    return json.loads(run(python, str(Path(__file__).with_name("rollout.py")), stdin=plan))


def test_a_rollout_loses_no_call(dev, tmp_path):
    """Every pod is replaced under load, every call is answered in full, and every pod ends in good order."""
    words, environment = command_line(dev, tmp_path)

    seen = rolled_out(words, environment, replicas=REPLICAS)

    assert [] == seen["lost"]
    assert [0] * REPLICAS == seen["ends"]
    assert seen["streamed"] > 0
    assert seen["answered"] > 0


def test_a_drain_that_is_too_short_is_seen(dev, tmp_path):
    """The check above is none that lets everything pass: with a second to finish, streams are told DRAINING."""
    words, environment = command_line(dev, tmp_path)

    seen = rolled_out([*words, "--drain-delay-s=0", "--drain-timeout-s=1.5"], environment, replicas=1)

    assert any("DRAINING" in lost for lost in seen["lost"])
