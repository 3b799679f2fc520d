"""Requests to vanish (NIP-62): what goes, what stays, what stays out, and that nothing names the key afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, select
from websockets.asyncio.client import connect

from pennypost_postoffice.tables import metadata, vanished, vanishing
from pennypost_postoffice.vanish import begin_on, forget_on
from tests.postoffice.house import Author, House, open_house, wrap
from tests.support.relay import plain


def rows_that_name(connection: Connection, key: bytes) -> list[str]:
    """Tables in which the key stands, raw or in hex."""
    found = []
    for table in metadata.sorted_tables:
        for row in connection.execute(select(table)):
            values = [value if isinstance(value, bytes) else str(value).encode() for value in row]
            if any(key in value or key.hex().encode() in value for value in values):
                found.append(table.name)
    return found


def request(author: Author, house: House | None = None, *, at: int | None = None) -> Any:
    """A request to vanish from this office, or from all relays."""
    relay = house.websocket_url if house else "ALL_RELAYS"
    return author.sign(62, ["relay", "wss://elsewhere.example"], ["relay", relay], at=at)


async def test_everything_of_a_key_goes(house: House) -> None:
    """Notes, versions, deletions with their tombstones, and gift wraps to it; those of others stay."""
    author, other = Author(), Author()
    doomed = author.sign(1, age=10)
    mail = [wrap(author.pubkey, vt=False), wrap(author.pubkey)]
    mention = other.sign(1, ["p", other.pubkey])
    events = [doomed, author.sign(1, age=9), author.sign(10_001, age=9), author.sign(30_000, ["d", "x"], age=9)]
    events.append(author.sign(1, ["hold", "a" * 64], age=9))
    async with house.relay() as relay:
        await house.pay(relay, [*events, *mail, mention])
        assert (await relay.post(author.sign(5, ["e", doomed.id], ["a", f"10001:{author.pubkey}:"], age=5))).accepted
        proof = house.purse.proof()
        asked = request(author, house)
        for _ in range(2):
            answer = await relay.post(asked, house.purse.token(proof))
            assert answer.accepted and answer.message.startswith("accepted:")
        assert await house.spent(proof) == [False]
        assert await relay.fetch({"authors": [author.pubkey]}, {"#p": [author.pubkey]}) == []
        assert await relay.fetch({"ids": [asked.id]}) == []
        assert await relay.fetch({"ids": [mention.id]}) == [plain(mention)]
        assert await house.office.database.read(rows_that_name, bytes.fromhex(author.pubkey)) == []


async def test_what_stays_out_and_what_comes_again(house: House) -> None:
    """Older events and gift wraps, with a good stamp, which is not taken; newer ones are welcome."""
    author, now = Author(), int(time.time())
    old, new = author.sign(1, at=now - 10), author.sign(1, at=now)
    mail = wrap(author.pubkey, vt=False)
    async with house.relay() as relay:
        assert (await relay.post(request(author, at=now - 10))).accepted
        proof = house.purse.proof()
        for token in (house.purse.token(proof), None):
            answer = await relay.post(old, token)
            assert (answer.accepted, answer.code) == (False, "deleted") and answer.message.startswith("blocked:")
        assert await house.spent(proof) == [False]
        await house.pay(relay, [new, mail])
        # later than the mail, however long it took to write
        assert (await relay.post(request(author, at=now + 600))).accepted
        for event in (new, mail):
            assert (await relay.post(event, house.purse.token(proof))).code == "deleted"
        assert (await relay.post(request(author, at=now - 50))).accepted
        assert (await relay.post(new, house.purse.token(proof))).code == "deleted"


async def test_a_later_deletion_keeps_out_what_an_earlier_one_named_too(house: House) -> None:
    """The later one stays, and so does what it says; what the earlier one alone named is forgotten with it."""
    author, now = Author(), int(time.time())
    by_both, by_one = author.sign(1, at=now), author.sign(1, at=now)
    version, one_version = author.sign(10_001, at=now - 1), author.sign(10_002, at=now - 1)
    named = ["e", by_both.id], ["a", f"10001:{author.pubkey}:"]
    before = author.sign(5, *named, ["e", by_one.id], ["a", f"10002:{author.pubkey}:"], at=now - 5)
    async with house.relay() as relay:
        await house.pay(relay, [before, author.sign(5, *named, at=now)])
        assert (await relay.post(request(author, at=now - 3))).accepted
        for kept_out in (by_both, version):
            assert (await relay.post(kept_out, house.purse.token())).code == "deleted"
        await house.pay(relay, [by_one, one_version])


@pytest.mark.parametrize("tags", [[], [["relay"]], [["relay", "wss://elsewhere.example"]], [["relay", "all_relays"]]])
async def test_requests_for_others(sqlite_house: House, tags: list[list[str]]) -> None:
    """One that does not name us deletes nothing."""
    author = Author()
    note = author.sign(1, age=9)
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [note])
        answer = await relay.post(author.sign(62, *tags))
        assert (answer.accepted, answer.code) == (False, "vanish-relay") and answer.message.startswith("invalid:")
        assert await relay.fetch({"ids": [note.id]}) == [plain(note)]


async def test_a_request_for_another_relay_sent_to_us_under_its_name(sqlite_house: House) -> None:
    """Whoever got hold of it must not be able to aim it elsewhere."""
    author = Author()
    note = author.sign(1, age=9)
    asked = author.sign(62, ["relay", "wss://elsewhere.example"])
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [note])
        port = sqlite_house.settings.port
        async with connect("ws://elsewhere.example/", host="127.0.0.1", port=port, proxy=None) as socket:
            await socket.send(json.dumps(["EVENT", plain(asked)]))
            while (frame := json.loads(await asyncio.wait_for(socket.recv(), 10)))[0] != "OK":
                pass
        assert frame[2] is False and frame[3].endswith("[vanish-relay]")
        assert await relay.fetch({"ids": [note.id]}) == [plain(note)]


async def test_a_forged_request(sqlite_house: House) -> None:
    author = Author()
    note, asked = author.sign(1, age=9), plain(request(author))
    asked["sig"] = "0" * 128
    async with sqlite_house.relay() as relay:
        await sqlite_house.pay(relay, [note])
        await relay.send(["EVENT", asked])
        while (frame := await asyncio.wait_for(relay.frames.get(), 10))[0] != "OK":
            pass
        assert frame[2] is False and frame[3].endswith("[signature]")
        assert await relay.fetch({"ids": [note.id]}) == [plain(note)]


async def test_over_http_and_too_many(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free, so its rate is bounded; a deletion of the request changes nothing."""
    # on a clock that stands: each takes a moment, and two a second are given back
    monkeypatch.setattr(sqlite_house.office.policy, "_clock", lambda: 0.0)
    sqlite_house.office.policy._new_rates()
    author = Author()
    asked = request(author)
    async with httpx.AsyncClient(base_url=sqlite_house.url, trust_env=False) as http:
        done = await http.post("/v1/events", json=plain(asked))
        assert done.status_code == 200 and done.json()["accepted"] is True
    async with sqlite_house.relay() as relay:
        answers = [await relay.post(request(Author())) for _ in range(60)]
        assert answers[0].accepted and answers[-1].code == "rate-limited"


