"""What the alert rules and the dashboard ask exists: metrics, labels, values of labels; and each alert fires."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pennypost_mint.runtime.metrics import Metrics
from tests.support.prometheus import programs
from tests.support.require import require
from tests.support.wallets import PROGRAM
from tests.watching.queries import (
    CODES,
    METRIC,
    QUERIES,
    WATCHING,
    Selector,
    alerts,
    board,
    by_sample,
    grouped,
    labels_of,
    selectors,
    shown,
    targets,
)

PROJECT = Path(__file__).parents[2]
UNIT_TESTS = Path(__file__).with_name("alerts.yml")
PAGES = PROJECT / "postoffice" / "pages"
SCHEMA = PAGES / "node_modules" / "@grafana" / "schema"


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_that_a_query_names_is_exported(query: str) -> None:
    named = set(METRIC.findall(query))
    assert named or query.startswith(("up{", "sum(up{"))
    assert named <= set(by_sample())


@pytest.mark.parametrize("query", QUERIES)
def test_labels_and_their_values_exist(query: str) -> None:
    assert not wrong_labels(query)


def wrong_labels(query: str) -> set[str]:
    """Labels, and values of labels, that no series of the query's metrics has."""
    found = selectors(query)
    wrong = {label for label in grouped(query) if any(label not in labels_of(each.metric) for each in found)}
    for each in found:
        for label, operator, value in each.matchers:
            known = {"job": {"pennypost"}, "code": CODES.get(each.metric, set())}.get(label)
            values = value.split("|") if "~" in operator else [value]
            if label not in labels_of(each.metric) or known is None or not set(values) <= known:
                wrong.add(f"{label}{operator}{value}")
    return wrong


WRONG = [
    'sum(rate(pennypost_office_events_total{code="acepted"}[5m]))',
    'sum(rate(pennypost_office_events_total{code!~"accepted|ok"}[5m]))',
    'sum(rate(pennypost_office_events_total{status="accepted"}[5m]))',
    'sum(pennypost_office_connections{job="pennypost",code="accepted"})',
    "sum by (code) (pennypost_office_connections)",
    "sum by (le) (rate(pennypost_office_answer_seconds_sum[5m]))",
    "sum by (route) (rate(pennypost_office_events_total[5m]))",
    'up{job="penypost"}',
    'rate(pennypost_mint_requests_total{code="accepted"}[5m])',
    'rate(pennypost_mint_requests_total{role="mint"}[5m])',
]


@pytest.mark.parametrize("query", WRONG)
def test_a_label_that_does_not_exist_is_noticed(query: str) -> None:
    assert wrong_labels(query)


def test_queries_are_taken_apart() -> None:
    query = 'max by (job, le) (a) > sum(rate(pennypost_x_total{code!~"a,b|c",job="y"}[5m])) and up'
    assert selectors(query) == [
        Selector("pennypost_x_total", (("code", "!~", "a,b|c"), ("job", "=", "y"))),
        Selector("up", ()),
    ]
    assert grouped(query) == {"job", "le"}


def test_legends_show_labels_that_are_left() -> None:
    for target in targets():
        assert shown(target.get("legendFormat", "")) <= grouped(target["expr"]), target


def test_the_table_is_what_the_registry_exports() -> None:
    metrics = Metrics()
    text = metrics.text().decode()
    declared = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert {name for name in declared if not name.endswith("_created")} == {each.name for each in metrics.table}


def test_what_a_process_does_not_know_is_no_alarm() -> None:
    """Roles apart: a post office has no node, a mint no bus, and 0 would be an alarm."""
    told = Metrics().text().decode().splitlines()
    for name in ("pennypost_mint_lightning_up", "pennypost_office_bus_up"):
        assert f"{name} NaN" in told


# --- by promtool


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = programs()
    require(found, "Prometheus is not installed (Debian: apt install prometheus)")
    assert found is not None
    return subprocess.run([found[1], *arguments], capture_output=True, text=True, timeout=60)


