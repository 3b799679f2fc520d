"""Holds: nobody is served what is held, the right preimage opens it once, and its time ends it all the same."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, func, select

from pennypost.protocol.errors import HoldUnknown
from pennypost.protocol.event import Event
from pennypost.protocol.headers import HELD, RELEASED, decode_headers
from pennypost.protocol.hold import hold_of, hold_tag
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.limits import HELD_EVENTS, HOLD_BURST
from pennypost_postoffice.commit import Done, commit_on
from pennypost_postoffice.connection import COST_RELEASE
from pennypost_postoffice.holds import held_for_on, release_on
from pennypost_postoffice.operate import removal
from pennypost_postoffice.operate.removal import Selection, count_on, delete_on
from pennypost_postoffice.post import Post
from pennypost_postoffice.retention import forget_on, remove_expired_on, remove_held_over_on
from pennypost_postoffice.rows import feed_record
from pennypost_postoffice.tables import events, feed, held, held_receivers, holds, tags
from tests.postoffice.house import Author, House, open_house, wrap
from tests.postoffice.test_commit import database, stamped, y
from tests.postoffice.test_commit_races import Faster, _somebody_waits_on
from tests.support.postgres import Postgres
from tests.support.relay import Relay, plain

__all__ = ["database"]

NOW = int(time.time())


class Sale:
    """A preimage, the id of an offer, and the tag under which its events are held."""

    def __init__(self) -> None:
        self.x, self.id = secrets.token_bytes(32), secrets.token_bytes(32)
        self.hold = hold_tag(sha256(self.x).digest(), self.id)

    def letter(self, receiver: str | None = None, *, expires_in: int = 3_600, kind: int = 1059) -> Event:
        """An event under the tag; a stealth wrap unless it is of another kind."""
        marks = [["vt", secrets.token_hex(4)]] if kind == 1059 else []
        tags = [["p", receiver or secrets.token_hex(32)], *marks, ["hold", self.hold.hex()]]
        return Author().sign(kind, *tags, expires_in=expires_in)


async def headers(house: House) -> list[tuple[int, str, int]]:
    """Number, key and flags of everything in the feed."""
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        _, found = decode_headers((await http.get("/v1/headers")).content)
    return [(header.seq, header.pubkey.hex(), header.flags) for header in found]


async def page(house: House) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        return (await http.get("/v1/pages/0")).json()


@asynccontextmanager
async def subscribed(house: House, event: Event) -> AsyncIterator[Relay]:
    """Somebody who waits for it in every way there is, past EOSE."""
    receiver = event.tags[0][1]
    wanted = [{"ids": [event.id]}, {"authors": [event.pubkey]}, {"#p": [receiver]}, {"kinds": [event.kind]}]
    async with house.relay() as relay:
        await relay.send(["REQ", "live", *wanted])
        while (await relay.frames.get())[0] != "EOSE":
            pass
        yield relay


async def nothing_more(relay: Relay) -> list[Any]:
    """Every EVENT of the subscription up to now: what was published before is before the OK of a later frame."""
    await relay.send(["REQ", "mark", {"limit": 0}])
    found: list[Any] = []
    while (frame := await relay.frames.get())[:2] != ["EOSE", "mark"]:
        if frame[0] == "EVENT":
            found.append(frame)
    return found


def every_filter(event: Event) -> list[dict[str, Any]]:
    receiver = event.tags[0][1]
    hold = event.tags[-2][1]
    return [
        {"ids": [event.id]},
        {"authors": [event.pubkey]},
        {"#p": [receiver]},
        {"kinds": [event.kind], "#p": [receiver]},
        {"kinds": [event.kind], "authors": [event.pubkey], "#p": [receiver]},
        {"kinds": [event.kind]},
        {"#h": [hold]},
        {"since": event.created_at, "until": event.created_at},
        {},
    ]


async def test_nobody_is_served_what_is_held(house: House) -> None:
    """Its header is there, with the held flag; the event is not, in any way of asking."""
    sale, proof = Sale(), house.purse.proof()
    event = sale.letter()
    async with subscribed(house, event) as listener, house.relay() as relay:
        answer = await relay.post(event, house.purse.token(proof))
        assert answer.accepted and answer.message.startswith(f"accepted: until {event.tags[-1][1]}, held")
        for wanted in every_filter(event):
            assert await relay.fetch(wanted) == []
            await relay.send(["COUNT", "many", wanted])
            while (frame := await relay.frames.get())[0] != "COUNT":
                pass
            assert frame[2]["count"] == 0
        assert await headers(house) == [(1, event.pubkey, HELD)]
        assert await page(house) == []
        assert await nothing_more(listener) == []
        assert (await relay.post(event)).duplicate
    assert await house.spent(proof) == [True]


async def test_release(house: House) -> None:
    """It is served from then on, live once; the feed has it a second time. Again: harmless."""
    sale = Sale()
    event = sale.letter()
    async with subscribed(house, event) as listener, house.relay() as relay:
        await house.pay(relay, [event])
        answer = await relay.release(sale.hold, sale.x, sale.id)
        assert (answer.accepted, answer.message) == (True, "accepted: released 1")
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]
        assert await relay.fetch({"#p": [event.tags[0][1]]}) == [plain(event)]
        assert await headers(house) == [(1, event.pubkey, HELD), (2, event.pubkey, RELEASED)]
        assert await page(house) == [plain(event)]
        for _ in range(2):
            again = await relay.release(sale.hold, sale.x, sale.id)
            assert (again.accepted, again.message) == (True, "duplicate: already released")
        assert len(await headers(house)) == 2
        assert await nothing_more(listener) == [["EVENT", "live", plain(event)]]
        assert (await relay.post(event)).duplicate


async def test_several_events_and_later_ones(house: House) -> None:
    """All of a tag open at once; what comes under a released tag is open at once. Not every event has a header."""
    sale = Sale()
    first, second, note = sale.letter(), sale.letter(), sale.letter(kind=1)
    other = Sale()
    others = other.letter()
    async with house.relay() as relay:
        await house.pay(relay, [first, second, note, others])
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 3"
        wanted = {"ids": [event.id for event in (first, second, note, others)]}
        found = await relay.fetch(wanted)
        assert {event["id"] for event in found} == {first.id, second.id, note.id}
        later = sale.letter()
        async with subscribed(house, later) as listener:
            answer = await relay.post(later, house.purse.token())
            assert answer.message == f"accepted: until {later.tags[-1][1]}"
            assert await nothing_more(listener) == [["EVENT", "live", plain(later)]]
        assert await relay.fetch({"ids": [later.id]}) == [plain(later)]
        assert (await headers(house))[-1] == (8, later.pubkey, RELEASED)


async def test_wrong_tries(house: House) -> None:
    """Another preimage, the right one for another id, no hex: refused, each with its code; nothing opens."""
    sale, other = Sale(), Sale()
    event = sale.letter()
    async with house.relay() as relay:
        await house.pay(relay, [event, other.letter()])
        for x, identifier, code in (
            (other.x, sale.id, "hold-wrong"),
            (sale.x, other.id, "hold-wrong"),
            (sale.id, sale.x, "hold-wrong"),
            (sha256(sale.x).digest(), sale.id, "hold-wrong"),
            (sale.x.hex().upper(), sale.id, "invalid-input"),
            (sale.x.hex()[:-1], sale.id, "invalid-input"),
            (None, sale.id, "invalid-input"),
            (sale.x, 7, "invalid-input"),
            ([sale.x.hex()], {}, "invalid-input"),
        ):
            answer = await relay.release(sale.hold, x, identifier)
            assert (answer.accepted, answer.code) == (False, code)
        nobodys = Sale()
        assert (await relay.release(nobodys.hold, nobodys.x, nobodys.id)).code == "hold-unknown"
        assert await relay.fetch({"ids": [event.id]}) == []
        await relay.send(["RELEASE", sale.hold.hex().upper(), sale.x.hex(), sale.id.hex()])
        frame = await relay.frames.get()
        while frame[0] == "AUTH":
            frame = await relay.frames.get()
        assert frame[0] == "NOTICE" and frame[1].endswith("[frame]")


async def test_wrong_tries_are_bounded(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of one tag they are told to wait, and the right preimage opens it all the same."""
    house, sale, burst = sqlite_house, Sale(), int(HOLD_BURST)
    # on a clock that stands: a slow machine must not give new tries meanwhile
    monkeypatch.setattr(house.office.holds._wrong_by_hold, "_clock", lambda: 0.0)
    async with house.relay() as relay:
        await house.pay(relay, [sale.letter()])
        codes = [(await relay.release(sale.hold, secrets.token_bytes(32), sale.id)).code for _ in range(40)]
        assert codes == ["hold-wrong"] * burst + ["rate-limited"] * (40 - burst)
        other = Sale()
        assert (await relay.release(other.hold, sale.x, other.id)).code == "hold-wrong"
        assert (await relay.release(sale.hold, sale.x, sale.id)).accepted


