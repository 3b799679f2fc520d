"""`make bench`: everything side by side in one run; see the package docstring for what is measured and how."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import msgspec

from tests.bench import ceiling, profile, report, servers
from tests.bench.ceiling import Ceiling
from tests.bench.letters import letters
from tests.bench.mail import Mailbox, MailRun
from tests.bench.servers import PROJECT, Running
from tests.bench.swaps import swap
from tests.support import postgres

CACHE = PROJECT / ".cache" / "bench"
PARTS = ("ceiling", "sqlite", "postgresql", "nostr-relay", "swaps")
ROWS = ((1, 1), (1, 64), (8, 64), (64, 8))
"""Connections, and events of each that wait for their answer. The first is one sender who waits: his latency."""
ONE_BY_ONE = 400
"""Events of the row that sends one at a time."""
FILL = 20_000
"""Events of one load while the store is filled."""
SWAPS = {"pennypost": 2_000, "nutshell": 240}
NUTSHELL_PART = 60
"""Outputs of one purchase at Nutshell's mint, which needs milliseconds for each."""


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 events, nothing stored before, one row each")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--stored", type=int, default=100_000, help="events stored before the measurement")
    parser.add_argument("--events", type=int, default=8_000, help="events of each row")
    parser.add_argument("--profile", action="store_true", help="look where the servers' time goes; figures suffer")
    parser.add_argument("--native", action="store_true", help="with --profile: C functions too")
    parser.add_argument("--json", type=Path, default=CACHE / "result.json", help="where the figures go")
    parser.add_argument("--markdown", type=Path, default=CACHE / "result.md", help="where the tables go")
    chosen = parser.parse_args(arguments)
    chosen.rows = ROWS
    if chosen.quick:
        chosen.stored, chosen.events, chosen.rows = 0, 2_000, ((8, 64),)
    return chosen


class Bench:
    """One run of everything that was asked for."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.report = report.Report(machine=report.machine(), stored=chosen.stored)
        self._ceilings: list[Ceiling] = []
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begun:6.1f} s] {text}", file=sys.stderr, flush=True)

    def run(self) -> report.Report:
        """Measures part after part; a part whose programs are absent is named with its reason."""
        chosen = self.chosen
        CACHE.mkdir(parents=True, exist_ok=True)
        parts: dict[str, Callable[[Path], None]] = {
            "ceiling": self.ceilings,
            "sqlite": self.sqlite,
            "postgresql": self.postgresql,
            "nostr-relay": self.nostr_relay,
            "swaps": self.swaps,
        }
        for name in chosen.only:
            with servers.folder() as home:
                parts[name](home)
        if self._ceilings:
            self.report.one_core = mean(self._ceilings)
        self.report.judge()
        return self.report

    def ceilings(self, _home: Path) -> None:
        self.ceiling()
        self.report.all_cores = ceiling.measure_all()

    def ceiling(self) -> Ceiling:
        """The cost of the cryptography now: neighbours on the machine change it from minute to minute."""
        found = ceiling.measure()
        self._ceilings.append(found)
        return found

    def sqlite(self, home: Path) -> None:
        with servers.office_on_sqlite(home / "office") as server:
            self.mail("sqlite", server, home, stamped=True)

    def postgresql(self, home: Path) -> None:
        programs = postgres.programs()
        if programs is None:
            self.report.missing["postgresql"] = "PostgreSQL is not installed"
            return
        with (
            servers.postgresql(programs) as cluster,
            servers.office_on_postgresql(home / "office", cluster, cluster.database()) as server,
        ):
            self.mail("postgresql", server, home, stamped=True)

    def nostr_relay(self, home: Path) -> None:
        program = servers.nostr_relay_program()
        if program is None:
            self.report.missing["nostr-relay"] = "make bench installs it"
            return
        with servers.nostr_relay(program, home / "nostr-relay") as server:
            self.mail("nostr-relay", server, home, stamped=False)

    def mail(self, name: str, server: Running, home: Path, *, stamped: bool) -> None:
        """Fills the store, then one row after another, each with its ceiling measured just before."""
        chosen = self.chosen
        counts = [min(ONE_BY_ONE, chosen.events) if row == ROWS[0] else chosen.events for row in chosen.rows]
        events = letters(CACHE, chosen.stored + sum(counts))
        box = Mailbox(server, home, stamped=stamped)
        for start in range(0, chosen.stored, FILL):
            filled = box.post(events[start : min(start + FILL, chosen.stored)], 8, 64)
            self.say(f"{name}: {box.stored:,} stored, {filled.cpu_us:.0f} µs each, {filled.rate:,.0f}/s")
        position = chosen.stored
        for (connections, window), count in zip(chosen.rows, counts, strict=True):
            limit = self.ceiling()
            part = events[position : position + count]
            run = self._watched(server, home, count, lambda: box.post(part, connections, window))  # noqa: B023
            run.ratio = limit.pair_us / run.cpu_us if stamped else 0.0
            position += count
            self.report.mail.setdefault(name, []).append(run)
            self.say(f"{name}: {connections} × {window}: {run.cpu_us:.0f} µs each, {run.rate:,.0f}/s, {run.ratio:.2f}")

    def _watched(self, server: Running, home: Path, count: int, work: Callable[[], MailRun]) -> MailRun:
        if not self.chosen.profile:
            return work()
        program = profile.py_spy()
        if program is None:
            raise SystemExit("py-spy is missing: make bench installs it")
        run, costs = profile.profiled(program, server.meter, home, count, work, native=self.chosen.native)
        print(costs, flush=True)
        return run

    def swaps(self, home: Path) -> None:
        clients = (8,) if self.chosen.quick else (1, 8)
        quick = 10 if self.chosen.quick else 1
        with servers.office_on_sqlite(home / "mint") as server:
            self._swaps("pennypost", server, home, SWAPS["pennypost"] // quick, clients, 1_000)
        python = servers.nutshell_python()
        if python is None:
            self.report.missing["nutshell"] = "make cashu installs it"
            return
        with servers.nutshell(python, home / "nutshell") as server:
            self._swaps("nutshell", server, home, SWAPS["nutshell"] // quick, clients, NUTSHELL_PART)

    def _swaps(self, name: str, server: Running, home: Path, count: int, clients: Sequence[int], part: int) -> None:
        for number in clients:
            run = swap(server, home, count, number, part)
            self.report.swaps.setdefault(name, []).append(run)
            self.say(f"{name}: swaps, {number} clients: {run.cpu_us:.0f} µs each, {run.rate:,.0f}/s")


def mean(found: Sequence[Ceiling]) -> Ceiling:
    """The mean of measurements on one core."""
    return Ceiling(
        own_us=fmean(each.own_us for each in found),
        bare_us=fmean(each.bare_us for each in found),
        schnorr_us=fmean(each.schnorr_us for each in found),
        stamp_us=fmean(each.stamp_us for each in found),
    )


def main() -> None:
    """Measures, prints the tables, writes JSON and Markdown."""
    chosen = options()
    found = Bench(chosen).run()
    tables = report.markdown(found)
    for path, content in (
        (chosen.json, msgspec.json.format(msgspec.json.encode(found))),
        (chosen.markdown, tables.encode()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(tables)


if __name__ == "__main__":
    main()