def test_promtool_finds_nothing_wrong() -> None:
    for command in (("config", WATCHING / "prometheus.yml"), ("rules", WATCHING / "alerts.yml")):
        done = _promtool("check", *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_no_other_does() -> None:
    done = _promtool("test", "rules", UNIT_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    told: list[dict[str, Any]] = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    asked = [each for test in told for each in test["promql_expr_test"]]
    fired = {name for each in asked for name in re.findall(r'alertname="(\w+)"', str(each["exp_samples"]))}
    assert fired == set(alerts()), "each has a test of its own"
    for test in told:
        for series in test["input_series"]:
            assert not wrong_labels(_without_instance(series["series"])), series


def _without_instance(series: str) -> str:
    return re.sub(r',(instance|le)="[^"]*"', "", series).replace('job="other"', 'job="pennypost"')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (" or vector(0)", ""),
        ("max by (job) (pennypost_mint_lightning_up)", "count(pennypost_mint_lightning_up) - 1"),
        (" and count by (job) (pennypost_office_bus_up >= 0) > 1", ""),
        ("server|database|overloaded|worker", "server"),
        ("> 3600", "> 7200"),
    ],
)
def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path, before: str, after: str) -> None:
    rules = (WATCHING / "alerts.yml").read_text()
    assert before in rules
    (tmp_path / "alerts.yml").write_text(rules.replace(before, after))
    text = UNIT_TESTS.read_text().replace("../../docs/watching/alerts.yml", "alerts.yml")
    (tmp_path / "tests.yml").write_text(text)
    assert _promtool("test", "rules", tmp_path / "tests.yml").returncode == 1


# --- the dashboard's file


SCRIPT = """import type {{ Dashboard, Panel }} from "{schema}/raw/dashboard/x/dashboard_types.gen";
import type {{ GraphFieldConfig }} from "{schema}/common/common.gen";
// a panel by itself: of a row or a panel the compiler takes the fields of both
export const whole: Omit<Dashboard, "panels"> = {whole};
export const panels: Panel[] = {panels};
export const custom: (keyof GraphFieldConfig)[] = {custom};
"""


def faults(folder: Path, dashboard: dict[str, Any]) -> str:
    """What TypeScript says of a dashboard that is held against Grafana's own types of one."""
    require(SCHEMA.exists(), "@grafana/schema is not installed (make node)")
    properties = [
        each["id"]
        for panel in dashboard["panels"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
    ]
    text = SCRIPT.format(
        schema=SCHEMA / "dist" / "esm",
        whole=json.dumps({name: value for name, value in dashboard.items() if name != "panels"}),
        panels=json.dumps(dashboard["panels"]),
        custom=json.dumps([name.removeprefix("custom.") for name in properties if name.startswith("custom.")]),
    )
    (folder / "dashboard.ts").write_text(text)
    options = ("--strict", "--noEmit", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler")
    command = [PROGRAM, PAGES / "node_modules" / "typescript" / "bin" / "tsc", *options, "dashboard.ts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100).stdout


def test_the_dashboard_has_grafanas_form(tmp_path: Path) -> None:
    assert faults(tmp_path, board()) == ""
    wrong = board()
    wrong["schemaVersion"] = "39"
    wrong["panels"][0]["titel"] = "Stored"
    wrong["panels"][1]["fieldConfig"]["defaults"]["unti"] = "ops"
    wrong["panels"][9]["fieldConfig"]["overrides"][0]["properties"][1]["id"] = "custom.axisPlace"
    found = faults(tmp_path, wrong)
    assert len(re.findall(r"error TS", found)) == 4, found


def test_panels_are_of_kinds_that_there_are_and_do_not_overlap() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert (SCHEMA / "dist" / "esm" / "raw" / "composable" / panel["type"] / "panelcfg").is_dir()
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
