"""An encrypted home: nothing of it in clear, nothing lost at any step, no use of it without the passphrase."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pennypost import AsyncClient, Sandbox, database, keyring
from pennypost.cli.exit_codes import exit_code
from pennypost.home import DATABASE, IDENTITY, LINK, RING, SECRETS, SEED, Home
from pennypost.protocol.errors import (
    EncryptionMissing,
    HomeHalfEncrypted,
    HomeInUse,
    HomeLocked,
    HomeUnusable,
    PassphraseUnusable,
    PennypostError,
)
from pennypost.store import Store

pytest.importorskip("sqlcipher3", reason="the extra [encrypted] is not installed")

WORDS, OTHER = "correct horse battery staple", "another twelve letters"
SECRET = "a secret that no file may show"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses that cost little; tests/mint/test_seed.py tries the real cost."""
    monkeypatch.setattr(keyring, "LOG_N", 10)


def note_on(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO offices (url, identity) VALUES ('https://office', ?)", (SECRET,))


def noted_on(connection: sqlite3.Connection) -> list[tuple[str]]:
    return connection.execute("SELECT identity FROM offices").fetchall()


async def filled(path: Path) -> Path:
    """A home with something in each file."""
    home = Home(path)
    for name in SECRETS:
        home.create(name, f"{name}: {SECRET}")
    store = Store(home)
    await store.run(note_on)
    await store.close()
    return path


async def whole(path: Path, passphrase: str | None = None) -> bool:
    """Whether everything of `filled` can be read."""
    home = Home(path, passphrase)
    store = Store(home)
    try:
        rows = await store.run(noted_on)
    finally:
        await store.close()
    return rows == [(SECRET,)] and all(home.read(name) == f"{name}: {SECRET}" for name in SECRETS)


def in_clear(path: Path) -> list[str]:
    """Names of the files that show the secret, or a text of SQLite's own."""
    return [
        file.name
        for file in path.iterdir()
        if SECRET.encode() in (held := file.read_bytes()) or b"CREATE TABLE" in held
    ]


async def test_everything_is_encrypted_and_comes_back(tmp_path: Path) -> None:
    path = await filled(tmp_path / "bob")
    assert set(in_clear(path)) >= {*SECRETS, DATABASE}
    keyring.encrypt(Home(path), WORDS)
    assert in_clear(path) == [] and Home(path).encrypted
    assert {each.name for each in path.iterdir()} == {*SECRETS, DATABASE, RING}
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in path.iterdir())
    assert await whole(path, WORDS)
    assert in_clear(path) == [], "nor after it was used"

    keyring.change_passphrase(Home(path, WORDS), OTHER)
    assert await whole(path, OTHER)
    with pytest.raises(HomeLocked):
        await whole(path, WORDS)

    keyring.decrypt(Home(path, OTHER))
    assert not Home(path).encrypted and await whole(path)
    assert {each.name for each in path.iterdir()} == {*SECRETS, DATABASE}
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in path.iterdir())


