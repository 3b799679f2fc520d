"""A real Prometheus scrapes a running office; every query of the dashboard and of the alerts works there."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pennypost_mint.runtime.metrics import Metrics
from tests.support.prometheus import Prometheus, programs
from tests.support.relay import Relay
from tests.support.require import require
from tests.support.server import Server

WATCHING = Path(__file__).parents[2] / "docs" / "watching"
METRIC = re.compile(r"\bpennypost_[a-z0-9_]+")
SECONDS = 60


def alerts() -> dict[str, str]:
    """Expressions by the name of their alert."""
    groups: list[dict[str, Any]] = yaml.safe_load((WATCHING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def dashboard() -> list[str]:
    """Every expression of the dashboard, with its variables filled in."""
    panels: list[dict[str, Any]] = json.loads((WATCHING / "grafana.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [each.replace("$job", "pennypost").replace("$__rate_interval", "1m") for each in found]


QUERIES = [*alerts().values(), *dashboard()]


def exported() -> set[str]:
    """Names as PromQL has them."""
    return {name for metric in Metrics().table for name in metric.samples}


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_that_a_query_names_is_exported(query: str) -> None:
    named = set(METRIC.findall(query))
    assert named or query.startswith(("up{", "sum(up{"))
    assert named <= exported()


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


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Prometheus]]:
    """An office with our own configuration, scraped each second."""
    require(programs(), "Prometheus is not installed (Debian: apt install prometheus)")
    folder = tmp_path_factory.mktemp("watched")
    with Server(folder / "office") as server:
        text = (WATCHING / "prometheus.yml").read_text()
        assert "127.0.0.1:3338" in text
        text = text.replace("127.0.0.1:3338", f"127.0.0.1:{server.port}").replace("15s", "1s")
        (folder / "prometheus.yml").write_text(text)
        (folder / "alerts.yml").write_text((WATCHING / "alerts.yml").read_text())
        with Prometheus(folder, folder / "prometheus.yml") as prometheus:
            yield server, prometheus


def test_promtool_finds_nothing_wrong() -> None:
    found = programs()
    require(found, "Prometheus is not installed (Debian: apt install prometheus)")
    assert found is not None
    subprocess.run([found[1], "check", "config", WATCHING / "prometheus.yml"], check=True, capture_output=True)
    subprocess.run([found[1], "check", "rules", WATCHING / "alerts.yml"], check=True, capture_output=True)


async def test_what_happened_is_what_prometheus_says(watched: tuple[Server, Prometheus]) -> None:
    server, prometheus = watched
    async with Relay(server.websocket_url) as relay:
        await relay.send('["EVENT",{}]')
        _until(prometheus, 'sum(pennypost_office_connections{job="pennypost"})', 1)
    async with httpx.AsyncClient(trust_env=False, base_url=server.url) as http:
        await http.post("/v1/mint/quote/bolt11", json={"amount": 7, "unit": "sat"})
    _until(prometheus, 'sum(pennypost_mint_requests_total{route="quote",code="ok"})', 1)
    _until(prometheus, "sum(pennypost_mint_settled_sat_total)", 7)
    _until(prometheus, "max(pennypost_mint_lightning_up)", 1)
    _until(prometheus, 'up{job="pennypost"}', 1)


def test_every_query_is_answered(watched: tuple[Server, Prometheus]) -> None:
    _, prometheus = watched
    _until(prometheus, 'up{job="pennypost"}', 1)
    for query in QUERIES:
        prometheus.query(query)
    deadline = time.monotonic() + SECONDS
    rules = prometheus.rules()
    while any(rule["health"] == "unknown" for rule in rules):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        rules = prometheus.rules()
    assert {rule["name"] for rule in rules} == set(alerts())
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set(), "a fresh office is no alarm"


def test_an_office_that_is_gone_is_an_alarm(watched: tuple[Server, Prometheus]) -> None:
    server, prometheus = watched
    server.stop()
    deadline = time.monotonic() + SECONDS
    while {rule["name"]: rule["state"] for rule in prometheus.rules()}["OfficeDown"] == "inactive":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _until(prometheus: Prometheus, query: str, value: float) -> None:
    deadline = time.monotonic() + SECONDS
    while not (found := prometheus.query(query)) or float(found[0]["value"][1]) != value:
        assert time.monotonic() < deadline, (query, found)
        time.sleep(0.1)