async def test_wrong_tries_of_one_source_are_bounded(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tags, over WebSocket and HTTP together."""
    house = sqlite_house
    house.office.holds._wrong_by_source._burst = 3.0
    # a fifth of a second gives the next try
    monkeypatch.setattr(house.office.holds._wrong_by_source, "_clock", lambda: 0.0)
    codes: list[str] = []
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        for _ in range(3):
            sale = Sale()
            codes.append((await relay.release(sale.hold, sale.id, sale.id)).code)
        sale = Sale()
        body = {"x": sale.id.hex(), "id": sale.id.hex()}
        refused = await http.post(f"/v1/holds/{sale.hold.hex()}", json=body)
    assert codes == ["hold-wrong"] * 3
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0


async def test_releases_of_nothing_keep_nobody_out(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds that fit a T of one's own: who paid is served from the same address, over WebSocket and HTTP, though
    CPU is scarce; the connection they came on is the one that is read more slowly."""
    house, over_socket, over_http = sqlite_house, Sale(), Sale()
    async with house.relay() as stranger, house.relay() as payer:
        await house.pay(payer, [over_socket.letter(), over_http.letter()])
        mine = [Sale() for _ in range(230)]
        answers = await asyncio.gather(*(stranger.release(sale.hold, sale.x, sale.id) for sale in mine))
        assert {answer.code for answer in answers} == {"hold-unknown"}
        busiest = max(house.office._connections, key=lambda connection: connection._spent)
        assert busiest._spent >= len(mine) * COST_RELEASE
        monkeypatch.setattr(house.office.shares, "_most", 1_000.0)
        monkeypatch.setattr(house.office.shares, "_little", 1_000.0)
        house.office.shares.charge(busiest.source, None, 1.0)
        assert busiest._overdrawn() > 0
        assert (await payer.release(over_socket.hold, over_socket.x, over_socket.id)).message == "accepted: released 1"
        async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
            body = {"x": over_http.x.hex(), "id": over_http.id.hex()}
            opened = await http.post(f"/v1/holds/{over_http.hold.hex()}", json=body)
        assert opened.json()["message"] == "accepted: released 1"


async def test_http_twin(house: House) -> None:
    sale = Sale()
    event = sale.letter()
    right = {"x": sale.x.hex(), "id": sale.id.hex()}
    path = f"/v1/holds/{sale.hold.hex()}"
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        await house.pay(relay, [event])
        for body, status in (
            (right | {"x": sale.id.hex()}, 403),
            (right | {"x": None}, 400),
            ({"x": sale.x.hex()}, 400),
            ([], 400),
            (1, 400),
            ({}, 400),
        ):
            assert (await http.post(path, json=body)).status_code == status
        for raw, status in ((b"", 400), (b"{", 400), (b'"\xff"', 400), (b"[" * 100_000, 400), (b" " * 300_000, 413)):
            assert (await http.post(path, content=raw)).status_code == status
        for name in ("x", sale.hold.hex().upper(), sale.hold.hex()[:-1], "%00"):
            assert (await http.post(f"/v1/holds/{name}", json=right)).status_code == 400
        assert (await http.get(path)).status_code == 405
        nobodys = Sale()
        unknown = await http.post(
            f"/v1/holds/{nobodys.hold.hex()}", json={"x": nobodys.x.hex(), "id": nobodys.id.hex()}
        )
        assert unknown.status_code == 404 and "[hold-unknown]" in unknown.json()["detail"]
        answer = await http.post(path, json=right, headers={"origin": "https://client.example"})
        assert answer.json() == {"hold": sale.hold.hex(), "accepted": True, "message": "accepted: released 1"}
        assert answer.headers["access-control-allow-origin"] == "*"
        assert (await http.post(path, json=right)).json()["message"] == "duplicate: already released"
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]


