"""`pennypost office …` on both databases, beside a running office and without one."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from pennypost.cli import main
from pennypost.protocol.event import Event, event_json
from pennypost_migrations import upgrade
from pennypost_mint.runtime.database import database_url
from pennypost_postoffice import tallies
from pennypost_postoffice.operate import mailbag
from pennypost_postoffice.tables import events
from tests.postoffice.house import Author, House, Purse, open_house, wrap
from tests.support.relay import plain

Office = Callable[..., Any]

sqlite_only = pytest.mark.parametrize("address", ["sqlite"], indirect=True)
"""For what does not depend on the database."""


@pytest.fixture
def office(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    """Runs one command with `--json`: what it prints; `code` is the exit code that is due."""
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PENNYPOST_DATABASE_URL", address)

    def run(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["pennypost", "office", *arguments, "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, talk = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + talk
        return json.loads(out)

    return run


@pytest.fixture
def stored(tmp_path: Path, address: str) -> Callable[..., list[Event]]:
    """Has an office store these events, and ends it."""

    def store(*wanted: Event) -> list[Event]:
        async def run(house: House) -> None:
            async with house.relay() as relay:
                await house.pay(relay, wanted)

        _in_house(tmp_path, address, run)
        return list(wanted)

    return store


def _in_house(folder: Path, address: str, work: Callable[[House], Coroutine[Any, Any, Any]]) -> Any:
    async def session() -> Any:
        async with open_house(folder, address) as house:
            return await work(house)

    return asyncio.run(session())


def _bodies(connection: Connection) -> set[bytes]:
    return set(connection.execute(select(events.c.body)).scalars())


async def _all(house: House) -> set[bytes]:
    return await house.office.database.read(_bodies)


# --- nothing there


@sqlite_only
@pytest.mark.parametrize("arguments", [("info",), ("report",), ("bans",), ("delete", "--kind", "1"), ("reload",)])
def test_without_an_office(office: Office, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert office(*arguments, code=10)["error"] == "no-office"
    assert not (tmp_path / "pennypost.sqlite").exists()


@sqlite_only
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("ban", "pubkey", "npub1x"), 3),
        (("ban", "event", "5"), 3),
        (("ban", "kind", "65536"), 3),
        (("ban", "kind", "1-2"), 3),
        (("ban", "ip", "127.0.0.1"), 2),
        (("delete",), 3),
        (("delete", "--kind", "2-1"), 3),
        (("delete", "--since", "yesterday"), 3),
        (("import", "/nowhere.jsonl"), 3),
        (("report", "--days", "0"), 2),
    ],
)
def test_what_makes_no_sense(
    office: Office, stored: Callable[..., list[Event]], arguments: tuple[str, ...], code: int
) -> None:
    if code == 2:
        with pytest.raises(json.JSONDecodeError):
            office(*arguments, code=2)
        return
    stored()
    office(*arguments, code=code)


# --- books


def test_info_and_report(office: Office, tmp_path: Path, address: str) -> None:
    note, letter = Author().sign(1), wrap()

    async def run(house: House) -> None:
        async with house.relay() as relay:
            await house.pay(relay, [note, letter])
            assert (await relay.post(note)).duplicate
            for _ in range(2):
                assert (await relay.post(Author().sign(1))).code == "stamp-required"
            dear = house.purse.proof(amount=4)
            assert (await relay.post(Author().sign(7), house.purse.token(dear))).accepted

    _in_house(tmp_path, address, run)
    found = office("info")
    assert (found["events"], found["kinds"]) == (3, {"1": 1, "7": 1, "1059": 1})
    assert (found["held"], found["bans"], found["feed"], found["expired"]) == (0, 0, 3, 0)
    days = office("report")["days"]
    assert len(days) in (1, 2)  # around midnight
    total: dict[str, int] = {}
    for day in days:
        for kind, sums in day["kinds"].items():
            total[kind] = total.get(kind, 0) + sums["events"] * 100 + sums["sat"]
        for code, count in day["refused"].items():
            total[code] = total.get(code, 0) + count
    assert total == {"1": 101, "7": 104, "1059": 101, "stamp-required": 2}


def test_sums_add_up_over_processes_and_are_forgotten(tmp_path: Path, address: str) -> None:
    async def run(house: House) -> list[Any]:
        database = house.office.database
        today = int(time.time()) // 86_400
        await database.write(tallies.add_on, {(today - tallies.KEPT - 1, "stored", "1"): (5, 5)})
        for _ in range(2):
            await database.write(tallies.add_on, {(today, "stored", "1"): (2, 3), (today, "refused", "kind"): (1, 0)})
        return await database.read(tallies.tallies_on, 0, today)

    found = _in_house(tmp_path, address, run)
    assert [tuple(each[1:]) for each in found] == [("stored", "1", 4, 6), ("refused", "kind", 2, 0)]


@sqlite_only
def test_prices(office: Office, tmp_path: Path) -> None:
    assert office("prices", "--kind", "10002")["example"]["sat"] == 0
    file = tmp_path / "prices.toml"
    file.write_text("[[rule]]\nkinds = [1]\nbase = 2\nper_kib = 3\nper_day = 1\n")
    example = office("prices", str(file), "--kind", "1", "--size", "3000", "--keep", "10")["example"]
    assert (example["sat"], example["days"]) == (2 + 2 * 3 + 10, 10)
    assert office("prices", str(file), "--kind", "7")["example"]["code"] == "kind"
    file.write_text("[[rule]]\nbase = -2\n")
    assert office("prices", str(file), code=10)["error"] == "configuration"


def test_prices_are_set_for_every_process_and_given_back(
    office: Office, tmp_path: Path, stored: Callable[..., list[Event]]
) -> None:
    assert stored() == []
    before = office("prices")
    file = tmp_path / "prices.toml"
    file.write_text("[[rule]]\nbase = 41\n")
    assert (before["set"], office("prices", str(file))["set"]) == (False, False), "a file alone changes nothing"
    assert office("prices")["rules"] == before["rules"]
    assert office("prices", str(file), "--set")["set"] is True
    assert (office("prices")["set"], office("prices")["example"]["sat"]) == (True, 41)
    file.write_text("[[rule]]\nbase = -2\n")
    assert office("prices", str(file), "--set", code=3)["error"] == "invalid-input"
    assert office("prices", "--set", code=3)["error"] == "invalid-input"
    assert office("prices", str(file), "--unset", code=3)["error"] == "invalid-input"
    assert office("prices")["example"]["sat"] == 41
    found = office("prices", "--unset")
    assert (found["set"], found["rules"]) == (False, before["rules"])


@sqlite_only
def test_a_link_signs_in_once_and_all_can_be_signed_out(office: Office, stored: Callable[..., list[Event]]) -> None:
    assert stored() == []
    made = office("login")
    assert "/operator/login?link=" in made["url"] and made["until"] > time.time()
    office("login")
    assert office("login", "--end-all")["ended"] == 2
    assert office("login", "--end-all")["ended"] == 0


# --- bans and deletion


def test_bans_are_listed_and_taken_away(office: Office, stored: Callable[..., list[Event]]) -> None:
    (event,) = stored(Author().sign(1))
    author = Author()
    office("ban", "pubkey", author.pubkey, "--reason", "spam")
    office("ban", "kind", "1984")
    assert office("ban", "event", event.id)["deleted"] == 1
    found = office("bans")["bans"]
    assert sorted((ban["subject"], ban["value"], ban["reason"]) for ban in found) == [
        ("event", event.id, ""),
        ("kind", "1984", ""),
        ("pubkey", author.pubkey, "spam"),
    ]
    assert office("info")["events"] == 0
    assert office("unban", "pubkey", author.pubkey)["unbanned"] is True
    assert office("unban", "pubkey", author.pubkey)["unbanned"] is False
    assert len(office("bans")["bans"]) == 2


def test_deletion_says_first_what_it_would_do_and_keeps_out(
    office: Office, stored: Callable[..., list[Event]], tmp_path: Path, address: str
) -> None:
    author, other = Author(), Author()
    mail = stored(author.sign(1, age=100), author.sign(1), author.sign(7), other.sign(1), wrap(), author.sign(30_000))
    assert office("delete", "--author", author.pubkey) == {"found": {"1": 2, "7": 1, "30000": 1}, "deleted": 0}
    assert office("info")["events"] == 6
    old = str(mail[0].created_at + 50)
    assert office("delete", "--author", author.pubkey, "--until", old, "--yes")["deleted"] == 1
    assert office("delete", "--kind", "7-40000", "--author", author.pubkey, "--yes")["deleted"] == 2
    assert office("delete", mail[3].id, "--yes") == {"found": {"1": 1}, "deleted": 1}
    assert office("delete", mail[3].id, "--yes") == {"found": {}, "deleted": 0}

    async def run(house: House) -> None:
        assert await _all(house) == {event_json(mail[1]), event_json(mail[4])}
        async with house.relay() as relay:
            for event in (mail[0], mail[2], mail[3], mail[5]):
                proof = house.purse.proof()
                assert (await relay.post(event, house.purse.token(proof))).code == "deleted"
                assert await house.spent(proof) == [False]
            assert await relay.fetch({"authors": [author.pubkey]}) == [plain(mail[1])]

    _in_house(tmp_path, address, run)


# --- files


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines()


def test_mail_travels_whole(
    office: Office, stored: Callable[..., list[Event]], tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out, in again elsewhere, and nothing twice; every form of event finds its way."""
    monkeypatch.setattr(mailbag, "STEP", 3)
    author = Author()
    mail = stored(
        author.sign(0),
        author.sign(1, ["t", "x"]),
        author.sign(30_023, ["d", "y"]),
        wrap(),
        wrap(vt=False),
        *(Author().sign(1) for _ in range(5)),
    )
    file = tmp_path / "mail.jsonl"
    assert office("export", str(file)) == {"exported": len(mail)}
    assert _lines(file) == [event_json(event) for event in mail]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and not Path(f"{file}.resume").exists()
    assert office("export", str(file), code=3)["error"] == "file"
    assert office("import", str(file)) == {"stored": 0, "passed_over": {"duplicate": len(mail)}}
    other = tmp_path / "other"
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(other))
    monkeypatch.setenv("PENNYPOST_DATABASE_URL", "")
    asyncio.run(upgrade(database_url("", other)))
    assert office("import", str(file)) == {"stored": len(mail), "passed_over": {}}

    async def run(house: House) -> None:
        assert await _all(house) == {event_json(event) for event in mail}
        async with house.relay() as relay:
            assert await relay.fetch({"#t": ["x"]}) == [plain(mail[1])]
            assert (await relay.post(mail[1])).duplicate

    _in_house(other, "", run)