async def test_what_is_made_later_is_encrypted_too(office: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.mkdir()
    keyring.encrypt(Home(path), WORDS)
    async with AsyncClient(office, path, passphrase=WORDS) as alice:
        await alice.stamps.buy(3)
        npub = alice.npub
        assert (await alice.send(npub, SECRET)).accepted
    assert in_clear(path) == []
    for name in (IDENTITY, SEED):
        assert keyring.is_sealed_file((path / name).read_text())
    asked: list[int] = []
    async with AsyncClient(office, path, passphrase=lambda: asked.append(1) or WORDS) as alice:
        assert (alice.npub, await alice.stamps.balance()) == (npub, 2)
        assert [mail.text async for mail in alice.inbox()] == [SECRET]
    assert asked == [1], "the passphrase is asked for once"


@pytest.mark.parametrize("given", [None, "", "wrong passphrase", WORDS.upper(), "\ud800" * 12, "x" * 2_000])
async def test_no_use_without_the_passphrase(
    office: Sandbox, tmp_path: Path, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENNYPOST_PASSPHRASE", raising=False)
    path = await filled(tmp_path / "bob")
    keyring.encrypt(Home(path), WORDS)
    async with AsyncClient(office, path, passphrase=lambda: given) as bob:
        for use in (lambda: bob.npub, lambda: bob.identity):
            with pytest.raises((HomeLocked, PassphraseUnusable)) as refused:
                use()
            assert exit_code(refused.value) in (3, 11) and SECRET not in str(refused.value)
        with pytest.raises((HomeLocked, PassphraseUnusable)):
            await bob.stamps.balance()
    for change in (keyring.decrypt, lambda home: keyring.change_passphrase(home, OTHER)):
        with pytest.raises((HomeLocked, PassphraseUnusable)):
            change(Home(path, lambda: given))
    assert await whole(path, WORDS)


async def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await filled(tmp_path / "bob")
    keyring.encrypt(Home(path), WORDS)
    file = tmp_path / "passphrase"
    file.write_text(WORDS + "\n")
    monkeypatch.setenv("PENNYPOST_PASSPHRASE_FILE", str(file))
    assert await whole(path)
    monkeypatch.setenv("PENNYPOST_PASSPHRASE", "of another home")
    with pytest.raises(HomeLocked):
        await whole(path)


async def test_a_home_in_use_is_left_alone(tmp_path: Path) -> None:
    path = await filled(tmp_path / "bob")
    store = Store(Home(path))
    assert await store.run(noted_on)
    with pytest.raises(HomeInUse):
        keyring.encrypt(Home(path), WORDS)
    assert not Home(path).encrypted
    await store.close()
    keyring.encrypt(Home(path), WORDS)
    store = Store(Home(path, WORDS))
    assert await store.run(noted_on)
    for change in (keyring.decrypt, lambda home: keyring.change_passphrase(home, OTHER)):
        with pytest.raises(HomeInUse):
            change(Home(path, WORDS))
    await store.close()
    assert await whole(path, WORDS)


@pytest.mark.parametrize("passphrase", ["", "short", "x" * 1_025, "\udcff" * 20])
async def test_a_passphrase_that_is_none(tmp_path: Path, passphrase: str) -> None:
    path = await filled(tmp_path / "bob")
    with pytest.raises(PassphraseUnusable):
        keyring.encrypt(Home(path), passphrase)
    assert not Home(path).encrypted and await whole(path)


async def test_twice_and_another_passphrase(tmp_path: Path) -> None:
    path = await filled(tmp_path / "bob")
    with pytest.raises(HomeLocked):
        keyring.change_passphrase(Home(path), OTHER)
    keyring.encrypt(Home(path), WORDS)
    keyring.encrypt(Home(path), WORDS)
    with pytest.raises(HomeLocked):
        keyring.encrypt(Home(path), OTHER)
    assert await whole(path, WORDS)
    keyring.decrypt(Home(path, WORDS))
    keyring.decrypt(Home(path))
    assert await whole(path)


@pytest.mark.parametrize("name", [*SECRETS, RING, DATABASE])
async def test_a_damaged_file(tmp_path: Path, name: str) -> None:
    path = await filled(tmp_path / "bob")
    keyring.encrypt(Home(path), WORDS)
    held = bytearray((path / name).read_bytes())
    for place in range(len(held) // 2, len(held), 97):
        held[place] = held[place] ^ 1 if name == DATABASE else ord("0" if held[place] != ord("0") else "1")
    (path / name).write_bytes(held)
    with pytest.raises(HomeUnusable):
        await whole(path, WORDS)


async def test_files_of_another_name_or_home_do_not_open(tmp_path: Path) -> None:
    one, two = await filled(tmp_path / "one"), await filled(tmp_path / "two")
    for path in (one, two):
        keyring.encrypt(Home(path), WORDS)
    (one / IDENTITY).write_bytes((one / LINK).read_bytes())
    (one / SEED).write_bytes((two / SEED).read_bytes())
    for name in (IDENTITY, SEED):
        with pytest.raises(HomeUnusable):
            Home(one, WORDS).read(name)
    (two / RING).unlink()
    with pytest.raises(HomeUnusable):
        Home(two, WORDS).read(SEED)


async def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await filled(tmp_path / "bob")

    def absent() -> None:
        raise EncryptionMissing

    monkeypatch.setattr(database, "require", absent)
    with pytest.raises(EncryptionMissing) as refused:
        keyring.encrypt(Home(path), WORDS)
    assert exit_code(refused.value) == 10
    assert not Home(path).encrypted and await whole(path)


MORTAL = """
import os, signal, sys
from pathlib import Path
from pennypost import keyring
from pennypost.home import Home

keyring.LOG_N = 10
kind, homes = sys.argv[1], [Path(each) for each in sys.argv[2:]]
steps = 0

def deadly(name, last):
    function = getattr(os, name)
    def step(*arguments, **options):
        global steps
        for when in ("before", "after"):
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
            if when == "before":
                result = function(*arguments, **options)
        return result
    setattr(os, name, step)

words, other = "correct horse battery staple", "another twelve letters"
for home in homes:
    child = os.fork()
    if child == 0:
        for name in ("open", "fsync", "replace", "unlink"):
            deadly(name, int(home.name))
        if kind == "encrypt":
            keyring.encrypt(Home(home), words)
        elif kind == "decrypt":
            keyring.decrypt(Home(home, words))
        else:
            keyring.change_passphrase(Home(home, words), other)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Works on homes, each named by the number of the step at which its process is killed."""


@pytest.mark.parametrize(("kind", "steps"), [("encrypt", range(2, 120, 13)), ("decrypt", range(2, 120, 13)),
                                             ("passwd", range(1, 40, 3))])  # fmt: skip
async def test_killed_at_any_step_nothing_is_lost(tmp_path: Path, kind: str, steps: range) -> None:
    """kill -9 before and after every call that changes a file: the home opens, and the next run finishes the work."""
    first = await filled(tmp_path / "first")
    if kind != "encrypt":
        keyring.encrypt(Home(first), WORDS)
    homes = [Path(shutil.copytree(first, tmp_path / str(step))) for step in steps]
    done = subprocess.run(
        [sys.executable, "-c", MORTAL, kind, *map(str, homes)], capture_output=True, text=True, check=True
    )
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) == len(homes) and set(codes) == {0, -signal.SIGKILL}, done.stderr
    for path, code in zip(homes, codes, strict=True):
        if kind == "passwd":
            opened = [await opens(path, words) for words in (WORDS, OTHER)]
            assert opened == [False, True] if code == 0 else sorted(opened) == [False, True]
        elif code:
            # In the middle it is used by nobody, and neither with all in clear behind a key ring.
            if Home(path).left_in_clear():
                with pytest.raises(HomeHalfEncrypted):
                    await whole(path, WORDS)
            else:
                assert await whole(path, WORDS)
            keyring.encrypt(Home(path), WORDS) if kind == "encrypt" else keyring.decrypt(Home(path, WORDS))
            assert {each.name for each in path.iterdir()} - {RING} == {*SECRETS, DATABASE}
            assert await whole(path, WORDS)
            assert not in_clear(path) or kind == "decrypt"


async def test_a_draft_in_clear_goes_when_the_home_is_next_opened(tmp_path: Path) -> None:
    """What a killed `keys decrypt` has left, of a home that stays encrypted: nobody runs the command again."""
    path = await filled(tmp_path / "bob")
    clear = (path / DATABASE).read_bytes()
    keyring.encrypt(Home(path), WORDS)
    drafts = [Home(path).draft(name) for name in (DATABASE, SEED)]
    drafts.append(drafts[0].with_name(drafts[0].name + "-journal"))
    others = [path / ".pennypost.db.backup", path / ".identity.0123456789abcdeg"]
    for each in (*drafts, *others):
        each.write_bytes(clear)
    with_it = Store(Home(path, WORDS))
    descriptor = Home(path).hold()
    assert await with_it.run(noted_on)
    assert all(each.exists() for each in drafts), "another program may be writing them"
    await with_it.close()
    os.close(descriptor)
    assert await whole(path, WORDS)
    assert not any(each.exists() for each in drafts) and all(each.exists() for each in others)


@pytest.mark.parametrize("name", [*SECRETS, DATABASE])
async def test_a_file_in_clear_in_an_encrypted_home_is_not_used(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `keys encrypt` was interrupted, or because somebody put it there: neither read nor written to."""
    from pennypost.cli import main

    path = await filled(tmp_path / "bob")
    clear = (path / name).read_bytes()
    keyring.encrypt(Home(path), WORDS)
    assert Home(path).left_in_clear() == []
    (path / name).write_bytes(clear)
    assert Home(path).left_in_clear() == [name]
    with pytest.raises(HomeHalfEncrypted) as refused:
        await whole(path, WORDS)
    assert exit_code(refused.value) == 11 and (path / name).read_bytes() == clear
    if name == DATABASE:
        monkeypatch.setenv("PENNYPOST_PASSPHRASE", WORDS)
        monkeypatch.setattr(sys, "argv", ["pennypost", "doctor", "http://127.0.0.1:1", "--home", str(path), "--json"])
        monkeypatch.delenv("PENNYPOST_WALLET_FILE", raising=False)
        (path / LINK).unlink()
        with pytest.raises(SystemExit):
            await asyncio.to_thread(main)
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert ("home", "home-half-encrypted") in {(each["point"], each["code"]) for each in said}
        Home(path, WORDS).create(LINK, f"{LINK}: {SECRET}")
    keyring.encrypt(Home(path), WORDS)
    assert in_clear(path) == [] and await whole(path, WORDS)


async def opens(path: Path, passphrase: str) -> bool:
    try:
        return await whole(path, passphrase)
    except PennypostError:
        return False


def test_a_link_in_the_home(tmp_path: Path) -> None:
    from pennypost.lightning import keep_link, read_link
    from pennypost.protocol.errors import InvalidWalletLink, KeyExists

    home, link = Home(tmp_path / "bob"), f"play:{tmp_path}/book?bob"
    for bad in ("", "http://x", "nostr+walletconnect://x", "play:é?a", "play:a?b\nc"):
        with pytest.raises(InvalidWalletLink):
            keep_link(home, bad)
    keep_link(home, f" {link}\n")
    assert read_link(None, home) == link
    assert read_link("play:book?given", home) == "play:book?given"
    with pytest.raises(KeyExists):
        keep_link(home, link)
    assert home.remove(LINK) and not home.remove(LINK) and read_link(None, home) is None
    assert os.listdir(tmp_path / "bob") == []