async def test_released_by_many_at_once(house: House) -> None:
    """One opens it; a subscriber gets it once, and the feed grows by one record."""
    sale = Sale()
    event = sale.letter()
    async with subscribed(house, event) as listener, house.relay() as relay:
        await house.pay(relay, [event])
        relays = [house.relay() for _ in range(8)]
        async with relays[0], relays[1], relays[2], relays[3], relays[4], relays[5], relays[6], relays[7]:
            answers = await asyncio.gather(*(each.release(sale.hold, sale.x, sale.id) for each in relays))
        assert [answer.accepted for answer in answers] == [True] * 8
        assert (
            sorted(answer.message for answer in answers)
            == ["accepted: released 1"] + ["duplicate: already released"] * 7
        )
        assert len(await headers(house)) == 2
        assert await nothing_more(listener) == [["EVENT", "live", plain(event)]]


async def test_a_release_while_somebody_subscribes(house: House) -> None:
    """As stored or live, never twice and never not at all."""
    for _ in range(15):
        sale = Sale()
        event = sale.letter()
        async with house.relay() as relay, house.relay() as listener:
            await house.pay(relay, [event])
            await asyncio.gather(
                listener.send(["REQ", "live", {"authors": [event.pubkey]}]),
                relay.release(sale.hold, sale.x, sale.id),
            )
            assert [frame[2] for frame in await nothing_more(listener)] == [plain(event)]