@sqlite_only
def test_only_what_is_wanted(office: Office, stored: Callable[..., list[Event]], tmp_path: Path) -> None:
    author = Author()
    mail = stored(author.sign(1), author.sign(7), wrap())
    file = tmp_path / "some.jsonl"
    assert office("export", str(file), "--author", author.pubkey, "--kind", "1")["exported"] == 1
    assert _lines(file) == [event_json(mail[0])]


class _Cut(Exception):
    """Stands for a kill -9."""


def test_both_ways_go_on_where_they_were_interrupted(
    office: Office, stored: Callable[..., list[Event]], tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbag, "STEP", 2)
    mail = stored(*(Author().sign(1) for _ in range(7)))
    file, place = tmp_path / "mail.jsonl", tmp_path / "mail.jsonl.resume"
    real, calls = mailbag.Place.write, [0]

    def cut(self: mailbag.Place, number: int, size: int) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise _Cut
        real(self, number, size)

    monkeypatch.setattr(mailbag.Place, "write", cut)
    monkeypatch.setattr(sys, "argv", ["pennypost", "office", "export", str(file)])
    with pytest.raises(_Cut):
        main()
    # what was written behind the last note is cut off
    assert len(_lines(file)) == 6 and json.loads(place.read_text())["number"] == 4
    monkeypatch.setattr(mailbag.Place, "write", real)
    assert office("export", str(file)) == {"exported": 3}
    assert _lines(file) == [event_json(event) for event in mail] and not place.exists()

    for event in mail:
        office("delete", event.id, "--yes")
    other = tmp_path / "other"
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(other))
    monkeypatch.setenv("PENNYPOST_DATABASE_URL", "")
    asyncio.run(upgrade(database_url("", other)))
    calls[0] = 0
    monkeypatch.setattr(mailbag.Place, "write", cut)
    monkeypatch.setattr(sys, "argv", ["pennypost", "office", "import", str(file)])
    with pytest.raises(_Cut):
        main()
    assert office("info")["events"] == 6
    monkeypatch.setattr(mailbag.Place, "write", real)
    assert office("import", str(file)) == {"stored": 1, "passed_over": {"duplicate": 2}}
    assert not place.exists()
    place.write_text("garbage")
    assert office("import", str(file), code=3)["error"] == "file"


