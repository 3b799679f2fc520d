"""How the office does: rates, answers, queues, connections, the database; now and over two days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from pennypost_postoffice.operate.books import report_on
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.charts import figure
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.view import Row, Table, View, cards, notice, size, span, table
from pennypost_postoffice.samples import Point, as_row, horizon_on, latest, samples_on, series

PATH = "/operator/health"
TITLE = "Health"
HOURS = (3, 24, 48)
WEEK = 7
DAY = 86_400

REFUSALS: Mapping[str, Any] = {
    "code": ("Reason", "text"),
    "today": ("Today", "number"),
    "week": ("Seven days", "number"),
}
DAYS: Mapping[str, Any] = {
    "day": ("Day (UTC)", "day"),
    "events": ("Stored", "number"),
    "sat": ("Sat", "number"),
    "refused": ("Refused", "number"),
}
PROCESSES: Mapping[str, Any] = {
    "process": ("Process", "code"),
    "at": ("Last seen", "time"),
    "connections": ("Connections", "number"),
    "waiting": ("Waiting", "number"),
    "lightning": ("Lightning", "text"),
}
POINTS: Mapping[str, Any] = {name: (name, "number") for name in Point._fields if name != "reasons"}
REASONS: Mapping[str, Any] = {
    "at": ("Until", "time"),
    "code": ("Reason", "text"),
    "refused": ("A second", "number"),
}
LINES = 5
"""Reasons with a line of their own in the plot; the others share one."""


async def read(house: House, query: Mapping[str, str], _key: str) -> View:
    """`hours` of the query: one of HOURS. Raises DatabaseUnavailable."""
    hours = next((each for each in HOURS if query.get("hours") == str(each)), HOURS[1])
    now = house.now()
    taken = await house.database.read(samples_on, now - hours * 3_600)
    points = series(taken, now, hours * 3_600)
    living = latest(taken, now)
    until = await house.database.read(horizon_on, now)
    today = now // DAY
    days = await house.database.read(report_on, today - WEEK + 1, today)
    refused, refused_today = Counter[str](), Counter[str]()
    for each in days:
        refused.update(each["refused"])
        if each["day"] == datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d"):
            refused_today.update(each["refused"])
    reasons: list[Row] = [
        {"code": code, "today": refused_today[code], "week": count} for code, count in refused.most_common()
    ]
    by_day: list[Row] = [each | {"refused": sum(each["refused"].values())} for each in reversed(days)]
    words = {1: "answers", 0: "does not answer", None: "–"}
    tables = {
        "refusals": Table("Refusals by reason", REFUSALS, reasons, "Nothing was refused in seven days."),
        "days": Table("By day", DAYS, by_day, "Nothing was stored in seven days."),
        "processes": Table(
            "Processes",
            PROCESSES,
            [as_row(each) | {"lightning": words[each.lightning]} for each in living],
            "The first sample is taken half a minute after a start.",
        ),
        "points": Table("Over time", POINTS, [each._asdict() for each in points]),
        "reasons": Table("Refusals over time", REASONS, _by_reason(points)),
    }
    present = next((each for each in reversed(points) if each.stored is not None), Point(now))
    body = [
        tag("h1", TITLE),
        _lightning([each.lightning for each in living]),
        _figures(present, until, now),
        _plots(points, hours),
        *(table(PATH, name, each) for name, each in tables.items() if name not in ("points", "reasons")),
    ]
    data = {
        "now": present._asdict(),
        "hours": hours,
        "kept_until": {"first": until[0], "last": until[1]},
        "points": [each._asdict() for each in points],
        "processes": [as_row(each) for each in living],
        "refused": {"today": refused_today, "week": refused},
        "days": days,
    }
    return View(TITLE, data, inside(body), tables)


def _figures(present: Point, until: tuple[int | None, int | None], now: int) -> Html:
    first, last = until
    horizon = "–" if last is None else span(last - now)
    soon = "nothing is stored" if first is None else f"the next letter goes in {span(first - now)}"
    return cards(
        ("Stored", _rate(present.stored), "events a second"),
        ("Refused", _rate(present.refused), "events a second"),
        ("Earned", _rate(present.sat), "sat a second"),
        ("Answer", _ms(present.answer_ms), f"19 of 20 within {_ms(present.slow_ms)}"),
        ("Queue", f"{present.waiting or 0:,}", "events waiting to be checked or stored"),
        ("Connections", f"{present.connections or 0:,}", "open WebSockets"),
        ("Database", "–" if present.bytes is None else size(present.bytes), "on disk"),
        ("Mail is kept for", horizon, soon),
    )


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _lightning(states: list[int | None]) -> Html | None:
    if 0 not in states:
        return None
    return notice("The Lightning node does not answer: nobody can buy stamps. Those sold stay good.", role="alert")


def _plots(points: list[Point], hours: int) -> Html:
    ends = (f"{hours} hours ago", "now")
    choice = tag(
        "p",
        *(
            tag("a", f"{each} hours", href=f"{PATH}?hours={each}", aria_current="page" if each == hours else None)
            for each in HOURS
        ),
        class_="choice",
    )
    plots = [
        figure(
            "Events a second",
            [(name, [getattr(each, name.lower()) for each in points]) for name in ("Stored", "Refused")],
            ends,
        ),
        figure(
            "Answer, milliseconds",
            [("Mean", [each.answer_ms for each in points]), ("19 of 20", [each.slow_ms for each in points])],
            ends,
        ),
        figure("Events waiting", [("Waiting", [each.waiting for each in points])], ends, "{:,.0f}"),
        figure("Connections", [("Connections", [each.connections for each in points])], ends, "{:,.0f}"),
        figure("Sat a second", [("Earned", [each.sat for each in points])], ends),
        figure(
            "Database, MiB", [("Size", [None if each.bytes is None else each.bytes / 2**20 for each in points])], ends
        ),
        figure(
            "Mail is kept for, days",
            [("Kept", [None if each.kept is None else each.kept / DAY for each in points])],
            ends,
        ),
        _refusals(points, ends),
    ]
    files = tag(
        "span",
        *(
            tag("a", f"{title} {kind.upper()}".strip(), href=f"{PATH}/{name}.{kind}?hours={hours}", download=True)
            for name, title in (("points", ""), ("reasons", "Refusals"))
            for kind in ("csv", "json")
        ),
        class_="files",
    )
    head = tag("div", tag("h2", "Over time", id="points"), choice, files, class_="title")
    return tag("section", head, tag("div", *plots, class_="charts"))


def _refusals(points: list[Point], ends: tuple[str, str]) -> Html:
    """A line for each of the reasons that were met most, and one for all others."""
    sums = Counter[str]()
    for each in points:
        sums.update(each.reasons or {})
    own = [code for code, _ in sums.most_common(LINES)]
    lines = [(code, [_a_minute(each, [code]) for each in points]) for code in own]
    if rest := sums.keys() - set(own):
        lines.append(("others", [_a_minute(each, rest) for each in points]))
    return figure("Refused, events a minute", lines or [("none", [_a_minute(each, ()) for each in points])], ends)


def _a_minute(point: Point, codes: Collection[str]) -> float | None:
    return None if point.reasons is None else 60 * sum(point.reasons.get(code, 0.0) for code in codes)


def _by_reason(points: list[Point]) -> list[Row]:
    return [
        {"at": each.at, "code": code, "refused": value}
        for each in points
        for code, value in sorted((each.reasons or {}).items())
    ]