async def test_after_its_expiry(house: House) -> None:
    """Not released and not there, swept or not; what is still good under the tag opens alone."""
    sale, over = Sale(), Sale()
    soon, kept, alone = sale.letter(expires_in=600), sale.letter(), over.letter(expires_in=600)
    async with house.relay() as relay:
        await house.pay(relay, [soon, kept, alone])
        house.pass_time(700)
        assert (await relay.release(over.hold, over.x, over.id)).code == "hold-unknown"
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 1"
        assert await relay.fetch({"ids": [soon.id, kept.id, alone.id]}) == [plain(kept)]
        assert [header[1] for header in await headers(house)] == [kept.pubkey, kept.pubkey]
        assert (await relay.post(soon, house.purse.token())).code == "expired"
        await house.office.retention.sweep()
        assert (await relay.release(over.hold, over.x, over.id)).code == "hold-unknown"
        assert await house.office.database.read(counts) == {
            "events": 1, "held": 0, "held_receivers": 0, "holds": 1, "feed": 2, "tags": 1
        }  # fmt: skip


async def test_a_released_tag_is_forgotten_with_its_last_event(house: House) -> None:
    """Then it is held again: what an office remembers is bounded by what it keeps."""
    sale = Sale()
    async with house.relay() as relay:
        await house.pay(relay, [sale.letter(expires_in=600)])
        assert (await relay.release(sale.hold, sale.x, sale.id)).accepted
        await house.pay(relay, [sale.letter(expires_in=1_200)])
        house.pass_time(700)
        assert (await relay.release(sale.hold, sale.x, sale.id)).duplicate
        house.pass_time(1_300)
        assert (await relay.release(sale.hold, sale.x, sale.id)).code == "hold-unknown"
        event = sale.letter()
        await house.pay(relay, [event])
        assert await relay.fetch({"ids": [event.id]}) == []
        await house.office.retention.sweep()
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 1"
        house.pass_time(4_000)
        await house.office.retention.sweep()
        assert set((await house.office.database.read(counts)).values()) == {0}


def counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (events, held, held_receivers, holds, feed, tags)
    }


