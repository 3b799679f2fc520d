"""`make bench`: everything side by side in one run; see the package docstring for what is measured and how."""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from statistics import fmean
from subprocess import SubprocessError

import msgspec

from tests.bench import ceiling, filling, profile, report, sdk, servers, signing
from tests.bench.ceiling import Ceiling
from tests.bench.letters import letters
from tests.bench.mail import Mailbox
from tests.bench.mint import NUTSHELL, OURS, QUICK, QUICK_NUTSHELL, Counter, Counts
from tests.bench.reads import Readers, ReadRun
from tests.bench.report import GrowthRun
from tests.bench.servers import PROJECT, Running
from tests.support import postgres
from tests.support.postgres import Postgres

CACHE = PROJECT / ".cache" / "bench"
Watch = AbstractContextManager[object]

DATABASES = ("sqlite", "postgresql")
PARTS = ("ceiling", "sqlite", "postgresql", "nostr-relay", "mint", "memory", "growth", "sdk")
ROWS = ((1, 1), (1, 64), (1, 512), (8, 64), (64, 8))
"""Connections, and events of each that wait for their answer. The first is one sender who waits for each answer, the
second one who does not; the others, with 512 events under way, are the load that ratios are taken at."""
LOADED = (8, 64)
ONE_BY_ONE = 400
"""Events of the row that sends one at a time."""
FILL = 20_000
"""Events of one load while the store is filled."""
UNSTAMPED = (64, 8)
UNSTAMPED_EVENTS = 2_000
"""Without a stamp each connection may send some fifty at once, so many connections share few."""
FREE_PRICES = "[[rule]]\nbase = 0\n"
UNLIMITED = {"UNPRICED_RATE": "100000", "ALL_UNPRICED_RATE": "100000"}
"""What costs nothing is bounded by its rate, which is not what is measured."""
READS = {"ours": 2_000, "nostr-relay": 1_000}
"""REQs of a kind."""
FANS = {100: 200, 1_000: 60}
"""Notes by subscribers."""
CLIENTS = (1, 8, 32)
SWAPS_OF_MEMORY = 100_000
GROWN_SWAPS = (10_000, 1_000_000)
GROWN_LETTERS = (10_000, 100_000)
LARGE = 1_000_000
SDK = {"headers": 100_000, "unwraps": 300, "mailbox": 2_000, "sends": 300, "stamps": 10_000}
QUICK_SDK = {"headers": 10_000, "unwraps": 20, "mailbox": 50, "sends": 10, "stamps": 1_000}


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything once, in small; figures say little")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument(
        "--databases", nargs="+", choices=DATABASES, default=DATABASES, help="for mint and growth; default: both"
    )
    parser.add_argument("--stored", type=int, default=100_000, help="events stored before the measurement")
    parser.add_argument("--events", type=int, default=8_000, help="events of each row")
    parser.add_argument("--large", action="store_true", help=f"growth to {LARGE:,} letters too (some GB, some minutes)")
    parser.add_argument("--profile", action="store_true", help="look where the servers' time goes; figures suffer")
    parser.add_argument("--native", action="store_true", help="with --profile: C functions too")
    parser.add_argument("--json", type=Path, default=CACHE / "result.json", help="where the figures go")
    parser.add_argument("--markdown", type=Path, default=CACHE / "result.md", help="where the tables go")
    chosen = parser.parse_args(arguments)
    chosen.rows, chosen.clients, chosen.swaps = ROWS, CLIENTS, SWAPS_OF_MEMORY
    chosen.grown_swaps, chosen.grown_letters = GROWN_SWAPS, GROWN_LETTERS + (LARGE,) * chosen.large
    chosen.grown_events = chosen.events
    chosen.counts = {"ours": OURS, "nutshell": NUTSHELL}
    chosen.reads, chosen.fans, chosen.sdk = READS, FANS, SDK
    if chosen.quick:
        chosen.stored, chosen.events, chosen.rows, chosen.clients = 0, 2_000, (LOADED,), (8,)
        chosen.swaps, chosen.grown_swaps, chosen.grown_letters, chosen.grown_events = (
            500,
            (100, 1_000),
            (100, 1_000),
            400,
        )
        chosen.sdk = QUICK_SDK
        chosen.counts = {"ours": QUICK, "nutshell": QUICK_NUTSHELL}
        chosen.reads, chosen.fans = {"ours": 100, "nostr-relay": 40}, {20: 10}
    return chosen


