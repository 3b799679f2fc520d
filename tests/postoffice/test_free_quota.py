"""The quota of what no stamp paid: marked when it is stored, whatever is free later; and what free deletions name."""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, func, select, text

from pennypost.protocol.errors import TooMany
from pennypost.protocol.event import Event
from pennypost.protocol.price import PriceList, Rule
from pennypost_mint.runtime.limits import FREE_SECONDS
from pennypost_postoffice.retention import _CROWD, graves_over_quota_on, over_quota_on
from pennypost_postoffice.tables import EARLY, FREE, OF_FREE, address_tombstones, events, tombstones
from tests.postoffice.house import Author, House, wrap
from tests.postoffice.test_work import mined
from tests.support.relay import Relay, plain

PLENTY = 1 << 40


def _set(house: House, **settings: Any) -> None:
    """Other settings; where a rate is another one, nothing is saved up or forgotten from now on."""
    house.office.policy._clock = lambda: 1_000.0
    house.service.load = lambda: house.settings.model_copy(update=settings)
    house.service.reload()


def _ask(house: House, prices: PriceList) -> None:
    """Other prices, and none of before."""
    house.office.policy.prices, house.office.policy.former = prices, ()


async def _ids(house: House) -> set[bytes]:
    def read(connection: Connection) -> set[bytes]:
        return set(connection.execute(select(events.c.id)).scalars())

    return await house.office.database.read(read)


async def _marked(house: House, mark: str = "free_bytes") -> dict[bytes, int]:
    def read(connection: Connection) -> dict[bytes, int]:
        found = select(events.c.id, events.c[mark]).where(events.c[mark].is_not(None))
        return {row[0]: row[1] for row in connection.execute(found)}

    return await house.office.database.read(read)


async def _early(house: House) -> list[int]:
    """Rows of both tables of tombstones: all, and those that no stored event stands behind."""

    def read(connection: Connection) -> list[int]:
        count = select(func.count())
        return [
            connection.execute(statement).scalar_one()
            for table in (tombstones, address_tombstones)
            for statement in (count.select_from(table), count.select_from(table).where(EARLY))
        ]

    return await house.office.database.read(read)


def _raw(*found: Event) -> set[bytes]:
    return {bytes.fromhex(event.id) for event in found}


async def _post_free(relay: Relay, *found: Event) -> None:
    for event in found:
        answer = await relay.post(event)
        assert answer.accepted, answer


# --- what is marked


async def test_paid_mail_of_a_kind_that_became_free_stays(house: House) -> None:
    now = int(time.time())
    paid = [Author().sign(30, at=now - number) for number in range(6)]
    free = [Author().sign(30, at=now - 100 - number) for number in range(4)]
    async with house.relay() as relay:
        await house.pay(relay, paid)
        _ask(house, PriceList(free_kinds=frozenset({30})))
        await _post_free(relay, *free)
        _set(house, free_rows=3)
        _ask(house, PriceList(free_kinds=frozenset({30})))
        await house.office.retention.sweep()
    assert await _ids(house) == _raw(*paid, *free[:3])


async def test_what_came_free_is_in_the_quota_when_its_kind_costs_something(house: House) -> None:
    now = int(time.time())
    free = [Author().sign(10_002, at=now - number) for number in range(5)]
    async with house.relay() as relay:
        await _post_free(relay, *free)
        _ask(house, PriceList(free_kinds=frozenset()))
        assert await house.office.database.write(over_quota_on, 2, PLENTY) == 3
    assert await _ids(house) == _raw(*free[:2])


async def test_every_way_to_be_free_is_marked_with_its_size(house: House) -> None:
    """A free kind and a deletion of one's own; and apart from them a price of nothing, work instead of a stamp, a
    former price of nothing."""
    author = Author()
    async with house.relay() as relay:
        paid, gone = author.sign(1), author.sign(1)
        await house.pay(relay, [paid, gone])
        deletion, listed, wrapped = author.sign(5, ["e", gone.id]), author.sign(10_002), wrap()
        await _post_free(relay, deletion, listed)
        _ask(house, PriceList((Rule(base=0),)))
        unseen = author.sign(5, ["e", "0" * 64])
        await _post_free(relay, wrapped, unseen)
        _ask(house, PriceList((Rule(work_instead=8),)))
        worked, stamped = mined(author, 1, 8), author.sign(1)
        await _post_free(relay, worked)
        await house.pay(relay, [stamped])
        _ask(house, PriceList((Rule(base=0),)))
        house.office.policy.change_prices(PriceList(), house.office.now())
        graced = author.sign(1)
        await _post_free(relay, graced)
    free, unpriced = (deletion, listed, unseen), (wrapped, worked, graced)
    assert (await _marked(house)).keys() == _raw(*free)
    assert (await _marked(house, "unpriced_bytes")).keys() == _raw(*unpriced)
    assert await _ids(house) == _raw(*free, *unpriced, paid, stamped)

    def sizes(connection: Connection) -> list[tuple[int, int]]:
        size = func.coalesce(events.c.free_bytes, events.c.unpriced_bytes)
        found = select(size, func.length(events.c.body)).where(size.is_not(None))
        return [(row[0], row[1]) for row in connection.execute(found)]

    found = await house.office.database.read(sizes)
    assert len(found) == 6 and all(size == length for size, length in found)