@pytest.mark.parametrize("by", ["author", "receiver"])
async def test_deleted_while_it_is_held(house: House, by: str) -> None:
    """By its author, or by whom a gift wrap is for: nothing of it is left, nor its header, and it stays out."""
    sale, receiver, author = Sale(), Author(), Author()
    marks = [["p", receiver.pubkey], ["vt", "00112233"], ["hold", sale.hold.hex()]]
    event = author.sign(1059, *marks, expires_in=3_600)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        by_whom = author if by == "author" else receiver
        assert (await relay.post(by_whom.sign(5, ["e", event.id]))).accepted
        assert await headers(house) == []
        assert (await relay.post(event, house.purse.token())).code == "deleted"
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 0"
        assert await relay.fetch({"ids": [event.id]}) == []
        found = await house.office.database.read(counts)
        assert (found["held"], found["held_receivers"], found["feed"]) == (0, 0, 1)


async def test_deleted_after_its_release(house: House) -> None:
    """Both of its records go."""
    sale, author = Sale(), Author()
    event = author.sign(1059, ["p", "a" * 64], ["vt", "00112233"], ["hold", sale.hold.hex()], expires_in=3_600)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        await relay.release(sale.hold, sale.x, sale.id)
        assert (await relay.post(author.sign(5, ["e", event.id]))).accepted
        assert await headers(house) == [] and await page(house) == []


SELECTED: list[tuple[str, Callable[[Event], Selection]]] = [
    ("everything", lambda event: Selection()),
    ("its id", lambda event: Selection(ids=(event.id,))),
    ("its author", lambda event: Selection(authors=("a" * 64, event.pubkey))),
    ("its kind", lambda event: Selection(kinds=range(1059, 1060))),
    ("its time", lambda event: Selection(since=event.created_at, until=event.created_at)),
    ("all of it", lambda event: Selection((event.id,), (event.pubkey,), range(1060), 0, event.created_at)),
]
PASSED_BY: list[tuple[str, Callable[[Event], Selection]]] = [
    ("another kind", lambda event: Selection(ids=(event.id,), kinds=range(1, 2))),
    ("another author", lambda event: Selection(ids=(event.id,), authors=("a" * 64,))),
    ("older", lambda event: Selection(ids=(event.id,), until=event.created_at - 1)),
    ("younger", lambda event: Selection(ids=(event.id,), since=event.created_at + 1)),
]


async def test_deleted_by_the_operator(house: House) -> None:
    """By every selection that finds other mail: it goes with its header, and no release brings it back."""
    database = house.office.database
    async with house.relay() as relay:
        for case, selection in SELECTED:
            sale = Sale()
            event = sale.letter()
            await house.pay(relay, [event])
            for other, passes_by in PASSED_BY:
                assert await database.read(count_on, passes_by(event)) == {}, other
                assert await database.write(delete_on, passes_by(event)) == 0, other
            assert await database.read(count_on, selection(event)) == {1059: 1}, case
            assert await database.write(delete_on, selection(event)) == 1, case
            assert await database.write(delete_on, selection(event)) == 0, case
            assert await headers(house) == []
            assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 0"
            assert (await relay.post(event, house.purse.token())).code == "deleted"
            assert await relay.fetch({"ids": [event.id]}) == []
    assert await rows_of(house, held, held_receivers, events, tags) == [0, 0, 0, 0]


async def test_open_and_held_mail_is_deleted_in_steps(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "STEP", 3)
    mail = [Sale().letter() for _ in range(4)] + [wrap() for _ in range(4)]
    async with house.relay() as relay:
        await house.pay(relay, mail)
    gone: list[int] = []
    while not gone or gone[-1]:
        gone.append(await house.office.database.write(delete_on, Selection(kinds=range(1059, 1060))))
    assert gone == [3, 3, 2, 0] and await headers(house) == []


async def rows_of(house: House, *tables: Any) -> list[int]:
    """How many rows each table has."""
    return [
        await house.office.database.read(lambda c, t=table: c.execute(select(func.count()).select_from(t)).scalar_one())
        for table in tables
    ]


async def test_refused_tags_leave_the_stamp(house: House) -> None:
    sale, proof, author = Sale(), house.purse.proof(), Author()
    hold = ["hold", sale.hold.hex()]
    async with house.relay() as relay:
        for event in (
            author.sign(1059, hold, hold),
            author.sign(1059, ["hold"]),
            author.sign(1, ["hold", "x"]),
            author.sign(30_023, ["d", "x"], hold),
            author.sign(0, hold),
            author.sign(5, hold, ["e", "0" * 64]),
            author.sign(20_001, hold),
        ):
            answer = await relay.post(event, house.purse.token(proof))
            assert (answer.accepted, answer.code) == (False, "event"), event.tags
    assert await house.spent(proof) == [False]