def test_what_an_import_passes_over(
    office: Office, stored: Callable[..., list[Event]], tmp_path: Path, address: str
) -> None:
    """Forged, expired, deleted, banned, replaced and unreadable lines: each by its code, and the good one is stored."""
    author, banned = Author(), Author()
    profile, gone = stored(author.sign(0), author.sign(1))
    office("delete", gone.id, "--yes")
    office("ban", "pubkey", banned.pubkey)
    good = Author().sign(1)
    forged = json.loads(event_json(Author().sign(1))) | {"sig": good.sig}
    wrong_id = json.loads(event_json(Author().sign(1))) | {"content": "other"}
    lines = [
        event_json(good),
        b"",
        event_json(good),
        json.dumps(forged).encode(),
        json.dumps(wrong_id).encode(),
        b"not json",
        event_json(author.sign(1, age=10, expires_in=-5)),
        event_json(gone),
        event_json(banned.sign(1)),
        event_json(author.sign(0, age=1_000)),
        event_json(Author().sign(20_001)),
        event_json(profile),
    ]
    file = tmp_path / "mail.jsonl"
    file.write_bytes(b"\n".join(lines))
    assert office("import", str(file)) == {
        "stored": 1,
        "passed_over": {
            "duplicate": 2,
            "signature": 2,
            "event": 1,
            "expired": 1,
            "deleted": 1,
            "banned": 1,
            "newer": 1,
            "ephemeral": 1,
        },
    }
    file.write_bytes(b"x" * (mailbag.MAX_LINE + 1))
    assert office("import", str(file), code=3)["error"] == "file"