async def test_the_quota_is_counted_in_its_index(sqlite_house: House) -> None:
    """A sweep costs what is free, not what is stored."""

    def plans(connection: Connection) -> str:
        statements = (
            _CROWD,
            select(events.c.body).where(FREE).order_by(events.c.created_at),
            select(func.count()).select_from(tombstones).where(OF_FREE),
            select(address_tombstones.c.address).where(OF_FREE).order_by(address_tombstones.c.free_since),
        )
        written = [each.compile(connection, compile_kwargs={"literal_binds": True}) for each in statements]
        return str([connection.execute(text(f"EXPLAIN QUERY PLAN {each}")).all() for each in written])

    found = await sqlite_house.office.database.read(plans)
    assert found.count("events_free") == 2 and "USING COVERING INDEX events_free" in found and "TEMP" not in found
    assert "tombstones_free" in found and "address_tombstones_free" in found


# --- deletions of one's own


async def test_free_deletions_have_the_rate_of_free_events(house: House) -> None:
    """A stamp does not get past it: the commit would leave it untouched."""
    author = Author()
    mail = [author.sign(1) for _ in range(8)]
    async with house.relay() as relay:
        await house.pay(relay, mail)
        _set(house, free_rate=4 / FREE_SECONDS / 1.01)
        _set(house, free_rate=4 / FREE_SECONDS)
        proofs = [house.purse.proof() for _ in mail]
        codes = [
            (await relay.post(author.sign(5, ["e", event.id]), house.purse.token(proof) if number % 2 else None)).code
            for number, (event, proof) in enumerate(zip(mail, proofs, strict=True))
        ]
        assert codes == [""] * 4 + ["rate-limited"] * 4
        assert await house.spent(*proofs) == [False] * 8
        assert len(await relay.fetch({"kinds": [1], "authors": [author.pubkey]})) == 4


async def test_the_quota_takes_free_deletions_and_what_they_deleted_stays_out(house: House) -> None:
    author = Author()
    mail = [author.sign(1) for _ in range(4)]
    versions = [author.sign(30_001, ["d", "x"], age=age) for age in (20, 10)]
    async with house.relay() as relay:
        await house.pay(relay, [*mail, *versions])
        now = int(time.time())
        deletions = [author.sign(5, ["e", event.id], at=now - number) for number, event in enumerate(mail)]
        deletions.append(author.sign(5, ["a", f"30001:{author.pubkey}:x"], at=now - 5))
        await _post_free(relay, *deletions)
        _set(house, free_rows=1)
        await house.office.retention.sweep()
        assert await _ids(house) == _raw(deletions[0])
        assert await _early(house) == [4, 0, 1, 0]
        for event in (*mail, *versions):
            assert (await relay.post(event, house.purse.token())).code == "deleted"


async def test_names_that_nothing_stands_behind_share_a_quota(house: House) -> None:
    """Of a free deletion, for ids and addresses; those that deleted something, or that a stamp paid, stay."""
    author = Author()
    mail = [author.sign(1, expires_in=seconds) for seconds in (500, 5_000)]
    unseen = [author.sign(1) for _ in range(3)]
    at = [["a", f"3000{number}:{author.pubkey}:x"] for number in range(6)]
    async with house.relay() as relay:
        await house.pay(relay, [*mail, author.sign(30_000, ["d", "x"], expires_in=500)])
        await house.pay(relay, [author.sign(5, ["e", unseen[0].id], at[1])])
        names = [["e", secrets.token_hex(32)] for _ in range(10)]
        seen, late = ["e", mail[0].id], ["e", mail[1].id]
        await _post_free(
            relay,
            author.sign(5, seen, *names[:9], ["e", unseen[0].id], *at, expires_in=1_000),
            author.sign(5, late, names[9], ["e", unseen[1].id], expires_in=9_000),
        )
        assert await _early(house) == [2 + 1 + 11, 11, 6, 4]
        _set(house, free_rows=2)
        await house.office.retention.sweep()
        assert await _early(house) == [2 + 1 + 2, 2, 2 + 2, 2]
        codes = [(await relay.post(event, house.purse.token())).code for event in (*mail, *unseen[:2])]
        assert codes == ["deleted"] * 4
        assert (await relay.post(unseen[2], house.purse.token())).accepted