async def test_events_under_one_tag_are_bounded(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pennypost_postoffice.holds.HELD_EVENTS", 3)
    house, sale, proof = sqlite_house, Sale(), sqlite_house.purse.proof()
    async with house.relay() as relay:
        letters = [sale.letter() for _ in range(5)]
        answers = await asyncio.gather(*(relay.post(event, house.purse.token()) for event in letters))
        assert sorted(answer.code for answer in answers) == ["", "", "", "hold-full", "hold-full"]
        assert (await relay.post(sale.letter(), house.purse.token(proof))).code == "hold-full"
        assert await house.spent(proof) == [False]
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 3"
        assert (await relay.post(sale.letter(), house.purse.token(proof))).accepted
    assert HELD_EVENTS >= 10


async def test_over_a_restart(address: str, tmp_path: Path) -> None:
    sale = Sale()
    event = sale.letter()
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        await house.pay(relay, [event])
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        assert (await relay.post(event)).duplicate
        assert await relay.fetch({"ids": [event.id]}) == []
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 1"
    async with open_house(tmp_path, address) as house, house.relay() as relay:
        assert (await relay.release(sale.hold, sale.x, sale.id)).duplicate
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]


def held_post(event: Event, until: int = NOW + 1_000) -> Post:
    post = stamped(event, y())
    post.hold, post.record = hold_of(event), feed_record(event)
    post.postage = post.postage.__class__(1, until, free=False)
    return post


async def commit(database: Database, *posts: Post) -> Done:
    return await database.write(commit_on, list(posts), NOW)


async def test_what_is_held_for_somebody(database: Database) -> None:
    """Found by author and by receiver, up to a time, for a request to vanish."""
    sale, receiver = Sale(), "b" * 64
    mine, to_me, note = held_post(sale.letter()), held_post(sale.letter(receiver)), held_post(sale.letter(kind=1))
    await commit(database, mine, to_me, note)
    until = max(post.event.created_at for post in (mine, to_me))
    found = await database.read(held_for_on, bytes.fromhex(receiver), until, 10)
    assert [target.id for target in found] == [to_me.id]
    assert [target.id for target in await database.read(held_for_on, mine.pubkey, until, 10)] == [mine.id]
    assert await database.read(held_for_on, mine.pubkey, mine.event.created_at - 1, 10) == []
    assert await database.read(held_for_on, bytes(32), until, 10) == []


async def test_what_an_operator_imported_openly(database: Database) -> None:
    """It is there already, and a release of the rest goes on."""
    sale = Sale()
    event, other = sale.letter(), held_post(sale.letter())
    imported = held_post(event)
    imported.hold = None
    await commit(database, held_post(event), other)
    await commit(database, imported)
    done = await database.write(release_on, sale.hold, NOW)
    assert [opened.id for opened, _ in done.opened] == [other.event.id]
    found = await database.read(counts)
    assert (found["events"], found["held"], found["held_receivers"]) == (2, 0, 0)


@pytest.mark.parametrize("first", ["release", "expiry"])
async def test_release_and_expiry_in_turn(database: Database, first: str) -> None:
    """By clocks a second apart, as two processes may have them: it is open or gone, and gone in the end."""
    sale = Sale()
    post = held_post(sale.letter(), NOW + 1)
    await commit(database, post)
    if first == "release":
        assert len((await database.write(release_on, sale.hold, NOW)).opened) == 1
        assert await database.write(remove_held_over_on, NOW + 1) == 0
        assert (await database.read(counts))["events"] == 1
    else:
        assert await database.write(remove_held_over_on, NOW + 1) == 1
        assert (await database.write(release_on, sale.hold, NOW)).opened == []
    while await database.write(remove_expired_on, NOW + 1):
        pass
    await database.write(forget_on, NOW + 1)
    assert set((await database.read(counts)).values()) == {0}
    with pytest.raises(HoldUnknown):
        await database.write(release_on, sale.hold, NOW)