@sqlite_only
@pytest.mark.usefixtures("office")
def test_pipes(stored: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    (event,) = stored(Author().sign(1))
    monkeypatch.setattr(sys, "argv", ["pennypost", "office", "export", "-", "--json"])
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", type("Out", (), {"buffer": pipe, "flush": lambda self: None})())
        with pytest.raises(SystemExit):
            main()
    with open(reader, "rb") as pipe:
        assert pipe.read() == event_json(event) + b"\n"


def test_the_running_office_hears_of_it(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported beside it reaches its subscribers; what is banned and asked for reaches itself."""
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PENNYPOST_DATABASE_URL", address)
    event, banned = Author().sign(1), Author()
    file = tmp_path / "mail.jsonl"
    file.write_bytes(event_json(event) + b"\n")

    def command(*arguments: str) -> None:
        from pennypost_postoffice.operate.commands import office

        office([*arguments], standalone_mode=False)

    async def run(house: House) -> None:
        asked: list[bool] = []
        house.office.on_reload = lambda: asked.append(True)
        async with house.relay() as relay:
            await relay.frames.get()
            await relay.send(["REQ", "s", {"kinds": [1]}])
            assert await relay.frames.get() == ["EOSE", "s"]
            await asyncio.to_thread(command, "import", str(file))
            assert await asyncio.wait_for(relay.frames.get(), 20) == ["EVENT", "s", plain(event)]
            await asyncio.to_thread(command, "ban", "pubkey", banned.pubkey)
            await asyncio.to_thread(command, "reload")
            async with asyncio.timeout(20):
                while not asked:
                    await asyncio.sleep(0.01)
            assert (await relay.post(banned.sign(1), Purse(house.office.keyring, house.url).token())).code == "banned"

    _in_house(tmp_path, address, run)
