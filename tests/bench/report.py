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

from tests.bench.ceiling import Ceiling
from tests.bench.mail import MailRun
from tests.bench.swaps import SwapRun

LOAD = 512
"""Events under way, over however many connections, that ratios are taken at."""


class Goal(msgspec.Struct):
    """A ratio and the least it should be."""

    name: str
    goal: float
    measured: float
    met: bool


class Report(msgspec.Struct):
    """Everything of one run; what the machine lacks is named in `missing`, with the reason."""

    machine: dict[str, str | int]
    stored: int = 0
    one_core: Ceiling | None = None
    all_cores: Ceiling | None = None
    mail: dict[str, list[MailRun]] = msgspec.field(default_factory=dict)
    swaps: dict[str, list[SwapRun]] = msgspec.field(default_factory=dict)
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    goals: list[Goal] = msgspec.field(default_factory=list)

    def judge(self) -> None:
        """Fills in the goals that can be judged."""
        self.goals = []
        ours = loaded(self.mail.get("sqlite", []))
        if ours:
            self._goal("SQLite: pure cryptography ÷ CPU of an event", 0.35, fmean(run.ratio for run in ours))
        if runs := loaded(self.mail.get("postgresql", [])):
            self._goal("PostgreSQL: pure cryptography ÷ CPU of an event", 0.25, fmean(run.ratio for run in runs))
        if ours and (theirs := loaded(self.mail.get("nostr-relay", []))):
            self._goal("CPU of nostr-relay's unstamped event ÷ of our stamped one", 1.0, cpu(theirs) / cpu(ours))
        mint, nutshell = self.swaps.get("pennypost", []), self.swaps.get("nutshell", [])
        if mint and nutshell:
            self._goal("swaps a second ÷ Nutshell's, best of each", 10.0, best(mint) / best(nutshell))
            self._goal("CPU of Nutshell's swap ÷ of ours", 10.0, fmean_cpu(nutshell) / fmean_cpu(mint))

    def _goal(self, name: str, goal: float, measured: float) -> None:
        self.goals.append(Goal(name, goal, round(measured, 3), measured >= goal))


def loaded(runs: Iterable[MailRun]) -> list[MailRun]:
    """Those with hundreds of events under way at once."""
    return [run for run in runs if run.connections * run.window >= LOAD]


def cpu(runs: Sequence[MailRun]) -> float:
    """Mean CPU µs of an event."""
    return fmean(run.cpu_us for run in runs)


def fmean_cpu(runs: Sequence[SwapRun]) -> float:
    """Mean CPU µs of a swap."""
    return fmean(run.cpu_us for run in runs)


def best(runs: Sequence[SwapRun]) -> float:
    """Swaps a second at the number of clients that suits the server."""
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
        "python": platform.python_version(),
        "coincurve": coincurve.__version__,
        "sqlite": sqlite3.sqlite_version,
    }


def markdown(report: Report) -> str:
    """The tables of the reference page."""
    lines = [", ".join(f"{name} {value}" for name, value in report.machine.items()), ""]
    lines += _ceilings(report) + _mail(report) + _swaps(report)
    if report.goals:
        lines += ["| ratio | goal | measured |", "|---|--:|--:|"]
        lines += [
            f"| {goal.name} | ≥ {goal.goal:g} | {goal.measured:.2f}{'' if goal.met else ' (missed)'} |"
            for goal in report.goals
        ]
        lines.append("")
    lines += [f"Not measured: {name} ({reason})." for name, reason in report.missing.items()]
    return "\n".join(lines).rstrip() + "\n"


def _ceilings(report: Report) -> list[str]:
    rows = [("one core", report.one_core), ("all cores at once", report.all_cores)]
    found = [(name, each) for name, each in rows if each is not None]
    if not found:
        return []
    return [
        "| pure cryptography | event signature | stamp | both, our functions | both, bare coincurve | pairs/s |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {each.schnorr_us:.1f} µs | {each.stamp_us:.1f} µs | {each.own_us:.1f} µs "
            f"| {each.bare_us:.1f} µs | {each.pairs_per_second:,.0f} |"
            for name, each in found
        ),
        "",
    ]


def _mail(report: Report) -> list[str]:
    if not report.mail:
        return []
    return [
        "| events | connections × window | stored before | CPU for 1,000 | durable/s | OK/s | p50 | p99 | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {run.connections} × {run.window} | {run.stored_before:,} | {run.cpu_us / 1_000:.3f} s "
            f"| {run.rate:,.0f} | {run.ok_rate:,.0f} | {run.p50_ms:.1f} ms | {run.p99_ms:.1f} ms "
            f"| {f'{run.ratio:.2f}' if run.ratio else '–'} |"
            for name, runs in report.mail.items()
            for run in runs
        ),
        "",
    ]


def _swaps(report: Report) -> list[str]:
    if not report.swaps:
        return []
    return [
        "| swaps 1→1 | clients | CPU | swaps/s | p50 | p99 |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {name} | {run.clients} | {run.cpu_us / 1_000:.2f} ms | {run.rate:,.0f} | {run.p50_ms:.1f} ms "
            f"| {run.p99_ms:.1f} ms |"
            for name, runs in report.swaps.items()
            for run in runs
        ),
        "",
    ]