async def test_a_name_that_comes_to_stand_for_something_lasts(house: House) -> None:
    """Named early by a free deletion, named again by one that is paid."""
    author = Author()
    mail, unseen = author.sign(1), author.sign(1)
    async with house.relay() as relay:
        await house.pay(relay, [mail])
        await _post_free(relay, author.sign(5, ["e", mail.id], ["e", unseen.id]))
        assert await _early(house) == [2, 1, 0, 0]
        await house.pay(relay, [author.sign(5, ["e", unseen.id])])
        assert await _early(house) == [2, 0, 0, 0]
        assert await house.office.database.write(graves_over_quota_on, 0) == 0
        assert (await relay.post(unseen, house.purse.token())).code == "deleted"


async def _of_free(house: House) -> list[int]:
    """Tombstones of what no stamp paid, for ids and for addresses."""

    def read(connection: Connection) -> list[int]:
        counts = [select(func.count()).select_from(each).where(OF_FREE) for each in (tombstones, address_tombstones)]
        return [connection.execute(count).scalar_one() for count in counts]

    return await house.office.database.read(read)


async def test_tombstones_of_free_events_have_a_quota(house: House) -> None:
    """The oldest go, as the events themselves would have gone; those of paid mail, or that a stamp paid, stay."""
    people = [Author() for _ in range(5)]
    now = int(time.time())
    lists = [each.sign(10_002, at=now - 10 * age) for age, each in enumerate(people, 1)]
    notes = [each.sign(1) for each in people]
    async with house.relay() as relay:
        await house.pay(relay, notes)
        await _post_free(relay, *lists)
        deletions = [
            each.sign(5, ["e", listed.id], ["e", note.id], ["a", f"10002:{each.pubkey}:"])
            for each, listed, note in zip(people, lists, notes, strict=True)
        ]
        await _post_free(relay, *deletions)
        assert await _early(house) == [10, 0, 5, 0] and await _of_free(house) == [5, 5]
        # named once more by a deletion that is paid: for the oldest the quota counts no more
        await house.pay(relay, [people[4].sign(5, ["e", lists[4].id], ["a", f"10002:{people[4].pubkey}:"])])
        assert await _of_free(house) == [4, 4]
        _set(house, free_rows=2)
        await house.office.retention.sweep()
        assert await _early(house) == [8, 0, 3, 0] and await _of_free(house) == [2, 2]
        codes = [(await relay.post(event, house.purse.token())).code for event in (*lists, *notes)]
        assert codes == ["deleted", "deleted", "", "", "deleted"] + ["deleted"] * 5


# --- holds, and HTTP


async def test_an_event_of_a_free_kind_cannot_be_held(house: House) -> None:
    letter = Author().sign(13_194, ["hold", secrets.token_hex(32)])
    async with house.relay() as relay:
        proof = house.purse.proof()
        answer = await relay.post(letter, house.purse.token(proof))
        assert (answer.accepted, answer.code) == (False, "event")
    assert await house.spent(proof) == [False]
    assert await _ids(house) == set()


@pytest.mark.parametrize(("kind", "tight"), [(10_002, False), (10_002, True), (5, True)])
async def test_over_http_only_pressure_holds_a_source_back(sqlite_house: House, kind: int, tight: bool) -> None:
    house, author = sqlite_house, Author()
    _set(house, free_rate=2 / FREE_SECONDS, all_free_rate=0.3 if tight else 50.0)
    mail = [author.sign(1) for _ in range(12)] if kind == 5 else []
    async with house.relay() as relay:
        await house.pay(relay, mail)
    posted = [author.sign(5, ["e", each.id]) for each in mail] or [Author().sign(kind) for _ in range(12)]
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        statuses = [(await http.post("/v1/events", json=plain(event))).status_code for event in posted]
    assert statuses[:3] == [200] * 3
    assert (TooMany.status in statuses) is tight
