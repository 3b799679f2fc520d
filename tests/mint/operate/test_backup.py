"""Backups: one format for both databases, whole or refused, restored into nothing but an empty database."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from pennypost.protocol.errors import (
    BackupTooOld,
    BackupUnusable,
    DatabaseInUse,
    FileUnusable,
    SeedLocked,
    SeedMismatch,
)
from pennypost_migrations import upgrade
from pennypost_mint import seed as seeds
from pennypost_mint.api import LastUse, pay_play_invoice
from pennypost_mint.last_use import last_use
from pennypost_mint.operate import backup as backups
from pennypost_mint.operate import backup_file, rotation
from pennypost_mint.operate.backup import TABLES, backup, restore, verify
from pennypost_mint.operate.books import books_on
from pennypost_mint.operate.opening import snapshot
from pennypost_mint.operate.promotions import issue
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.seed import read_seed, seal, write_seed
from tests.conftest import DATABASES
from tests.mint.desk import MINT, SWAP, Body, Desk, open_desk, settings_for
from tests.support.stamps import output

WORDS = "correct horse battery staple"


def quiet(_done: int, _total: int) -> None:
    return None


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "LOG_N", 10)


@pytest.fixture(params=DATABASES)
def other_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where to restore: an empty database of each kind."""
    if request.param == "sqlite":
        yield ""
        return
    cluster = request.getfixturevalue("postgres_cluster")
    address = cluster.database()
    yield address
    cluster.drop(address)


@asynccontextmanager
async def empty(settings: Settings) -> AsyncIterator[Database]:
    await upgrade(database_url(settings.database_url, settings.data_dir))
    database = open_database(settings.database_url, settings.data_dir)
    try:
        yield database
    finally:
        await database.close()


def all_rows(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
        for name, table in TABLES.items()
    }


async def business(desk: Desk) -> list[Body]:
    """Something in every table: purchases in every state, swaps, two keysets, a promotion. Unspent proofs."""
    proofs = await desk.buy(8, 4, 2)
    await desk.quote(1_000)
    await desk.paid_quote(7)
    made = [output(4), output(4)]
    answer = await desk.done(SWAP, {"inputs": proofs[:1], "outputs": desk.messages(made)})
    await rotation.rotate(desk.database, desk.settings, None)
    await issue(desk.database, desk.settings, 100, "meetup")
    await rotation.sunset(desk.database, resume=False)
    return proofs[1:] + desk.proofs(made, answer["signatures"])


async def test_there_and_back(desk: Desk, tmp_path: Path, other_url: str) -> None:
    """From each kind of database into each: the same rows, and the mint goes on with them."""
    unspent = await business(desk)
    file = tmp_path / "mint.backup"
    head = await backup(desk.database, desk.settings, file, quiet)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.part"))
    contents = verify(file, quiet)
    before = await snapshot(desk.database, books_on)
    assert (contents.head, contents.outstanding) == (head, before.outstanding)
    assert len(contents.keysets) == 2
    rows = await desk.database.read(all_rows)

    settings = settings_for(tmp_path / "other", other_url, mint_seed_file=desk.settings.seed_file)
    async with empty(settings) as database:
        await restore(database, settings, file, quiet, accept_double_spending=False)
        assert await database.read(all_rows) == rows
        assert await snapshot(database, books_on) == before
    async with open_desk(settings) as restored:
        assert restored.keyring.sunset is not None
        total = sum(proof["amount"] for proof in unspent)
        await restored.done(
            SWAP, {"inputs": unspent, "outputs": [output(n).message(restored.keyset) for n in (8, 4, 2)]}
        )
        assert total == 14
        token, fresh = await issue(restored.database, settings, 100, "meetup")
        assert not fresh and token