class Bench:
    """One run of everything that was asked for."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.report = report.Report(machine=report.machine(), stored=chosen.stored)
        self._ceilings: list[Ceiling] = []
        self._begun = time.monotonic()
        self.failed = False
        """Whether a part broke off."""

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
            "mint": self.mints,
            "memory": self.memory,
            "growth": self.growth,
            "sdk": self.sdk,
        }
        for name in chosen.only:
            try:
                with servers.folder() as home:
                    parts[name](home)
            except (RuntimeError, OSError, SubprocessError) as error:
                # what was measured of it so far is kept, and the other parts are still worth measuring
                self.report.missing[f"the rest of {name}"] = f"{type(error).__name__}: {error}"
                self.failed = True
                self.say(f"{name} failed: {error}")
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
        self.report.signing = signing.measure()

    def ceiling(self) -> Ceiling:
        """The cost of the cryptography now: neighbours on the machine change it from minute to minute."""
        found = ceiling.measure()
        self._ceilings.append(found)
        return found

    def sqlite(self, home: Path) -> None:
        self._office("sqlite", home, None, "")

    def postgresql(self, home: Path) -> None:
        with self._cluster() as cluster:
            if cluster is not None:
                self._office("postgresql", home, cluster, cluster.database())

    @contextmanager
    def _cluster(self) -> Iterator[Postgres | None]:
        programs = postgres.programs()
        if programs is None:
            self.report.missing["postgresql"] = "PostgreSQL is not installed"
            yield None
            return
        with servers.postgresql(programs) as cluster:
            yield cluster

    def _office(self, name: str, home: Path, cluster: Postgres | None, database: str) -> None:
        with servers.office(home / "office", cluster, database) as server:
            box = Mailbox(server, home)
            self.fill(name, box)
            self.mail(name, box)
            self.reads(name, box)
        (home / "prices.toml").write_text(FREE_PRICES)
        free = {"PRICE_FILE": str(home / "prices.toml")} | UNLIMITED
        with servers.office(home / "office", cluster, database, free) as server:
            box = Mailbox(server, home, stamped=False, stored=box.stored)
            part = self._letters[-min(UNSTAMPED_EVENTS, self.chosen.events) :]
            self.report.unstamped[name] = [box.post(part, *UNSTAMPED)]

    def nostr_relay(self, home: Path) -> None:
        program = servers.nostr_relay_program()
        if program is None:
            self.report.missing["nostr-relay"] = "make bench installs it"
            return
        box: Mailbox | None = None
        if self.chosen.stored:
            with servers.nostr_relay(program, home / "nostr-relay", durable=False) as server:
                box = Mailbox(server, home, stamped=False, durable=False)
                self.fill("nostr-relay", box)
        with servers.nostr_relay(program, home / "nostr-relay") as server:
            box = Mailbox(server, home, stamped=False, durable=False, stored=box.stored if box else 0)
            self.mail("nostr-relay", box)
            self.reads("nostr-relay", box)

    def fill(self, name: str, box: Mailbox) -> None:
        """Stores what is to be there before the measurement, through the server like everything else."""
        for start in range(0, self.chosen.stored, FILL):
            filled = box.post(self._letters[start : min(start + FILL, self.chosen.stored)], *LOADED)
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

    def reads(self, name: str, box: Mailbox) -> None:
        """REQs, reads of the feed and fan-out on what is stored now."""
        stored = self._letters[: self.chosen.stored] or self._letters[: self.chosen.events]
        readers = Readers(box.server, box.home, random.sample(stored, min(1_000, len(stored))), box.stored)
        for run in self._reads(name, readers, box):
            self.say(f"{name}: {run.work}: {run.cpu_us:.0f} µs each, {run.rate:,.0f}/s")
            self.report.reads.setdefault(name, []).append(run)

    def _reads(self, name: str, readers: Readers, box: Mailbox) -> Iterator[ReadRun]:
        counts = self.chosen.reads
        count = counts["nostr-relay" if name == "nostr-relay" else "ours"]
        watch = self._watch(box.server, box.home, 3 * count)
        with watch:
            runs = readers.requests(count)
        self._costs(f"{name}: REQs", watch)
        yield from runs
        if box.durable:
            yield readers.feed(counts["ours"])
        for number, notes in self.chosen.fans.items():
            yield readers.fan(number, notes, stamped=box.stamped)

    def _count(self, row: tuple[int, int]) -> int:
        return min(ONE_BY_ONE, self.chosen.events) if row == ROWS[0] else self.chosen.events

    @cached_property
    def _letters(self) -> list[bytes]:
        """Those stored before, those of each row, and those without a stamp."""
        rows = sum(map(self._count, self.chosen.rows))
        grown = len(self.chosen.grown_letters) * self.chosen.grown_events * 5 // 4
        return letters(CACHE, max(self.chosen.stored + rows + UNSTAMPED_EVENTS, grown))

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

    def mints(self, home: Path) -> None:
        """Ours on both databases, then Nutshell's, by the same client."""
        ours, theirs = self.chosen.counts["ours"], self.chosen.counts["nutshell"]
        for name, place, cluster in self._databases(home):
            with servers.office(place, cluster, cluster.database() if cluster else "") as server:
                self._mint(name, server, home, ours)
        python = servers.nutshell_python()
        if python is None:
            self.report.missing["nutshell"] = "make cashu installs it"
            return
        with servers.nutshell(python, home / "nutshell") as server:
            self._mint("nutshell", server, home, theirs)

    def _mint(self, name: str, server: Running, home: Path, counts: Counts) -> None:
        @contextmanager
        def watching(work: str, count: int) -> Iterator[None]:
            watch = self._watch(server, home, count)
            with watch:
                yield
            self._costs(f"{name}: {work}", watch)

        counter = Counter(server, home, counts.part, watching)
        for clients in self.chosen.clients:
            for work, measure in counter.measure(counts, clients):
                try:
                    run = measure()
                except RuntimeError as error:
                    if name != "nutshell":
                        raise
                    # that it fails is a figure, too, and the rest can be measured
                    self.report.missing[f"{name}: {work}, {clients} clients"] = str(error).strip()
                    continue
                self.report.mint.setdefault(name, []).append(run)
                self.say(
                    f"{name}: {run.work}, {run.clients} clients: {run.cpu_us / 1e3:.2f} ms each, {run.rate:,.0f}/s, "
                    f"{run.failed} failed"
                )

    def memory(self, home: Path) -> None:
        """Resident memory at rest and after many swaps; of Nutshell's mint after as many as take about as long."""
        with servers.office(home / "mint") as server:
            found, runs = Counter(server, home, OURS.part).memory(self.chosen.swaps, 32)
        self.report.memory["pennypost"] = found
        rate = fmean(run.rate for run in runs)
        self.say(f"memory after {found.swaps:,} swaps at {rate:,.0f}/s: {found.after_mib:.0f} MiB")
        python = servers.nutshell_python()
        if python is not None:
            with servers.nutshell(python, home / "nutshell") as server:
                found, _ = Counter(server, home, NUTSHELL.part).memory(self.chosen.swaps // 200, 8)
            self.report.memory["nutshell"] = found

    def sdk(self, home: Path) -> None:
        """The client's side: scanning, sending, choosing stamps, importing."""
        found = self.report.sdk = sdk.measure(home, **self.chosen.sdk)
        self.say(f"sdk: {found.scan_us:.1f} µs a header, {found.scan_ratio:.2f} of the pure cryptography")

    def growth(self, home: Path) -> None:
        """What one more swap, and one more letter, costs the more there are; tables are filled set-based."""
        for name, place, cluster in self._databases(home):
            self._growth(name, place, cluster)

    def _databases(self, home: Path) -> Iterator[tuple[str, Path, Postgres | None]]:
        """Name, folder and cluster of each that was asked for."""
        if "sqlite" in self.chosen.databases:
            yield "sqlite", home / "sqlite", None
        if "postgresql" in self.chosen.databases:
            with self._cluster() as cluster:
                if cluster is not None:
                    yield "postgresql", home / "postgresql", cluster

    def _growth(self, name: str, home: Path, cluster: Postgres | None) -> None:
        for what, work in (("swaps", self._grow_swaps), ("letters", self._grow_letters)):
            place = home / what
            database = cluster.database() if cluster else ""
            with servers.office(place, cluster, database):
                pass  # the tables are made, and the keys
            address = database or servers.sqlite_file(place)
            work(name, place, cluster, address)
            if cluster is not None:
                cluster.drop(database)

    def _grow_swaps(self, name: str, place: Path, cluster: Postgres | None, address: str) -> None:
        stored = 0
        for size in self.chosen.grown_swaps:
            filling.fill_spent(address, size - stored)
            with servers.office(place, cluster, address if cluster else "") as server:
                counter = Counter(server, place, OURS.part)
                counter.swap(200, 1, 8)  # what is read for the first time is no cost of a swap
                run = counter.swap(max(200, min(size // 2, 3_000)), 1, 8)
            stored = size + 200 + run.requests
            self.report.swap_growth.setdefault(name, []).append(GrowthRun(size, run.cpu_us, run.rate))
            self.say(f"{name}: a swap at {size:,} spent: {run.cpu_us:.0f} µs")

    def _grow_letters(self, name: str, place: Path, cluster: Postgres | None, address: str) -> None:
        stored = used = 0
        for size in self.chosen.grown_letters:
            filling.fill_letters(address, stored + 1, size - stored)
            with servers.office(place, cluster, address if cluster else "") as server:
                box = Mailbox(server, place, stored=size)
                warm, count = self.chosen.grown_events // 4, self.chosen.grown_events
                box.post(self._letters[used : used + warm], *LOADED)
                limit = self.ceiling()
                run = box.post(self._letters[used + warm : used + warm + count], *LOADED)
            used += warm + count
            stored = box.stored
            grown = GrowthRun(size, run.cpu_us, run.rate, limit.pair_us / run.cpu_us)
            self.report.mail_growth.setdefault(name, []).append(grown)
            self.say(f"{name}: a letter at {size:,} stored: {run.cpu_us:.0f} µs, {grown.ratio:.2f}")


def mean(found: Sequence[Ceiling]) -> Ceiling:
    """The mean of measurements on one core."""
    return Ceiling(
        own_us=fmean(each.own_us for each in found),
        bare_us=fmean(each.bare_us for each in found),
        schnorr_us=fmean(each.schnorr_us for each in found),
        stamp_us=fmean(each.stamp_us for each in found),
    )


def main() -> None:
    """Measures, writes JSON and Markdown, prints the tables; exit code 1 when a part broke off."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for servers with many connections, and for their load
    bench = Bench(options())
    print(report.markdown(bench.run()))
    if bench.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
