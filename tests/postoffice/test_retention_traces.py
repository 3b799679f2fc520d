"""What is over leaves no trace: not in the database file, its free pages or its log, nor in any answer meanwhile."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, text

from pennypost.protocol.event import event_json
from pennypost.protocol.headers import decode_headers
from pennypost_mint.runtime.sets import insert_rows
from pennypost_postoffice import retention
from pennypost_postoffice.retention import remove_expired_on
from pennypost_postoffice.tables import events, feed, tags
from tests.postoffice.house import Author, House, open_house, wrap
from tests.postoffice.test_holds import Sale
from tests.support.relay import plain


def traces(folder: Path, needle: bytes) -> list[str]:
    """Files in which these bytes stand."""
    return [path.name for path in folder.rglob("*") if path.is_file() and needle in _content(path)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        # the note of the last stamp is written beside its place and then moved there
        return b""


def slices(mark: str) -> list[bytes]:
    """Parts of a content that is longer than a page: one or the other may be cut in two by the edge of a page."""
    content = mark.encode()
    return [content[start : start + 64] for start in range(0, len(content), 1_000)]


async def test_no_trace_is_left(tmp_path: Path) -> None:
    """Whatever took it away: deletion, a newer version, expiry while held and after a release, the free quota."""
    # larger than a page, so that bodies lie in overflow pages, too
    marks = {name: secrets.token_hex(4_000) for name in ("deleted", "replaced", "held", "released", "free", "kept")}
    author, sale, over = Author(), Sale(), Sale()
    tag, other = ["hold", sale.hold.hex()], ["hold", over.hold.hex()]
    async with open_house(tmp_path) as house, house.relay() as relay:
        deleted = author.sign(1, content=marks["deleted"])
        replaced = author.sign(30_001, ["d", "x"], content=marks["replaced"], age=10)
        kept = wrap(content=marks["kept"])
        held = Author().sign(1059, ["p", "a" * 64], ["vt", "00112233"], other, content=marks["held"], expires_in=600)
        released = Author().sign(
            1059, ["p", "b" * 64], ["vt", "00112233"], tag, content=marks["released"], expires_in=600
        )
        await house.pay(relay, [deleted, replaced, kept, held, released])
        free = author.sign(10_002, content=marks["free"], age=20)
        assert (await relay.post(free)).accepted
        assert (await relay.release(sale.hold, sale.x, sale.id)).accepted
        ids = {name: bytes.fromhex(event.id) for name, event in (("held", held), ("released", released))}
        for name, mark in marks.items():
            assert any(traces(tmp_path, each) for each in slices(mark)), name

        # nothing expires here: what a deletion took away goes with the next sweep all the same
        assert (await relay.post(author.sign(5, ["e", deleted.id]))).accepted
        await house.pay(relay, [author.sign(30_001, ["d", "x"])])
        assert await house.office.retention.sweep() == 0
        for name in ("deleted", "replaced"):
            assert not any(traces(tmp_path, each) for each in slices(marks[name])), name

        house.pass_time(700)
        await house.office.database.write(retention.over_quota_on, 0, 0)
        assert await house.office.retention.sweep() >= 2
        for name in ("held", "released", "free"):
            assert not any(traces(tmp_path, each) for each in slices(marks[name])), name
        for name, identifier in ids.items():
            assert traces(tmp_path, identifier) == [], name
            assert traces(tmp_path, identifier.hex().encode()) == [], name
        for key in (sale.hold, sale.x, over.hold):
            assert traces(tmp_path, key) == [] and traces(tmp_path, key.hex().encode()) == []
        assert any(traces(tmp_path, each) for each in slices(marks["kept"]))


async def test_not_served_between_its_expiry_and_its_deletion(house: House) -> None:
    """REQ, COUNT, the feed, pages, a new subscription; and its own repeat."""
    author = Author()
    soon, kept = wrap(author.pubkey, expires_in=600), wrap(author.pubkey)
    note = author.sign(1, expires_in=600)
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        await house.pay(relay, [soon, kept, note])
        house.pass_time(600)
        for wanted in ({"ids": [soon.id, note.id]}, {"authors": [soon.pubkey, author.pubkey]}, {"kinds": [1]}, {}):
            assert await relay.fetch(wanted) == []
        assert await relay.fetch({"#p": [author.pubkey]}) == [plain(kept)]
        await relay.send(["COUNT", "many", {"#p": [author.pubkey]}])
        while (frame := await relay.frames.get())[0] != "COUNT":
            pass
        assert frame[2]["count"] == 1
        _, headers = decode_headers((await http.get("/v1/headers")).content)
        assert [header.pubkey.hex() for header in headers] == [kept.pubkey]
        assert (await http.get("/v1/pages/0")).json() == [plain(kept)]
        assert (await relay.post(soon, house.purse.token())).code == "expired"


BODY = wrap(content="x" * 300)
JSON = event_json(BODY)

STORED, OVER = 40_000, 500
"""Events in the larger store, and those of each store that are over."""


def _fill(connection: Connection, count: int, now: int) -> None:
    """`count` events that are kept and OVER that are not, with a tag and a number each."""
    made = [(secrets.token_bytes(32), now + 9_000) for _ in range(count)]
    made += [(secrets.token_bytes(32), now - 1) for _ in range(OVER)]
    body = plain(BODY)
    rows: list[tuple[Any, ...]] = []
    for identifier, until in made:
        changed = JSON.replace(body["id"].encode(), identifier.hex().encode())
        rows.append((identifier, bytes.fromhex(body["pubkey"]), 1059, body["created_at"], until, changed))
    insert_rows(connection, events, ("id", "pubkey", "kind", "created_at", "keep_until", "body"), sorted(rows))
    key = b"px" + bytes.fromhex(BODY.tags[0][1])
    insert_rows(
        connection, tags, ("key", "created_at", "event_id"), sorted((key, body["created_at"], row[0]) for row in rows)
    )
    numbered = [(seq, identifier, None, until) for seq, (identifier, until) in enumerate(made, 1)]
    insert_rows(connection, feed, ("seq", "event_id", "record", "keep_until"), numbered)
    if connection.dialect.name == "postgresql":
        # as it does by itself a moment later, and then plans otherwise
        connection.execute(text("ANALYZE events, tags, feed"))


_BLOCKS = text(
    "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
)


def _cost_on(connection: Connection, now: int) -> int:
    """Blocks that PostgreSQL looks at, or hundreds of steps of SQLite's machine; seconds would tell of other work."""
    raw: Any = connection.connection
    steps: list[None] = []
    postgresql = connection.dialect.name == "postgresql"
    if postgresql:
        before = connection.execute(_BLOCKS).scalar_one()
    else:
        before = 0
        raw.set_progress_handler(lambda: steps.append(None), 100)
    assert remove_expired_on(connection, now) == OVER
    assert remove_expired_on(connection, now) == 0
    if postgresql:
        return int(connection.execute(_BLOCKS).scalar_one() - before)
    raw.set_progress_handler(None, 0)
    return len(steps)


async def test_what_expires_is_what_a_sweep_costs(address: str, tmp_path: Path) -> None:
    """The same 500 out of 20 times as many events (measured: 1.0 times the steps of SQLite, 1.8 times the blocks of
    PostgreSQL, which reads tables of this size whole where their rows are small)."""
    now = int(time.time())
    costs: list[int] = []
    for number, count in enumerate((STORED // 20, STORED)):
        folder = tmp_path if address else tmp_path / str(number)
        async with open_house(folder, address, sweep_every=86_400) as house:
            # behind the sweep of its start, which takes what is over, too
            await house.office.retention.sweep()
            store = house.office.database
            if address:
                await store.write(_empty)
            await store.write(_fill, count, now)
            costs.append(await store.write(_cost_on, now))
    print(costs)
    assert 0 < costs[1] < (3 if address else 1.1) * costs[0]


def _empty(connection: Connection) -> None:
    for table in (events, tags, feed):
        connection.execute(table.delete())