class TestRaces:
    """Two transactions of PostgreSQL that meet at one tag; SQLite has one writer."""

    @pytest.fixture
    def address(self, postgres_cluster: Postgres) -> Iterator[str]:
        made = postgres_cluster.database()
        yield made
        postgres_cluster.drop(made)

    async def _meet(self, database: Database, faster: tuple[Any, ...], slower: tuple[Any, ...], undo: bool) -> Any:
        first = Faster(database)
        running = asyncio.create_task(first.run(*faster, undo=undo))
        await first.written.wait()
        waiting = asyncio.create_task(database.write(*slower))
        async with asyncio.timeout(30):
            while not await database.read(_somebody_waits_on):
                assert not waiting.done(), "it did not wait for the other transaction"
                await asyncio.sleep(0.01)
        first.go_on.set()
        await running
        return await waiting

    @pytest.mark.parametrize("undo", [False, True])
    async def test_two_releases(self, database: Database, undo: bool) -> None:
        sale = Sale()
        await commit(database, held_post(sale.letter()))
        release = (release_on, sale.hold, NOW)
        done = await self._meet(database, release, release, undo)
        assert len(done.opened) == (1 if undo else 0)
        found = await database.read(counts)
        assert (found["events"], found["held"], found["feed"]) == (1, 0, 2)

    @pytest.mark.parametrize("undo", [False, True])
    async def test_a_release_and_its_expiry(self, database: Database, undo: bool) -> None:
        """Whoever is second sees what the first did, although their clocks differ by a second."""
        for release_first in (True, False):
            sale = Sale()
            await commit(database, held_post(sale.letter(), NOW + 1))
            release, expiry = (release_on, sale.hold, NOW), (remove_held_over_on, NOW + 1)
            pair = (release, expiry) if release_first else (expiry, release)
            await self._meet(database, *pair, undo)
            found = await database.read(counts)
            assert found["held"] == found["held_receivers"] == 0
            if release_first:
                # the sweep had found it held, and takes it from where it is now
                assert found["events"] == 0
            else:
                assert found["events"] == (1 if undo else 0)
            while await database.write(remove_expired_on, NOW + 1):
                pass

    @pytest.mark.parametrize("undo", [False, True])
    async def test_a_release_and_a_later_event(self, database: Database, undo: bool) -> None:
        """The later event is held and released with the rest, or open at once; never closed under an open tag."""
        for release_first in (True, False):
            sale = Sale()
            await commit(database, held_post(sale.letter()))
            later = held_post(sale.letter())
            release, store = (release_on, sale.hold, NOW), (commit_on, [later], NOW)
            done = await self._meet(database, *((release, store) if release_first else (store, release)), undo)
            if release_first:
                assert [plan.held for plan in done.stored] == [undo]
            else:
                assert len(done.opened) == (1 if undo else 2)
            await database.write(release_on, sale.hold, NOW)
            assert (await database.read(counts))["held"] == 0

    async def test_another_process_of_the_office(self, address: str, tmp_path: Path) -> None:
        """Held at one, released at another: subscribers of both get it once, after the release and not before."""
        sale = Sale()
        event, mark = sale.letter(), Author().sign(1)
        async with (
            open_house(tmp_path, address) as one,
            open_house(tmp_path, address) as two,
            one.relay() as first,
            two.relay() as second,
        ):
            for relay in (first, second):
                await relay.send(["REQ", "live", {"authors": [event.pubkey, mark.pubkey]}])
                while (await relay.frames.get())[0] != "EOSE":
                    pass
            await one.pay(first, [event])
            assert (await second.release(sale.hold, sale.x, sale.id)).message == "accepted: released 1"
            assert (await first.release(sale.hold, sale.x, sale.id)).duplicate
            # what is published after it shows that nothing came before it, or twice
            await one.pay(first, [mark])
            async with asyncio.timeout(20):
                for relay in (first, second):
                    found = [await relay.frames.get(), await relay.frames.get()]
                    assert found == [["EVENT", "live", plain(event)], ["EVENT", "live", plain(mark)]]
            assert first.frames.empty() and second.frames.empty()
