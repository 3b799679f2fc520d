"""`make bench` in its quick form: it runs, and says what it should. How fast things are is not asserted."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, text

from pennypost.protocol.headers import decode_headers
from pennypost_postoffice.feed import head_on, headers_on
from tests.bench.costs import CHARGED
from tests.bench.filling import fill_letters, fill_spent
from tests.bench.letters import letters
from tests.bench.load import ID, OK, websocket_frame
from tests.bench.mint import QUICK
from tests.bench.profile import table
from tests.bench.report import Report, markdown
from tests.mint.desk import open_desk, settings_for
from tests.support.server import clean_environment

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_run_has_every_figure(tmp_path: Path) -> None:
    figures, tables = tmp_path / "result.json", tmp_path / "result.md"
    parts = ["ceiling", "sqlite", "mint", "sdk"]
    command = [sys.executable, "-m", "tests.bench", "--quick", "--databases", "sqlite", "--only", *parts]
    done = subprocess.run(
        [*command, "--json", figures, "--markdown", tables],
        cwd=PROJECT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]

    report = msgspec.json.decode(figures.read_bytes(), type=Report)
    assert tables.read_text() == markdown(report)
    assert report.sdk is not None and min(msgspec.structs.astuple(report.sdk)) > 0
    assert report.one_core is not None and report.all_cores is not None
    for limit in (report.one_core, report.all_cores):
        assert min(limit.own_us, limit.bare_us, limit.schnorr_us, limit.stamp_us, limit.cores) > 0
    assert report.signing is not None and min(msgspec.structs.astuple(report.signing)) > 0
    (run,) = report.mail["sqlite"]
    assert (run.connections, run.events, run.stored_before) == (8, 2_000, 0)
    assert min(run.cpu_us, run.rate, run.ok_rate, run.p50_ms, run.p99_ms, run.client_us, run.ratio) > 0
    assert run.rate <= run.ok_rate
    assert [run.work for run in report.reads["sqlite"]] == [
        "REQ by author",
        "REQ by #p",
        "REQ by id",
        "1,000 headers",
        "fan-out to 20",
    ]
    assert [run.work for run in report.mint["sqlite"]] == QUICK.works
    for run in (*report.reads["sqlite"], *report.unstamped["sqlite"], *report.mint["sqlite"]):
        assert min(run.cpu_us, run.rate, run.p50_ms, run.p99_ms) > 0
    assert not any(run.failed for run in report.mint["sqlite"])
    assert report.goals


async def test_filled_tables_are_as_the_server_leaves_them(tmp_path: Path, database_url: str) -> None:
    place = database_url or str(tmp_path / "pennypost.sqlite")
    async with open_desk(settings_for(tmp_path, database_url)) as desk:
        database = desk.database
        await asyncio.to_thread(fill_spent, place, 250)
        await asyncio.to_thread(fill_letters, place, 1, 300)
        await asyncio.to_thread(fill_letters, place, 301, 50)
        counts = {name: await database.read(_count, name) for name in ("spent", "outputs", "events", "tags", "feed")}
        assert counts == {"spent": 600, "outputs": 250, "events": 350, "tags": 350, "feed": 350}
        assert await database.read(head_on) == 350
        _, headers = decode_headers(await database.read(headers_on, 340, 100, int(time.time())))
        assert [header.seq for header in headers] == list(range(341, 351))


def _count(connection: Connection, table: str) -> int:
    return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_letters_are_kept_and_lengthened(tmp_path: Path) -> None:
    first = letters(tmp_path, 3)
    assert letters(tmp_path, 5)[:3] == first
    assert letters(tmp_path, 2) == first[:2]
    assert len({match[1] for event in letters(tmp_path, 5) if (match := ID.search(event))}) == 5


@pytest.mark.parametrize(
    ("length", "head"),
    [(5, "8185"), (125, "81fd"), (126, "81fe007e"), (65_535, "81feffff"), (65_536, "81ff0000000000010000")],
)
def test_frames_are_masked_with_zeros(length: int, head: str) -> None:
    text = b"x" * length
    assert websocket_frame(text) == bytes.fromhex(head) + bytes(4) + text


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (b'["OK","' + b"a" * 64 + b'",true,"accepted: until 5"]', (b"true", b"accepted: until 5")),
        (b'["OK", "' + b"a" * 64 + b'", false, "blocked: \\"x\\" [code]"]', (b"false", b'blocked: \\"x\\" [code]')),
    ],
)
def test_answers_are_recognised(frame: bytes, found: tuple[bytes, bytes]) -> None:
    match = OK.fullmatch(frame)
    assert match is not None and (match[2], match[3]) == found


def test_profile_scales_samples_to_cpu_time() -> None:
    raw = (
        "main (a/app.py:1);work (a/b/job.py:7) 30\n"
        "main (a/app.py:1) 10\n"
        'process 8:"python -c import x; serve(5)";check (a/c.py:2) 5\n'
    )
    shown = table(raw, {7: 0.004, 8: 0.001}, 7, 100)
    assert [line.split() for line in shown.splitlines()] == [
        ["process", "7", ":", "40.0", "µs"],
        ["own", "30.0", "µs", "b/job.py:work"],
        ["own", "10.0", "µs", "a/app.py:main"],
        ["all", "40.0", "µs", "a/app.py:main"],
        ["all", "30.0", "µs", "b/job.py:work"],
        ["process", "8", "python", "-c", "import", "x;", "serve(5):", "10.0", "µs"],
        ["own", "10.0", "µs", "a/c.py:check"],
        ["all", "10.0", "µs", "a/c.py:check"],
    ]


def test_the_page_says_what_is_charged() -> None:
    """For all work that no stamp pays, and within twice and half of what it was measured to cost."""
    page = (PROJECT / "docs" / "reference" / "performance.md").read_text()
    rows = re.findall(r"^\| (.+?) \| ([\d,–]+) \| ([\d,]+) \| ([\d,]+) \| `([\w., ]+)` \|$", page, re.MULTILINE)
    told = {work: (constant, int(charged.replace(",", ""))) for work, _, _, charged, constant in rows}
    assert told == {work: (charge.constant, charge.value) for work, charge in CHARGED.items()}
    for work, first, second, *_ in rows:
        measured = [int(each.replace(",", "")) for each in (first, second) if each != "–"]
        mean = sum(measured) / len(measured)
        assert mean / 2 <= CHARGED[work].value <= 2 * mean, work
