"""Rules and dashboard speak of metrics that there are, and of runbook entries that there are."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

import astrotriton.gateway.observability.metrics  # noqa: F401 - registers them

ROOT = Path(__file__).parents[3]
RULES = ROOT / "monitoring" / "prometheus" / "rules.yaml"
DASHBOARD = ROOT / "monitoring" / "grafana" / "dashboard.json"
_METRIC = re.compile(r"\bastrotriton_[a-z0-9_]+")


def known() -> set[str]:
    """Every name that a scrape may have."""
    found = set()
    for family in REGISTRY.collect():
        suffixes = {
            "counter": ["_total", "_created"],
            "histogram": ["_bucket", "_sum", "_count", "_created"],
        }.get(family.type, [""])
        found |= {family.name + suffix for suffix in suffixes}
    return found


def rules() -> list[dict]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def panels() -> list[dict]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def test_rules_ask_for_metrics_that_there_are():
    asked = {name for rule in rules() for name in _METRIC.findall(rule["expr"])}
    assert len(asked) > 8
    assert asked <= known()


def test_panels_ask_for_metrics_and_rules_that_there_are():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = set()
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name in re.findall(r"astrotriton:[a-z0-9_:]+", expression):
                assert name in recorded
            asked |= set(_METRIC.findall(expression))
    assert len(asked) > 12
    assert asked <= known()


def test_panels_do_not_overlap():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_has_an_entry_in_the_runbook():
    text = (ROOT / "docs" / "runbook.md").read_text()
    headings = set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert alerts == headings
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("arguments", [("check", "rules.yaml"), ("test", "rules_test.yaml")])
def test_promtool_takes_the_rules(arguments):
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: .ci/run installs Debian's prometheus")
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    what, file = arguments
    done = subprocess.run(
        [promtool, what, "rules", file],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
