"""What the alert rules and the dashboard ask, taken apart: metrics, their label matchers, the labels they group by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pennypost.protocol.errors import TABLE
from pennypost_mint.runtime.metrics import Metric, Metrics
from pennypost_postoffice.office import ACCEPTED

WATCHING = Path(__file__).parents[2] / "docs" / "watching"

ERRORS = {each.code for each in TABLE}
CODES = {
    "pennypost_office_events_total": ERRORS | ACCEPTED,
    "pennypost_mint_requests_total": ERRORS | {"ok"},
}
"""Values that the label `code` can have, by metric."""

OF_PROMETHEUS = frozenset({"job", "instance"})
"""Labels that Prometheus itself gives to each series of a target."""

METRIC = re.compile(r"\bpennypost_[a-z0-9_]+")
_SELECTOR = re.compile(r"\b(up|pennypost_[a-z0-9_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*')
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")


class Selector(NamedTuple):
    """A metric of a query and its matchers: label, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def alerts() -> dict[str, str]:
    """Expressions by the name of their alert."""
    return {rule["alert"]: rule["expr"] for rule in _rules()}


def _rules() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load((WATCHING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board() -> dict[str, Any]:
    """The dashboard as it is in the file."""
    return json.loads((WATCHING / "grafana.json").read_text())


def targets() -> list[dict[str, Any]]:
    """Each query of each panel of it."""
    return [target for panel in board()["panels"] for target in panel["targets"]]


def dashboard() -> list[str]:
    """Every expression of the dashboard, with its variables filled in."""
    return [each["expr"].replace("$job", "pennypost").replace("$__rate_interval", "1m") for each in targets()]


QUERIES = [*alerts().values(), *dashboard()]


def by_sample() -> dict[str, Metric]:
    """The metrics that exist, by the names that queries use."""
    return {name: metric for metric in Metrics().table for name in metric.samples}


def labels_of(name: str) -> set[str]:
    """The labels that a series of this name has in Prometheus. KeyError for a name that does not exist."""
    own = set[str]() if name == "up" else set(by_sample()[name].labels)
    return own | OF_PROMETHEUS | ({"le"} if name.endswith("_bucket") else set())


def selectors(query: str) -> list[Selector]:
    """Those of a PromQL expression, in their order. AssertionError for matchers that cannot be read."""
    found: list[Selector] = []
    for metric, inner in _SELECTOR.findall(query):
        parts = [part for part in re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", inner) if part.strip()]
        matched = [_MATCHER.fullmatch(part) for part in parts]
        assert all(matched), query
        found.append(Selector(metric, tuple((m[1], m[2], m[3]) for m in matched if m)))
    return found


def grouped(query: str) -> set[str]:
    """Labels that the expression groups or joins by."""
    return {label.strip() for inner in _GROUPED.findall(query) for label in inner.split(",") if label.strip()}


def shown(legend: str) -> set[str]:
    """Labels that a legend or annotation of Grafana shows."""
    return set(_LEGEND.findall(legend))
