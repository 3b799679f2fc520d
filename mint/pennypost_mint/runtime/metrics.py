"""Prometheus metrics, one table. Names carry their unit; no label identifies a person."""

from __future__ import annotations

from math import nan
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metric(NamedTuple):
    """A row of the table. `name` is that of its TYPE line, `samples` are the names that queries use."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str

    @property
    def samples(self) -> tuple[str, ...]:
        if self.kind == "histogram":
            return tuple(self.name + end for end in ("_bucket", "_sum", "_count"))
        return (self.name,)


class Metrics:
    """The registry of one process; mint and post office count into it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.table: list[Metric] = []
        """Everything that is counted."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            self.table.append(Metric(name, "counter", labels, text))
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            self.table.append(Metric(name, "gauge", (), text))
            return Gauge(name, text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            self.table.append(Metric(name, "histogram", (), text))
            return Histogram(name, text, buckets=buckets, registry=registry)

        self.mint_requests = counter("pennypost_mint_requests_total", "Mint requests answered", "route", "code")
        self.mint_issued_sat = counter("pennypost_mint_issued_sat_total", "Stamps issued, in sat")
        self.mint_settled_sat = counter("pennypost_mint_settled_sat_total", "Invoices credited, in sat")
        self.mint_lightning_up = gauge(
            "pennypost_mint_lightning_up",
            "1 while the Lightning backend answers, else 0; NaN before it was asked and in a process without one",
        )
        # 0 is an alarm: a process that has none, or has not asked yet, must not raise it
        self.mint_lightning_up.set(nan)
        self.mint_websockets = gauge("pennypost_mint_websockets", "Wallets that listen (NUT-17)")
        self.mint_watched = gauge("pennypost_mint_watched", "Quotes and proofs they watch")
        self.mint_slow_readers = counter("pennypost_mint_slow_readers_total", "Wallets cut off as too slow")
        self.office_events = counter("pennypost_office_events_total", "Events answered, by answer code", "code")
        self.office_stamps_sat = counter("pennypost_office_stamps_sat_total", "Stamps taken, in sat")
        self.office_connections = gauge("pennypost_office_connections", "Open WebSocket connections")
        self.office_subscriptions = gauge("pennypost_office_subscriptions", "Open subscriptions")
        self.office_outgoing_bytes = gauge(
            "pennypost_office_outgoing_bytes",
            "Bytes that wait for connections to take them; at PENNYPOST_MAX_OUTGOING the slowest are closed",
        )
        self.office_slow_readers = counter("pennypost_office_slow_readers_total", "Connections closed as too slow")
        self.office_verify_waiting = gauge("pennypost_office_verify_waiting", "Events waiting for verification")
        self.office_commit_waiting = gauge("pennypost_office_commit_waiting", "Events waiting for the commit")
        self.office_verify_events = histogram("pennypost_office_verify_events", "Events of one verification", SIZES)
        self.office_verify_wait_seconds = histogram(
            "pennypost_office_verify_wait_seconds",
            "How long an event waits for a look-up or its verification; one at a time is timed",
            SECONDS,
        )
        self.office_commit_wait_seconds = histogram(
            "pennypost_office_commit_wait_seconds",
            "How long a verified event waits for a commit; one at a time is timed",
            SECONDS,
        )
        self.office_commit_events = histogram("pennypost_office_commit_events", "Events of one commit", SIZES)
        self.office_commit_seconds = histogram("pennypost_office_commit_seconds", "Duration of one commit", SECONDS)
        self.office_answer_seconds = histogram(
            "pennypost_office_answer_seconds", "From an event's arrival to its answer", SECONDS
        )
        self.office_feed_waiters = gauge("pennypost_office_feed_waiters", "Long polls of the header feed")
        self.office_reads = gauge(
            "pennypost_office_reads", "Reads over HTTP under way in the database; at 2,000 others are answered with 503"
        )
        self.office_requests_waiting = gauge(
            "pennypost_office_requests_waiting",
            "Events and releases over HTTP that wait for their turn; at 1,000 of either one is answered with 503",
        )
        self.office_unpriced_letters = gauge(
            "pennypost_office_unpriced_letters",
            "Stored letters that their price rule asked nothing for; at PENNYPOST_UNPRICED_ROWS more are refused",
        )
        self.office_unpriced_bytes = gauge(
            "pennypost_office_unpriced_bytes", "Their bytes; at PENNYPOST_UNPRICED_BYTES more are refused"
        )
        self.office_foreign_sat = counter("pennypost_office_foreign_sat_total", "Earned at mints elsewhere, in sat")
        self.office_foreign_waiting = gauge(
            "pennypost_office_foreign_waiting", "Events waiting for their turn at a mint elsewhere"
        )
        self.office_foreign_journal = gauge(
            "pennypost_office_foreign_journal", "Events whose stamps of mints elsewhere are being swapped"
        )
        self.office_foreign_journal_seconds = gauge(
            "pennypost_office_foreign_journal_seconds", "For how long the oldest of them, in this process"
        )
        self.office_foreign_mints_away = gauge(
            "pennypost_office_foreign_mints_away", "Mints elsewhere that do not answer"
        )
        self.office_expired = counter("pennypost_office_expired_total", "Events deleted when their time was over")
        self.office_slowed = counter(
            "pennypost_office_slowed_total", "Waits of connections for their share of CPU for what no stamp pays"
        )
        self.office_bus_up = gauge(
            "pennypost_office_bus_up",
            "1 while processes of this office wake each other, else 0; NaN before it is known and without a bus",
        )
        self.office_bus_up.set(nan)
        self.office_bus_peers = gauge("pennypost_office_bus_peers", "Other processes heard on the bus")
        self.office_followed = counter(
            "pennypost_office_followed_total", "Events of other processes published to subscribers here"
        )
        self.database_bytes = gauge("pennypost_database_bytes", "Size of the database, every half minute")
        self.database_waiting = gauge("pennypost_database_waiting", "Transactions waiting or under way")

    def text(self) -> bytes:
        """The exposition format, for GET /metrics."""
        return generate_latest(self.registry)
