"""Parts of the operator's pages that need no server: where they are served, tables, plots, markup."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from pennypost.protocol.price import parse_prices
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.operate.prices import toml_of
from pennypost_postoffice.pages.markup import tag
from pennypost_postoffice.pages.operator.charts import figure
from pennypost_postoffice.pages.operator.gate import is_served
from pennypost_postoffice.pages.operator.health import _refusals
from pennypost_postoffice.pages.operator.view import Table
from pennypost_postoffice.samples import EVERY, Point, Sample, quantile, series

DEARER = "[[rule]]\nbase = 3\n"


SERVED: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"host": "::1"}, True),
    ({"host": "localhost"}, True),
    ({"host": "0.0.0.0"}, False),
    ({"host": "0.0.0.0", "public_url": "http://127.0.0.1:3338"}, False),
    ({"public_url": "http://office.example"}, False),
    ({"public_url": "http://192.0.2.7"}, False),
    ({"host": "0.0.0.0", "public_url": "https://office.example"}, True),
    ({"public_url": "https://office.example", "operator_pages": "off"}, False),
    ({"operator_pages": "off"}, False),
    ({"host": "0.0.0.0", "operator_pages": "on"}, True),
]


@pytest.mark.parametrize(("given", "served"), SERVED)
def test_without_tls_they_are_off_where_others_could_reach_them(given: dict[str, Any], served: bool) -> None:
    assert is_served(Settings(**given)) is served


LOCAL = {"host": "127.0.0.1:3338"}
TLS = {"public_url": "https://office.example"}
ASKED: list[tuple[dict[str, Any], dict[str, str], bool]] = [
    ({}, LOCAL, True),
    ({}, {"host": "localhost:3338"}, True),
    ({}, {"host": "LOCALHOST"}, True),
    ({}, {"host": "[::1]:3338"}, True),
    ({}, {"host": "127.0.0.1"}, True),
    ({}, {}, False),
    ({}, {"host": ""}, False),
    ({}, {"host": "office.example"}, False),
    ({}, {"host": "127.0.0.1.office.example:3338"}, False),
    ({}, {"host": "office.example:80@x"}, False),
    ({}, {"host": "["}, False),
    ({}, LOCAL | {"x-forwarded-for": "127.0.0.1"}, False),
    ({}, LOCAL | {"x-forwarded-for": ""}, False),
    ({}, LOCAL | {"X-Forwarded-Host": "localhost"}, False),
    ({}, LOCAL | {"x-forwarded-proto": "https"}, False),
    ({}, LOCAL | {"forwarded": "for=127.0.0.1"}, False),
    ({}, LOCAL | {"via": "1.1 proxy"}, False),
    ({}, LOCAL | {"x-real-ip": "127.0.0.1"}, False),
    ({"host": "0.0.0.0"}, LOCAL, False),
    ({"operator_pages": "on"}, {"host": "office.example", "x-forwarded-for": "192.0.2.7"}, True),
    (TLS, {"host": "office.example", "x-forwarded-for": "192.0.2.7"}, True),
    (TLS, LOCAL, True),
]


@pytest.mark.parametrize(("given", "headers", "served"), ASKED)
def test_without_tls_they_are_off_for_what_a_proxy_or_another_name_brings(
    given: dict[str, Any], headers: dict[str, str], served: bool
) -> None:
    assert is_served(Settings(**given), headers) is served


@pytest.mark.parametrize(
    "text",
    [
        DEARER,
        "free_kinds = []\n[[rule]]\nkinds = [1, '30000-39999']\nbase = 2\nwork = 9\n[[rule]]\nper_kib = 1\nper_day = 3",
        "rule = []",
    ],
)
def test_a_list_reads_as_it_is_written(text: str) -> None:
    prices = parse_prices(text)
    assert parse_prices(toml_of(prices)) == prices or not prices.rules


def test_a_spreadsheet_takes_no_cell_for_a_formula() -> None:
    listed = Table("", {"a": ("", "text")}, [{"a": text} for text in ("=1+1", "+1", "-1", "@x", "\t=1", "plain", None)])
    rows = list(csv.reader(io.StringIO(listed.csv().decode())))
    assert [row[0] if row else "" for row in rows[1:]] == ["'=1+1", "'+1", "'-1", "'@x", "'\t=1", "plain", ""]


def _sample(at: int, process: bytes = b"a", **values: Any) -> Sample:
    zero: dict[str, Any] = dict.fromkeys(Sample._fields, 0) | {"reasons": "{}", "kept_until": None}
    return Sample(**(zero | {"at": at, "process": process, "seconds": EVERY} | values))


def test_samples_of_several_processes_add_up() -> None:
    taken = [
        _sample(3_570, b"a", stored=30, sat=60, answers=30, answer_us=90_000, slow_us=5_000, waiting=2, connections=4),
        _sample(3_570, b"b", stored=60, answers=60, answer_us=90_000, slow_us=9_000, waiting=3, connections=5),
        _sample(3_600, b"a", stored=30, waiting=9, connections=1, bytes=7),
    ]
    points = series(taken, 3_605, 3_600)
    assert len(points) == 120
    assert points[-1] == Point(3_600, 1.0, 0.0, 0.0, None, None, 9, 1, 7, None, {})
    assert points[-2] == Point(3_570, 3.0, 0.0, 2.0, 2.0, 9.0, 5, 9, 0, None, {})
    assert points[0] == Point(30)
    assert series([], 100, 3_600)[-1].stored is None


def test_reasons_and_the_horizon_of_several_processes() -> None:
    """Of stretches longer than a sample, too: rates are over the whole stretch, the horizon is the farthest."""
    taken = [
        _sample(7_140, b"a", refused=9, reasons='{"stamp-required":6,"banned":3}', kept_until=90_000),
        _sample(7_170, b"a", refused=3, reasons='{"banned":3}', kept_until=86_400 + 7_170),
        _sample(7_170, b"b", refused=12, reasons='{"stamp-required":12}', kept_until=86_400 + 7_140),
    ]
    points = series(taken, 7_200, 3 * 3_600)
    assert points[-1].at == 7_200 and points[-1].reasons == {"stamp-required": 18 / 60, "banned": 6 / 60}
    assert points[-1].refused == 24 / 60 and points[-1].kept == 86_400
    assert (points[-2].reasons, points[-2].kept) == (None, None)


def test_many_reasons_are_told_apart() -> None:
    """Those met most have lines of their own, the others one; names and figures stand beside them as text."""
    codes = [f"reason-{number}" for number in range(8)]
    points = [Point(30), Point(60, reasons={code: (8 - at) / 60 for at, code in enumerate(codes)})]
    made = _refusals(points, ("then", "now"))
    keys = re.findall(r'class="key line(\d)">([^<]+)<', made)
    assert keys == [*((str(at), f"reason-{at} {8 - at}.0") for at in range(5)), ("5", "others 6.0")]
    assert made.count("<path") == 6
    assert "none: nothing known" in _refusals([Point(30)], ("then", "now"))
    assert "none: between 0.0 and 0.0" in _refusals([Point(30, reasons={})], ("then", "now"))


QUANTILES: list[tuple[dict[float, float], float]] = [
    ({}, 0.0),
    ({0.1: 0, float("inf"): 0}, 0.0),
    ({0.1: 100, 0.2: 100, float("inf"): 100}, 0.095),
    ({0.1: 90, 0.2: 100, float("inf"): 100}, 0.15),
    ({0.1: 10, 0.2: 20, float("inf"): 100}, 0.2),
]


@pytest.mark.parametrize(("buckets", "value"), QUANTILES)
def test_quantiles(buckets: dict[float, float], value: float) -> None:
    assert quantile(buckets, 0.95) == pytest.approx(value)


def test_what_is_no_markup_is_escaped() -> None:
    made = tag("p", "<i>", tag("b", "&"), ['"', None, 3], title='"><script>', hidden=True, open=False, data_x="1")
    assert made == ('<p title="&quot;&gt;&lt;script&gt;" hidden data-x="1">&lt;i&gt;<b>&amp;</b>&quot;3</p>')


def test_a_plot_says_its_figures_and_breaks_where_nothing_is_known() -> None:
    made = figure("Events", [("Stored", [1.0, 2.0, None, 4.0])], ("then", "now"))
    assert 'aria-label="Events, then to now. Stored: between 1.0 and 4.0, at last 4.0"' in made
    assert 'd="M0.0 90.0L200.0 60.0M598.5 0.0h3"' in made
    assert "nothing known" in figure("Events", [("Stored", [None, None])], ("then", "now"))