async def test_a_long_history_goes_in_steps(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters are stored between them."""
    monkeypatch.setattr("pennypost_postoffice.vanish.STEP", 5)
    author = Author()
    mail = [wrap(author.pubkey, vt=False) for _ in range(12)]
    mentions = [Author().sign(1, ["p", author.pubkey]) for _ in range(12)]
    async with house.relay() as relay, house.relay() as sender:
        await house.pay(relay, [author.sign(1, age=number) for number in range(23)] + mail + mentions)
        answer, _ = await asyncio.gather(relay.post(request(author)), house.pay(sender, [wrap() for _ in range(10)]))
        assert answer.accepted
        assert await relay.fetch({"authors": [author.pubkey]}) == []
        left = await relay.fetch({"#p": [author.pubkey]})
        assert {event["id"] for event in left} == {event.id for event in mentions}


async def test_an_office_that_stopped_in_between_goes_on(tmp_path: Path) -> None:
    author = Author()
    note = author.sign(1, age=9)
    async with open_house(tmp_path) as house, house.relay() as relay:
        await house.pay(relay, [note])
        await house.office.database.write(begin_on, bytes.fromhex(author.pubkey), int(time.time()))
    async with open_house(tmp_path) as house, house.relay() as relay, asyncio.timeout(20):
        while await relay.fetch({"ids": [note.id]}):
            await asyncio.sleep(0.01)
        while await house.office.database.read(lambda connection: connection.execute(select(vanishing)).all()):
            await asyncio.sleep(0.01)


def on_disk(folder: Path) -> bytes:
    """The database files, read by another process: one of ours that closes them would drop SQLite's locks."""
    files = sorted(folder.glob("pennypost.sqlite*"))
    return subprocess.run(["cat", *files], capture_output=True, check=True).stdout


async def test_the_files_hold_nothing_of_it(tmp_path: Path) -> None:
    """Content, key and ids are gone from the database and its log; the key's hash is there."""
    author = Author()
    note = author.sign(1, content="a secret that must go " * 50, age=9)
    async with open_house(tmp_path) as house, house.relay() as relay:
        await house.pay(relay, [note])
        assert b"a secret that must go" in on_disk(tmp_path)
        assert (await relay.post(request(author))).accepted
        after = on_disk(tmp_path)
        for text in (b"a secret that must go", bytes.fromhex(author.pubkey), author.pubkey.encode()):
            assert text not in after
        rows = await house.office.database.read(
            lambda connection: connection.scalars(select(vanished.c.had_mail)).all()
        )
    assert rows == [True]


async def test_hashes_of_keys_that_had_nothing_share_a_quota(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go; those of keys whose mail was deleted never do."""
    monkeypatch.setattr("pennypost_postoffice.vanish.VANISHED_ROWS", 3)
    house, author, now = sqlite_house, Author(), int(time.time())
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(1, at=now - 100)])
        assert (await relay.post(request(author, at=now - 50))).accepted
        for age in range(5):
            assert (await relay.post(request(Author(), at=now - age))).accepted
    assert await house.office.database.write(forget_on) == 2
    times = await house.office.database.read(lambda connection: connection.scalars(select(vanished.c.until)).all())
    assert sorted(times) == [now - 50, now - 2, now - 1, now]
