"""Each metric says its unit in its name, and no label can name a person, a letter or a payment."""

from __future__ import annotations

import pytest

from pennypost_mint.runtime.metrics import Metric, Metrics

TABLE = Metrics().table

UNITS = {"sat", "bytes", "seconds", "up"}
THINGS = {
    *("connections", "events", "peers", "readers", "reads", "requests", "subscriptions", "waiters", "websockets"),
    *("away", "expired", "followed", "journal", "letters", "slowed", "waiting", "watched"),
}
"""What is counted one by one, or the state it is in."""

SPEAKS_OF = {"in sat": "sat", "how long": "seconds", "duration": "seconds", "size of": "bytes", "1 while": "up"}
"""Words of a metric's text, and the unit that its name then has."""

LABELS = {"route", "code"}
"""Their values are words of ours: names of routes, codes of the error table. `le` is a histogram's own."""


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_a_name_ends_in_what_is_counted(metric: Metric) -> None:
    """Prometheus, Metric and label naming: base units, `_total` where it only grows and nowhere else."""
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    last = metric.name.removesuffix("_total").rsplit("_", 1)[-1]
    assert last in UNITS | THINGS
    for words, unit in SPEAKS_OF.items():
        assert words not in metric.text.lower() or last == unit


def test_no_label_says_who() -> None:
    """Neither in the table nor in what a registry exports once everything with labels has counted."""
    metrics = Metrics()
    assert {label for metric in metrics.table for label in metric.labels} <= LABELS
    for metric in metrics.table:
        if metric.labels:
            counted = getattr(metrics, metric.name.removeprefix("pennypost_").removesuffix("_total"))
            counted.labels(*("x" for _ in metric.labels)).inc()
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert {name for sample in samples for name in sample.labels} == LABELS | {"le"}
