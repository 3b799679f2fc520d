"""What was measured, as JSON and as Markdown, with the ratios and the goals they are held against."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import coincurve
import msgspec

from pennypost.scanning import LONG
from tests.bench.ceiling import Ceiling
from tests.bench.mail import MailRun
from tests.bench.mint import Memory, MintRun
from tests.bench.reads import ReadRun
from tests.bench.sdk import SdkRun
from tests.bench.signing import Signing

LOAD = 512
"""Events under way, over however many connections, that ratios are taken at."""

OFFICES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
RELAY = "nostr-relay"
NUTSHELL = "nutshell"


class Goal(msgspec.Struct):
    """A figure and the least it should be, or the most when `most`."""

    name: str
    goal: float
    measured: float
    met: bool
    most: bool = False


class GrowthRun(msgspec.Struct):
    """The cost of one more (µs of CPU of all server processes) when `stored` are there."""

    stored: int
    cpu_us: float
    rate: float
    ratio: float = 0.0
    """Of letters: CPU of the pure cryptography ÷ `cpu_us`."""


class Report(msgspec.Struct):
    """Everything of one run; what the machine lacks is named in `missing`, with the reason."""

    machine: dict[str, str | int]
    stored: int = 0
    one_core: Ceiling | None = None
    all_cores: Ceiling | None = None
    signing: Signing | None = None
    mail: dict[str, list[MailRun]] = msgspec.field(default_factory=dict)
    unstamped: dict[str, list[MailRun]] = msgspec.field(default_factory=dict)
    reads: dict[str, list[ReadRun]] = msgspec.field(default_factory=dict)
    mint: dict[str, list[MintRun]] = msgspec.field(default_factory=dict)
    memory: dict[str, Memory] = msgspec.field(default_factory=dict)
    swap_growth: dict[str, list[GrowthRun]] = msgspec.field(default_factory=dict)
    mail_growth: dict[str, list[GrowthRun]] = msgspec.field(default_factory=dict)
    sdk: SdkRun | None = None
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    goals: list[Goal] = msgspec.field(default_factory=list)

    def judge(self) -> None:
        """Fills in the goals that can be judged."""
        self.goals = []
        self._judge_mail()
        self._judge_reads()
        self._judge_growth()
        self._judge_mint()
        self._judge_signing()
        self._judge_sdk()

    def _judge_mail(self) -> None:
        theirs = loaded(self.mail.get(RELAY, []))
        for name, least in (("sqlite", 0.45), ("postgresql", 0.35)):
            ours = loaded(self.mail.get(name, []))
            if not ours:
                continue
            title = OFFICES[name]
            self._goal(f"{title}: pure cryptography ÷ CPU of an event", least, fmean(run.ratio for run in ours))
            self._goal(
                f"{title}: longest p99 under full load, s", 1.0, max(run.p99_ms for run in ours) / 1e3, most=True
            )
            if theirs:
                share = cpu(ours) / cpu(theirs)
                self._goal(f"{title}: CPU of our stamped event ÷ of {RELAY}'s unstamped one", 0.7, share, most=True)

    def _judge_reads(self) -> None:
        theirs = {run.work: run for run in self.reads.get(RELAY, [])}
        for name, title in OFFICES.items():
            for run in self.reads.get(name, []):
                if run.work not in theirs or run.work == "REQ by id":
                    continue
                most = 0.6 if run.work.startswith("fan-out") else 0.3
                share = run.cpu_us / theirs[run.work].cpu_us
                self._goal(f"{title}: CPU of a {run.work} ÷ {RELAY}'s", most, share, most=True)

    def _judge_growth(self) -> None:
        for what, found in (("swap", self.swap_growth), ("letter", self.mail_growth)):
            for name, runs in found.items():
                for run in runs[1:]:
                    grown = run.cpu_us / runs[0].cpu_us
                    where = f"at {run.stored:,} ÷ at {runs[0].stored:,}"
                    self._goal(f"{OFFICES[name]}: CPU of a {what} {where}", 1.2, grown, most=True)
        for run in self.mail_growth.get("sqlite", []):
            if run.stored == 1_000_000:
                self._goal(f"SQLite at {run.stored:,}: pure cryptography ÷ CPU of an event", 0.4, run.ratio)

    def _judge_mint(self) -> None:
        theirs = self.mint.get(NUTSHELL, [])
        for name, title in OFFICES.items():
            ours = self.mint.get(name, [])
            works = dict.fromkeys(run.work for run in ours)
            for work in works:
                mine = [run for run in ours if run.work == work]
                others = [run for run in theirs if run.work == work]
                if mine and others and best(others):
                    self._goal(f"{title}: {work}, best rate ÷ Nutshell's best", 10.0, best(mine) / best(others))
                    for run in mine:
                        same = [other for other in others if other.clients == run.clients]
                        if same and same[0].rate:
                            where = f"{title}: {work}, {run.clients} clients"
                            self._goal(f"{where}, rate ÷ Nutshell's", 10.0, run.rate / same[0].rate)
            if ours:
                self._goal(f"{title}: requests to the mint that failed", 0, sum(run.failed for run in ours), most=True)

    def _judge_signing(self) -> None:
        if self.signing is not None:
            self._goal("a signature with its DLEQ proof ÷ its curve operations", 1.3, self.signing.ratio, most=True)

    def _judge_sdk(self) -> None:
        found = self.sdk
        if found is None:
            return
        self._goal("scan of a header ÷ pure ECDH and hash", 1.15, found.scan_ratio, most=True)
        self._goal("NIP-17 message opened by nostr-sdk ÷ scan of a header", 10.0, found.unwrap_ratio)
        self._goal("bytes of a NIP-17 wrap ÷ of a header", 50.0, found.bytes_ratio)
        self._goal("a mailbox read by nostr-sdk ÷ by headers", 10.0, found.mailbox_ratio)
        self._goal("bytes of a mailbox read by nostr-sdk ÷ by headers", 50.0, found.mailbox_bytes_ratio)
        self._goal("import pennypost ÷ import of its dependencies", 1.3, found.import_ms / found.others_ms, most=True)

    def _goal(self, name: str, goal: float, measured: float, *, most: bool = False) -> None:
        met = measured <= goal if most else measured >= goal
        self.goals.append(Goal(name, goal, round(measured, 3), met, most))


def loaded(runs: Iterable[MailRun]) -> list[MailRun]:
    """Those with hundreds of events under way at once."""
    return [run for run in runs if run.connections * run.window >= LOAD]


def cpu(runs: Sequence[MailRun]) -> float:
    """Mean CPU µs of an event."""
    return fmean(run.cpu_us for run in runs)


def best(runs: Sequence[MintRun]) -> float:
    """Requests a second at the number of clients that suits the server."""
    return max(run.rate for run in runs)


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "coincurve": coincurve.__version__,
        "sqlite": sqlite3.sqlite_version,
    }


def markdown(report: Report) -> str:
    """The tables of the reference page."""
    lines = [", ".join(f"{name} {value}" for name, value in report.machine.items()), ""]
    for title, head, rows in (
        _ceilings(report),
        _signing(report),
        *_mail(report),
        _reads(report),
        *_growth(report),
        _mint(report),
        _memory(report),
        _sdk(report),
    ):
        if rows:
            lines += _table((title, *head), rows)
    lines += _goals(report.goals)
    lines += [f"Not measured: {name} ({reason})." for name, reason in report.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


Table = tuple[str, Sequence[str], list[list[str]]]


def _table(head: Sequence[str], rows: list[list[str]], left: int = 1) -> list[str]:
    marks = ["---" if number < left else "--:" for number in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)] + [""]


def _ceilings(report: Report) -> Table:
    head = ("event signature", "stamp", "both, our functions", "both, bare coincurve", "pairs/s")
    rows = [
        [
            name,
            *(f"{each:.1f} µs" for each in (found.schnorr_us, found.stamp_us, found.own_us, found.bare_us)),
            f"{found.pairs_per_second:,.0f}",
        ]
        for name, found in (("one core", report.one_core), ("all cores at once", report.all_cores))
        if found is not None
    ]
    return "pure cryptography", head, rows


def _signing(report: Report) -> Table:
    found = report.signing
    rows = (
        [["one core", f"{found.signature_us:.1f} µs", f"{found.curve_us:.1f} µs", f"{found.ratio:.2f}"]]
        if found
        else []
    )
    return "blind signature with its DLEQ proof", ("CPU for one", "its curve operations", "ratio"), rows


def _mail(report: Report) -> list[Table]:
    head = ("connections × window", "stored before", "CPU for 1,000", "durable/s", "OK/s", "p50", "p99", "ratio")
    return [
        (
            title,
            head,
            [
                [
                    name,
                    f"{run.connections} × {run.window}",
                    f"{run.stored_before:,}",
                    f"{run.cpu_us / 1e3:.3f} s",
                    f"{run.rate:,.0f}",
                    f"{run.ok_rate:,.0f}",
                    f"{run.p50_ms:.1f} ms",
                    f"{run.p99_ms:.1f} ms",
                    f"{run.ratio:.2f}" if run.ratio else "–",
                ]
                for name, runs in found.items()
                for run in runs
            ],
        )
        for title, found in (("events", report.mail), ("events without a stamp", report.unstamped))
    ]


def _reads(report: Report) -> Table:
    rows = [
        [
            f"{name}: {run.work}",
            f"{run.stored:,}",
            f"{run.cpu_us:,.0f} µs",
            f"{run.rate:,.0f}",
            f"{run.p50_ms:.1f} ms",
            f"{run.p99_ms:.1f} ms",
        ]
        for name, runs in report.reads.items()
        for run in runs
    ]
    return "reads, deliveries", ("stored", "CPU for one", "one/s", "p50", "p99"), rows


def _growth(report: Report) -> list[Table]:
    return [
        (
            title,
            (key, "CPU for one", "ratio", "÷ first"),
            [
                [
                    OFFICES[name],
                    f"{run.stored:,}",
                    f"{run.cpu_us:,.0f} µs",
                    f"{run.ratio:.2f}" if run.ratio else "–",
                    f"{run.cpu_us / runs[0].cpu_us:.2f}",
                ]
                for name, runs in found.items()
                for run in runs
            ],
        )
        for title, key, found in (
            ("stamped letters", "letters stored", report.mail_growth),
            ("swaps 1→1", "proofs spent", report.swap_growth),
        )
    ]


def _mint(report: Report) -> Table:
    rows = [
        [
            run.work,
            name,
            str(run.clients),
            f"{run.cpu_us / 1e3:.2f} ms",
            f"{run.rate:,.0f}",
            f"{run.p50_ms:.1f} ms",
            f"{run.p99_ms:.1f} ms",
            str(run.failed),
        ]
        for work in dict.fromkeys(run.work for runs in report.mint.values() for run in runs)
        for name, runs in report.mint.items()
        for run in runs
        if run.work == work
    ]
    return "mint", ("mint of", "clients", "CPU for one", "one/s", "p50", "p99", "failed"), rows


def _memory(report: Report) -> Table:
    rows = [
        [
            name,
            f"{found.rest_mib:.0f} + {found.rest_children_mib:.0f} MiB",
            f"{found.swaps:,}",
            f"{found.after_mib:.0f} + {found.after_children_mib:.0f} MiB",
        ]
        for name, found in report.memory.items()
    ]
    return "resident memory, server + its children", ("at rest", "swaps", "after them"), rows


def _sdk(report: Report) -> Table:
    run = report.sdk
    if run is None:
        return "client", (), []
    rows = [
        ["pure ECDH and hash of a header", f"{run.pure_us:.1f} µs"],
        ["scan of a header", f"{run.scan_us:.1f} µs"],
        [f"scan of {run.headers:,} headers, one process", f"{run.one_process_s:.2f} s"],
        [f"the same, {run.processes} processes from the {LONG:,}th on", f"{run.all_cores_s:.2f} s"],
        ["NIP-17 message opened by nostr-sdk", f"{run.unwrap_us:,.0f} µs"],
        ["bytes: a header, a NIP-17 wrap", f"{run.header_bytes}, {run.wrap_bytes:,}"],
        [
            f"mailbox of {run.mailbox:,} letters, {run.mailbox_own} of them ours: by headers; every wrap by nostr-sdk",
            f"{run.mailbox_ms:,.0f} ms, {run.mailbox_bytes:,} B;"
            f" {run.mailbox_theirs_ms:,.0f} ms, {run.mailbox_theirs_bytes:,} B",
        ],
        ["the same by nostr-sdk, where wraps name their receiver", f"{run.mailbox_named_ms:,.1f} ms"],
        ["letters sent (wrap, stamp, answer), office in the same process", f"{run.sends:,.0f}/s"],
        [f"choosing a stamp of {run.stamps:,}; of 100", f"{run.choose_ms:.2f} ms; {run.choose_small_ms:.2f} ms"],
        ["`import pennypost`", f"{run.import_ms:.1f} ms"],
        ["`from pennypost import AsyncClient`", f"{run.client_ms:.0f} ms"],
        ["importing what that needs of others", f"{run.others_ms:.0f} ms"],
    ]
    return "client", ("",), rows


def _goals(goals: Sequence[Goal]) -> list[str]:
    rows = [
        [
            goal.name,
            f"{'≤' if goal.most else '≥'} {goal.goal:g}",
            f"{goal.measured:.2f}{'' if goal.met else ' (missed)'}",
        ]
        for goal in goals
    ]
    return _table(("ratio", "goal", "measured"), rows) if rows else []