async def test_it_is_of_one_moment_while_the_mint_sells(desk: Desk, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.backup" for number in range(4)]

    async def sell() -> None:
        for _ in range(12):
            await desk.done(SWAP, {"inputs": await desk.buy(4), "outputs": [output(4).message(desk.keyset)]})

    async def save() -> None:
        for file in files:
            await backup(desk.database, desk.settings, file, quiet)

    await asyncio.gather(sell(), sell(), save())
    for number, file in enumerate(files):
        settings = settings_for(tmp_path / f"restored-{number}", mint_seed_file=desk.settings.seed_file)
        async with empty(settings) as database:
            await restore(database, settings, file, quiet, accept_double_spending=False)
            found = await snapshot(database, books_on)
            assert found.faults == [] and found.sold == found.outstanding


@pytest.fixture
async def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A backup of several frames for each table."""
    monkeypatch.setattr(backups, "ROWS", 2)
    settings = settings_for(tmp_path / "sample")
    async with open_desk(settings) as desk:
        await business(desk)
        file = tmp_path / "sample.backup"
        await backup(desk.database, settings, file, quiet)
        yield file


async def test_every_flipped_bit_and_every_cut_is_found(sample: Path) -> None:
    data = sample.read_bytes()
    assert len(data) > 4_000
    harmed = sample.with_name("damaged")
    for place in range(0, len(data), 13):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        harmed.write_bytes(changed)
        with pytest.raises(BackupUnusable):
            verify(harmed, quiet)
    for length in range(0, len(data), 53):
        harmed.write_bytes(data[:length])
        with pytest.raises(BackupUnusable):
            verify(harmed, quiet)
    for more in (b"\0", data):
        harmed.write_bytes(data + more)
        with pytest.raises(BackupUnusable):
            verify(harmed, quiet)


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupUnusable):
        verify(tmp_path / "absent", quiet)
    with pytest.raises(BackupUnusable):
        verify(tmp_path, quiet)
    with pytest.raises(BackupUnusable):
        verify(Path("/dev/zero"), quiet)
    for start in (b"", backup_file.MAGIC, backup_file.MAGIC + b"\xff" * 100, backup_file.MAGIC + b"\0\0\0\1\xc1"):
        (tmp_path / "x").write_bytes(start)
        with pytest.raises(BackupUnusable):
            verify(tmp_path / "x", quiet)


def rewrite(file: Path, change: Callable[[backup_file.Head, list[tuple[str, list[list[object]]]]], None]) -> Path:
    """The backup with other contents and a right checksum."""
    with file.open("rb") as source:
        reader = backup_file.Reader(source)
        parts = [(name, [list(row) for row in rows]) for name, rows in reader.rows()]
    change(reader.head, parts)
    made = file.with_name("rewritten")
    with made.open("wb") as target:
        writer = backup_file.Writer(target, reader.head)
        for name, rows in parts:
            writer.rows(name, rows)
        writer.end()
    return made


def twice(_head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    [first, *_] = [rows for name, rows in parts if name == "spent"]
    first.append(first[-1])


def unknown_keyset(_head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    for name, rows in parts:
        if name == "outputs":
            rows[0][1] = 99


def text_for_a_number(_head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    for name, rows in parts:
        if name == "outputs":
            rows[0][2] = "1"


def a_number_for_a_flag(_head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    for name, rows in parts:
        if name == "keysets":
            rows[0][3] = 1


def a_missing_row(_head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    parts.pop()


def another_mint(head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    for name, rows in parts:
        if name == "keysets":
            rows[0][1] = "01" + "ab" * 32


def a_newer_table(head: backup_file.Head, _parts: list[tuple[str, list[list[object]]]]) -> None:
    head.tables["unheard_of"] = backup_file.Rows(["x"], 0)


def a_newer_column(head: backup_file.Head, _parts: list[tuple[str, list[list[object]]]]) -> None:
    head.tables["spent"].columns.append("unheard_of")


def without_the_spent(head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
    del head.tables["spent"]
    parts[:] = [part for part in parts if part[0] != "spent"]


@pytest.mark.parametrize(
    "change",
    [
        twice,
        unknown_keyset,
        text_for_a_number,
        a_number_for_a_flag,
        a_missing_row,
        another_mint,
        a_newer_table,
        a_newer_column,
        without_the_spent,
    ],
)
async def test_contents_that_make_no_sense_are_refused(
    sample: Path, change: Callable[[backup_file.Head, list[tuple[str, list[list[object]]]]], None]
) -> None:
    verify(rewrite(sample, lambda _head, _parts: None), quiet)
    with pytest.raises(BackupUnusable):
        verify(rewrite(sample, change), quiet)


async def test_an_older_backup_may_lack_what_can_be_empty(sample: Path, tmp_path: Path) -> None:
    def without_expiry(head: backup_file.Head, parts: list[tuple[str, list[list[object]]]]) -> None:
        place = head.tables["keysets"].columns.index("final_expiry")
        del head.tables["keysets"].columns[place]
        for name, rows in parts:
            if name == "keysets":
                for row in rows:
                    del row[place]

    settings = settings_for(tmp_path / "new", mint_seed_file=tmp_path / "sample" / "mint.seed")
    file = rewrite(sample, without_expiry)
    async with empty(settings) as database:
        await restore(database, settings, file, quiet, accept_double_spending=False)
    async with open_desk(settings) as desk:
        assert [keyset.final_expiry for keyset in desk.keyring.keysets] == [None, None]


async def test_only_into_an_empty_database(desk: Desk, tmp_path: Path) -> None:
    """A server that was ever started has made a keyset: its database is not touched, also by a restore at once."""
    file = tmp_path / "mint.backup"
    await desk.buy(4)
    await backup(desk.database, desk.settings, file, quiet)
    rows = await desk.database.read(all_rows)
    with pytest.raises(DatabaseInUse):
        await restore(desk.database, desk.settings, file, quiet, accept_double_spending=True)
    assert await desk.database.read(all_rows) == rows


async def test_two_restores_at_once_are_one(desk: Desk, tmp_path: Path, other_url: str) -> None:
    file = tmp_path / "mint.backup"
    await business(desk)
    await backup(desk.database, desk.settings, file, quiet)
    settings = settings_for(tmp_path / "other", other_url, mint_seed_file=desk.settings.seed_file)
    async with empty(settings) as database:
        outcomes = await asyncio.gather(
            *(restore(database, settings, file, quiet, accept_double_spending=False) for _ in range(3)),
            return_exceptions=True,
        )
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["Contents", "DatabaseInUse", "DatabaseInUse"]
        assert await database.read(all_rows) == await desk.database.read(all_rows)


async def test_a_restore_that_breaks_off_leaves_nothing(
    desk: Desk, tmp_path: Path, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mint.backup"
    await business(desk)
    monkeypatch.setattr(backups, "ROWS", 1)
    await backup(desk.database, desk.settings, file, quiet)
    settings = settings_for(tmp_path / "other", other_url, mint_seed_file=desk.settings.seed_file)
    rows = sum(table.rows for table in verify(file, quiet).head.tables.values())
    calls = 0

    class Broken(Exception):
        pass

    def breaks(done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > rows + rows // 2:
            raise Broken

    async with empty(settings) as database:
        with pytest.raises(Broken):
            await restore(database, settings, file, breaks, accept_double_spending=False)
        assert calls == rows + rows // 2 + 1
        assert not any((await database.read(all_rows)).values())
        await restore(database, settings, file, quiet, accept_double_spending=False)


async def test_a_backup_older_than_the_last_stamp_is_refused(desk: Desk, tmp_path: Path) -> None:
    """The data folder knows when a stamp was last taken; told so, the backup is restored nevertheless."""
    file, late = tmp_path / "mint.backup", tmp_path / "late.backup"
    settings = desk.settings
    proofs = await desk.buy(4)
    await backup(desk.database, settings, file, quiet)
    desk.mint._used = (use := LastUse(settings.data_dir, desk.keyring.keysets[0].id)).note
    await desk.done(SWAP, {"inputs": proofs, "outputs": [output(4).message(desk.keyset)]})
    use._write()
    await backup(desk.database, settings, late, quiet)

    for name, chosen, accept, refused in (
        ("a", file, False, True),
        ("b", late, False, False),
        ("c", file, True, False),
    ):
        target = settings_for(tmp_path / name, mint_seed_file=settings.seed_file)
        target.data_dir.mkdir()
        (target.data_dir / "mint.last-use").write_bytes((settings.data_dir / "mint.last-use").read_bytes())
        async with empty(target) as database:
            if refused:
                with pytest.raises(BackupTooOld):
                    await restore(database, target, chosen, quiet, accept_double_spending=accept)
                assert not any((await database.read(all_rows)).values())
                continue
            await restore(database, target, chosen, quiet, accept_double_spending=accept)
        async with open_desk(target) as restored:
            # What it means: the stamp spent after the first backup is unspent again.
            assert await restored.states(proofs) == ["UNSPENT" if accept else "SPENT"]


async def test_a_purchase_counts_as_use(desk: Desk) -> None:
    folder, mint = desk.settings.data_dir, desk.keyring.keysets[0].id
    use = LastUse(folder, mint)
    desk.mint._used = use.note
    quote = await desk.quote(1)
    use._write()
    assert last_use(folder, mint) is None
    await pay_play_invoice(desk.database, quote["request"])
    await desk.mint.till.reconcile()
    await desk.done(MINT, {"quote": quote["quote"], "outputs": [output(1).message(desk.keyset)]})
    use._write()
    first = last_use(folder, mint)
    assert first is not None
    assert last_use(folder, "01" + "00" * 32) is None, "another mint's note says nothing of this one"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mint": 1}', "\xff", '{"mint": "x", "at": "y"}'])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "mint.last-use").write_bytes(text.encode("latin-1"))
    assert last_use(tmp_path, "x") is None


async def test_the_note_is_written_at_the_end_and_never_goes_back(tmp_path: Path) -> None:
    early, late = LastUse(tmp_path, "m"), LastUse(tmp_path, "m")
    early.note()
    await asyncio.sleep(0)
    late.note()
    for use in (late, early):
        task = asyncio.create_task(use.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    noted = last_use(tmp_path, "m")
    early.note()
    assert noted is not None and early._at is not None and noted <= early._at
    assert os.listdir(tmp_path) == ["mint.last-use"]


async def test_the_seed_goes_with_it_only_encrypted(desk: Desk, tmp_path: Path) -> None:
    settings, path = desk.settings, desk.settings.seed_file
    plain = path.read_text().strip()
    in_clear, sealed = tmp_path / "clear.backup", tmp_path / "sealed.backup"
    assert (await backup(desk.database, settings, in_clear, quiet)).seed is None
    write_seed(path, seal(bytes.fromhex(plain), WORDS))
    assert (await backup(desk.database, settings, sealed, quiet)).seed == path.read_text().strip()
    keys = [key for keyset in desk.keyring.secrets().values() for key in keyset.values()]
    for file in (in_clear, sealed):
        data = file.read_bytes()
        for secret in (bytes.fromhex(plain), *keys):
            assert secret not in data and secret.hex().encode() not in data

    def target(name: str, **more: str) -> Settings:
        return settings_for(tmp_path / name, **more)

    async def restored(into: Settings, file: Path) -> None:
        async with empty(into) as database:
            try:
                await restore(database, into, file, quiet, accept_double_spending=False)
            except (SeedLocked, SeedMismatch):
                assert not any((await database.read(all_rows)).values())
                raise

    with pytest.raises(SeedMismatch):
        await restored(target("no seed"), in_clear)
    for words in ({}, {"mint_seed_passphrase": "another passphrase"}):
        with pytest.raises(SeedLocked):
            await restored(target("locked", **words), sealed)
        assert not (tmp_path / "locked" / "mint.seed").exists()
    into = target("unlocked", mint_seed_passphrase=WORDS)
    await restored(into, sealed)
    assert read_seed(into.seed_file, WORDS) == bytes.fromhex(plain)
    assert stat.S_IMODE(into.seed_file.stat().st_mode) == 0o600
    other = target("other seed")
    other.data_dir.mkdir()
    other.seed_file.write_text(bytes(range(32)).hex())
    with pytest.raises(SeedMismatch):
        await restored(other, sealed)


async def test_a_file_is_never_overwritten(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "mint.backup"
    file.write_text("precious")
    with pytest.raises(FileUnusable):
        await backup(desk.database, desk.settings, file, quiet)
    assert file.read_text() == "precious"
    with pytest.raises(FileUnusable):
        await backup(desk.database, desk.settings, tmp_path / "absent" / "x", quiet)


async def test_progress_counts_all_rows(sample: Path) -> None:
    seen: list[tuple[int, int]] = []
    contents = verify(sample, lambda done, total: seen.append((done, total)))
    total = sum(table.rows for table in contents.head.tables.values())
    assert seen[-1] == (total, total) and len(seen) > 5
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
