"""`make bench`: everything side by side in one run; see the package docstring for what is measured and how."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from statistics import fmean

import msgspec

from tests.bench import ceiling, profile, report, servers
from tests.bench.ceiling import Ceiling
from tests.bench.letters import letters
from tests.bench.mail import Mailbox
from tests.bench.servers import PROJECT, Running
from tests.bench.swaps import swap
from tests.support import postgres

CACHE = PROJECT / ".cache" / "bench"
Watch = AbstractContextManager[object]

PARTS = ("ceiling", "sqlite", "postgresql", "nostr-relay", "swaps")
ROWS = ((1, 1), (1, 64), (1, 512), (8, 64), (64, 8))
"""Connections, and events of each that wait for their answer. The first is one sender who waits for each answer, the
second one who does not; the others, with 512 events under way, are the load that ratios are taken at."""
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
            self._save()
        return self.report

    def _save(self) -> None:
        """Writes what is known so far, so that a run that is cut short is not lost."""
        if self._ceilings:
            self.report.one_core = mean(self._ceilings)
        self.report.judge()
        figures = msgspec.json.format(msgspec.json.encode(self.report))
        tables = report.markdown(self.report).encode()
        for path, content in ((self.chosen.json, figures), (self.chosen.markdown, tables)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

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
            box = Mailbox(server, home, stamped=True)
            self.fill("sqlite", box)
            self.mail("sqlite", box)

    def postgresql(self, home: Path) -> None:
        programs = postgres.programs()
        if programs is None:
            self.report.missing["postgresql"] = "PostgreSQL is not installed"
            return
        with (
            servers.postgresql(programs) as cluster,
            servers.office_on_postgresql(home / "office", cluster, cluster.database()) as server,
        ):
            box = Mailbox(server, home, stamped=True)
            self.fill("postgresql", box)
            self.mail("postgresql", box)

    def nostr_relay(self, home: Path) -> None:
        program = servers.nostr_relay_program()
        if program is None:
            self.report.missing["nostr-relay"] = "make bench installs it"
            return
        with servers.nostr_relay(program, home / "nostr-relay", durable=False) as server:
            box = Mailbox(server, home, stamped=False)
            self.fill("nostr-relay", box)
        with servers.nostr_relay(program, home / "nostr-relay") as server:
            box.server = server
            self.mail("nostr-relay", box)

    def fill(self, name: str, box: Mailbox) -> None:
        """Stores what is to be there before the measurement, through the server like everything else."""
        for start in range(0, self.chosen.stored, FILL):
            filled = box.post(self._letters[start : min(start + FILL, self.chosen.stored)], 8, 64)
            self.say(f"{name}: {box.stored:,} stored, {filled.cpu_us:.0f} µs each, {filled.rate:,.0f}/s")

    def mail(self, name: str, box: Mailbox) -> None:
        """One row after another, each with its ceiling measured just before."""
        position = self.chosen.stored
        for row in self.chosen.rows:
            connections, window = row
            part = self._letters[position : position + self._count(row)]
            limit = self.ceiling()
            watch = self._watch(box.server, box.home, len(part))
            run = box.post(part, connections, window, watch)
            self._costs(f"{name}: {connections} × {window}", watch)
            run.ratio = limit.pair_us / run.cpu_us if box.stamped else 0.0
            position += len(part)
            self.report.mail.setdefault(name, []).append(run)
            self.say(f"{name}: {connections} × {window}: {run.cpu_us:.0f} µs each, {run.rate:,.0f}/s, {run.ratio:.2f}")

    def _count(self, row: tuple[int, int]) -> int:
        return min(ONE_BY_ONE, self.chosen.events) if row == ROWS[0] else self.chosen.events

    @cached_property
    def _letters(self) -> list[bytes]:
        return letters(CACHE, self.chosen.stored + sum(map(self._count, self.chosen.rows)))

    def _watch(self, server: Running, home: Path, items: int) -> Watch:
        if not self.chosen.profile:
            return nullcontext()
        program = profile.py_spy()
        if program is None:
            raise SystemExit("py-spy is missing: make bench installs it")
        return profile.Profiler(program, server.meter, home, items, native=self.chosen.native)

    def _costs(self, title: str, watch: Watch) -> None:
        if isinstance(watch, profile.Profiler):
            print(f"{title}: CPU for one\n{watch.text}\n", flush=True)

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
            watch = self._watch(server, home, count)
            run = swap(server, home, count, number, part, watch)
            self._costs(f"{name}: swaps, {number} clients", watch)
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
    """Measures, writes JSON and Markdown, prints the tables."""
    print(report.markdown(Bench(options()).run()))


if __name__ == "__main__":
    main()
