"""A real Prometheus scrapes a running office; every query of the dashboard and of the alerts works there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from math import isnan

import httpx
import pytest

from tests.support.prometheus import Prometheus, programs
from tests.support.relay import Relay
from tests.support.require import require
from tests.support.server import Server
from tests.watching.queries import CODES, OF_PROMETHEUS, QUERIES, WATCHING, alerts, by_sample, labels_of

SECONDS = 60


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


DOCUMENTED = re.compile(r"^\| (`pennypost_[^|]+) \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


def test_metrics_are_what_the_reference_says(watched: tuple[Server, Prometheus]) -> None:
    """Prometheus' own words for each: its kind, its help, the labels of its series and the values of `code`."""
    _, prometheus = watched
    _until(prometheus, 'up{job="pennypost"}', 1)
    rows = DOCUMENTED.findall((WATCHING.parent / "reference" / "metrics.md").read_text())
    documented = {
        name: (kind, text, set(re.findall(r"`(\w+)`", labels)))
        for names, kind, labels, text in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    told = prometheus.metadata()
    assert set(documented) == set(by_sample())
    for name, (kind, text, labels) in documented.items():
        family = by_sample()[name].name
        assert (told[family]["type"], told[family]["help"]) == (kind, text), name
        assert labels | OF_PROMETHEUS | ({"le"} if name.endswith("_bucket") else set()) == labels_of(name)
        for series in prometheus.query(name):
            found = {label: value for label, value in series["metric"].items() if label != "__name__"}
            assert set(found) == labels_of(name), name
            assert "code" not in found or found["code"] in CODES[name], found
    unknown = set(told) - {by_sample()[name].name for name in documented}
    assert {name for name in unknown if name.startswith("pennypost_") and not name.endswith("_created")} == set()


def test_no_gauge_begins_at_a_value_that_looks_like_news(watched: tuple[Server, Prometheus]) -> None:
    """A size of 0 first would be growth afterwards."""
    _, prometheus = watched
    _until(prometheus, 'up{job="pennypost"}', 1)
    deadline = time.monotonic() + SECONDS
    # not known before the first look at the database: that is no number, and no size either
    while isnan(least := _one(prometheus, "min_over_time(pennypost_database_bytes[1h])")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert least > 4_096


def test_an_office_that_is_gone_is_an_alarm(watched: tuple[Server, Prometheus]) -> None:
    server, prometheus = watched
    server.stop()
    deadline = time.monotonic() + SECONDS
    while {rule["name"]: rule["state"] for rule in prometheus.rules()}["OfficeDown"] == "inactive":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _one(prometheus: Prometheus, query: str) -> float:
    (found,) = prometheus.query(query)
    return float(found["value"][1])


def _until(prometheus: Prometheus, query: str, value: float) -> None:
    deadline = time.monotonic() + SECONDS
    while not (found := prometheus.query(query)) or float(found[0]["value"][1]) != value:
        assert time.monotonic() < deadline, (query, found)
        time.sleep(0.1)
