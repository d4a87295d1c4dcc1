"""Prometheus's own tool reads all that is written for it: `make test-observability`."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support.app import failing, request, running_app
from support.scraping import scraped

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
PROMTOOL = os.environ.get("PROMTOOL", "promtool")


def promtool(*words, stdin=""):
    """What it says; it must be content."""
    done = subprocess.run(
        [PROMTOOL, *words], cwd=RULES, input=stdin, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert 0 == done.returncode, said
    return said


def rules_of(expressions):
    """A file of rules, for a tool that reads expressions nowhere else. JSON is YAML too."""
    rules = [{"record": f"rule:{number}", "expr": text} for number, text in enumerate(expressions)]
    return json.dumps({"groups": [{"name": "all", "rules": rules}]})


def test_the_rules_and_the_configuration_are_valid():
    """Every alert is found, and the configuration finds their file."""
    assert "17 rules found" in promtool("check", "rules", "alerts.yaml")
    promtool("check", "config", "prometheus.yaml")


def test_every_alert_fires_when_it_should_and_not_otherwise():
    """The series of `alerts_test.yaml`."""
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml")


def test_the_queries_of_page_and_dashboard_are_promql(tmp_path):
    """With what Grafana puts in for its variables."""
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    queries = re.findall(r"# .*\n(.*)\n", "".join(re.findall(r"```promql\n(.*?)```", page, re.DOTALL)))
    panels = json.loads((ROOT / "deploy/grafana/togetherchat.json").read_text("utf-8"))["panels"]
    drawn = [
        re.sub(r"\$\w+", ".*", target["expr"].replace("$__rate_interval", "5m"))
        for panel in panels
        for target in panel.get("targets", ())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(rules_of(queries + drawn), encoding="utf-8")

    assert f"{len(queries) + len(drawn)} rules found" in promtool("check", "rules", str(file))


async def test_a_page_of_a_real_server_is_in_order():
    """The tool's checks of names, units and help: nothing to say."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        await failing(app.chat.Complete(request(model="sandbox/error-503")))
        page = await scraped(app.addresses.admin)

    assert "" == await asyncio.to_thread(promtool, "check", "metrics", stdin=page.text)


def test_the_tool_finds_fault():
    """A query that is none does not pass."""
    with pytest.raises(AssertionError, match="could not parse expression"):
        promtool("check", "rules", "/dev/stdin", stdin=rules_of(["sum by ("]))
