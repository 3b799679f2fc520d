"""How this process does, every half minute, in a small table: so the operator's pages have plots without Prometheus.

metrics of this process ─▶ what they grew by ─▶ a row of `samples` ─▶ series_on: all processes together
                                                  └▶ what is older than two days is deleted
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, select, text

from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.sets import insert_ignore
from pennypost_postoffice.office import ACCEPTED
from pennypost_postoffice.tables import feed, samples

if TYPE_CHECKING:
    from pennypost_mint.runtime.metrics import Metrics

EVERY = 30
"""Seconds between two samples; they stand at multiples of it, so that those of several processes add up."""

KEPT = 2 * 86_400
SLOTS = 120
"""Points of a plot."""

SLOW = 0.95
log = logger("samples")


class Sample(NamedTuple):
    """A row of `samples`."""

    at: int
    process: bytes
    seconds: int
    stored: int
    refused: int
    sat: int
    answers: int
    answer_us: int
    slow_us: int
    waiting: int
    connections: int
    lightning: int | None
    bytes: int
    reasons: str = "{}"
    kept_until: int | None = None

    @property
    def by_code(self) -> dict[str, int]:
        """The refused ones by code."""
        return msgspec.json.decode(self.reasons, type=dict[str, int])


class Point(NamedTuple):
    """All processes in one stretch of time that ends at `at`: events and sat a second, milliseconds, bytes, seconds
    until the last of the mail goes, refused events a second by code.

    None throughout where nobody took a sample; of milliseconds where nothing was answered, of `kept` without mail.
    """

    at: int
    stored: float | None = None
    refused: float | None = None
    sat: float | None = None
    answer_ms: float | None = None
    slow_ms: float | None = None
    waiting: int | None = None
    connections: int | None = None
    bytes: int | None = None
    kept: int | None = None
    reasons: Mapping[str, float] | None = None


class _Counts(NamedTuple):
    stored: float = 0.0
    reasons: Mapping[str, float] = {}
    sat: float = 0.0
    answers: float = 0.0
    answer_seconds: float = 0.0
    buckets: Mapping[float, float] = {}


class Sampler:
    """Takes the samples of this process. `lightning`: it serves a mint, and so knows how its Lightning node is."""

    def __init__(self, database: Database, metrics: Metrics, *, lightning: bool) -> None:
        self._database, self._metrics, self._lightning = database, metrics, lightning
        self._process = secrets.token_bytes(8)
        self._before = _Counts()
        self._since = time.monotonic()

    async def run(self) -> None:
        """Works until it is cancelled."""
        try:
            # at once: a size of 0 in the first half minute looks like growth afterwards
            self._measured(await self._database.read(size_on))
        except DatabaseUnavailable:
            log.warning("the size of the database is not known: it is away")
        while True:
            await asyncio.sleep(EVERY - time.time() % EVERY)
            try:
                await self.take(int(time.time()))
            except DatabaseUnavailable:
                log.warning("a sample was lost: the database is away")

    def _measured(self, size: int) -> None:
        self._metrics.database_bytes.set(size)
        self._metrics.database_waiting.set(self._database.waiting)

    async def take(self, now: int) -> None:
        """Writes what happened since the last one, at Unix time `now`. Raises DatabaseUnavailable."""
        size, (_, kept_until) = await self._database.read(lambda c: (size_on(c), horizon_on(c, now)))
        self._measured(size)
        values = _values(self._metrics)
        counts, before = _counts(values), self._before
        seconds = time.monotonic() - self._since
        self._before, self._since = counts, time.monotonic()
        buckets = {bound: count - before.buckets.get(bound, 0.0) for bound, count in counts.buckets.items()}
        reasons = {code: int(count - before.reasons.get(code, 0.0)) for code, count in counts.reasons.items()}
        up = _one(values, "mint_lightning_up")
        row = Sample(
            at=now - now % EVERY,
            process=self._process,
            seconds=max(1, round(seconds)),
            stored=int(counts.stored - before.stored),
            refused=sum(reasons.values()),
            sat=int(counts.sat - before.sat),
            answers=int(counts.answers - before.answers),
            answer_us=int(1e6 * (counts.answer_seconds - before.answer_seconds)),
            slow_us=int(1e6 * quantile(buckets, SLOW)),
            waiting=int(_one(values, "office_verify_waiting") + _one(values, "office_commit_waiting")),
            connections=int(_one(values, "office_connections")),
            lightning=int(up) if self._lightning and not isnan(up) else None,
            bytes=size,
            reasons=msgspec.json.encode({code: count for code, count in reasons.items() if count}).decode(),
            kept_until=kept_until,
        )
        await self._database.write(add_on, row)


def _values(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Every sample of the registry by its name without `pennypost_`."""
    found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for family in metrics.registry.collect():
        for sample in family.samples:
            found[sample.name.removeprefix("pennypost_")].append((sample.labels, sample.value))
    return found


