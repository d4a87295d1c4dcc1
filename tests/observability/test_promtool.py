"""Prometheus's own tool checks alerts, queries and metrics: `make test-observability`."""

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


def promtool(*arguments, stdin=""):
    """Run promtool, which must succeed; return its output."""
    done = subprocess.run(
        [PROMTOOL, *arguments], cwd=RULES, input=stdin, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert 0 == done.returncode, output
    return output


def rules_of(expressions):
    """Return a rule file with the expressions: promtool checks them nowhere else. JSON is valid YAML."""
    rules = [{"record": f"rule:{number}", "expr": text} for number, text in enumerate(expressions)]
    return json.dumps({"groups": [{"name": "all", "rules": rules}]})


def test_the_rules_and_the_configuration_are_valid():
    """All alerts are found, and the configuration names their file."""
    alerts = (RULES / "alerts.yaml").read_text("utf-8").count("- alert:")
    assert f"{alerts} rules found" in promtool("check", "rules", "alerts.yaml")
    promtool("check", "config", "prometheus.yaml")


def test_every_alert_fires_when_it_should_and_not_otherwise():
    """With the series of `alerts_test.yaml`."""
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml")


def test_the_queries_of_page_and_dashboard_are_promql(tmp_path):
    """With values for Grafana's variables."""
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    queries = re.findall(r"# .*\n(.*)\n", "".join(re.findall(r"```promql\n(.*?)```", page, re.DOTALL)))
    panels = json.loads((ROOT / "deploy/grafana/togetherchat.json").read_text("utf-8"))["panels"]
    panel_queries = [
        re.sub(r"\$\w+", ".*", target["expr"].replace("$__rate_interval", "5m"))
        for panel in panels
        for target in panel.get("targets", ())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(rules_of(queries + panel_queries), encoding="utf-8")

    assert f"{len(queries) + len(panel_queries)} rules found" in promtool("check", "rules", str(file))


async def test_the_metrics_of_a_real_server_pass_the_checks():
    """Promtool has no remark about names, units and help texts."""
    async with running_app(sandbox_tokens_per_second=0) as app:
        await app.chat.Complete(request(model="openai/gpt-oss-120b"))
        await failing(app.chat.Complete(request(model="sandbox/error-503")))
        page = await scraped(app.addresses.admin)

    assert "" == await asyncio.to_thread(promtool, "check", "metrics", stdin=page.text)


def test_promtool_rejects_an_invalid_query():
    """So the tests above can fail."""
    with pytest.raises(AssertionError, match="could not parse expression"):
        promtool("check", "rules", "/dev/stdin", stdin=rules_of(["sum by ("]))