def _one(values: Mapping[str, list[tuple[dict[str, str], float]]], name: str) -> float:
    return sum(value for _, value in values.get(name, ()))


def _counts(values: Mapping[str, list[tuple[dict[str, str], float]]]) -> _Counts:
    events = values.get("office_events_total", ())
    return _Counts(
        stored=sum(value for labels, value in events if labels["code"] == "accepted"),
        reasons={labels["code"]: value for labels, value in events if labels["code"] not in ACCEPTED},
        sat=_one(values, "office_stamps_sat_total"),
        answers=_one(values, "office_answer_seconds_count"),
        answer_seconds=_one(values, "office_answer_seconds_sum"),
        buckets={float(labels["le"]): value for labels, value in values.get("office_answer_seconds_bucket", ())},
    )


def quantile(buckets: Mapping[float, float], part: float) -> float:
    """The value that `part` of what was counted stayed under, by cumulative buckets; 0 where nothing was counted."""
    total = buckets.get(float("inf"), 0.0)
    below, under = 0.0, 0.0
    for bound in sorted(buckets):
        if total and buckets[bound] >= part * total:
            if bound == float("inf"):
                return under
            width = buckets[bound] - below
            return under + (bound - under) * ((part * total - below) / width if width else 1.0)
        below, under = buckets[bound], bound
    return 0.0


def size_on(connection: Connection) -> int:
    """Bytes of the database."""
    if connection.dialect.name == "postgresql":
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())


def horizon_on(connection: Connection, now: int) -> tuple[int | None, int | None]:
    """When the next stored event goes, and when the last does (Unix seconds)."""
    until = feed.c.keep_until
    # one end at a time: each is a single step in the index
    first = connection.execute(select(func.min(until)).where(until > now)).scalar()
    return first, connection.execute(select(func.max(until)).where(until > now)).scalar()


def add_on(connection: Connection, sample: Sample) -> None:
    """Adds a sample, and deletes what is too old."""
    insert_ignore(connection, samples, Sample._fields, [sample], "at")
    connection.execute(delete(samples).where(samples.c.at < sample.at - KEPT))


def samples_on(connection: Connection, since: int) -> list[Sample]:
    """Samples after `since` (Unix seconds), in their order."""
    columns = [samples.c[name] for name in Sample._fields]
    rows = connection.execute(select(*columns).where(samples.c.at > since).order_by(samples.c.at))
    return [Sample(*row) for row in rows]


def series(taken: Sequence[Sample], until: int, seconds: int) -> list[Point]:
    """SLOTS points, the last one at `until` (Unix seconds), over so many seconds."""
    width = max(EVERY, seconds // SLOTS)
    end = until - until % width
    slots: dict[int, list[Sample]] = defaultdict(list)
    for each in taken:
        slots[-(-each.at // width) * width].append(each)
    return [_point(at, slots.get(at, ())) for at in range(end - width * (SLOTS - 1), end + 1, width)]


def _point(at: int, taken: Sequence[Sample]) -> Point:
    if not taken:
        return Point(at)
    times = {each.at for each in taken}
    covered = EVERY * len(times)
    answers = sum(each.answers for each in taken)

    ends = [each.kept_until - each.at for each in taken if each.kept_until is not None]
    reasons = Counter[str]()
    for each in taken:
        reasons.update(each.by_code)

    def most(name: str) -> int:
        return max(sum(getattr(each, name) for each in taken if each.at == time) for time in times)

    return Point(
        at=at,
        stored=sum(each.stored for each in taken) / covered,
        refused=sum(each.refused for each in taken) / covered,
        sat=sum(each.sat for each in taken) / covered,
        answer_ms=sum(each.answer_us for each in taken) / answers / 1e3 if answers else None,
        slow_ms=max(each.slow_us for each in taken) / 1e3 if answers else None,
        waiting=most("waiting"),
        connections=most("connections"),
        bytes=max(each.bytes for each in taken),
        kept=max(ends, default=None),
        reasons={code: count / covered for code, count in reasons.items()},
    )


def latest(taken: Sequence[Sample], now: int) -> list[Sample]:
    """The last sample of each process that took one lately."""
    found: dict[bytes, Sample] = {each.process: each for each in taken if each.at > now - 3 * EVERY}
    return list(found.values())


def as_row(sample: Sample) -> dict[str, Any]:
    """A sample as JSON has it."""
    return sample._asdict() | {"process": sample.process.hex(), "reasons": sample.by_code}
