"""`dry_run` of every verb that costs stamps or sats: the price of each office and of all, and nothing is touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Receipt, Sandbox
from pennypost.lightning import fee_limit
from pennypost.protocol.errors import NotAnswered
from tests.sdk.meddler import Meddler
from tests.sdk.test_offers import Purse
from tests.sdk.test_several_offices import Make, close, make, stamped

__all__ = ["make"]
PUBLIC = ("offices", "keysets")
"""What anybody may ask of offices and mints, kept for a while: the tables that asking for a price may fill."""
NODE = "02" * 33

Verb = Callable[["People"], Awaitable[Any]]


class People:
    """alice with a channel of two members and a request to answer; bob, who has made her an offer."""

    def __init__(self, alice: AsyncClient, bob: AsyncClient, carol: str) -> None:
        self.alice, self.bob, self.carol = alice, bob, carol
        self.offer = self.ecash = self.request = self.channel = ""


async def rows(client: AsyncClient) -> dict[str, list[Any]]:
    """Everything in a home that is nobody else's: counters, journals, stamps."""

    def rows_on(connection: sqlite3.Connection) -> dict[str, list[Any]]:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables if name not in PUBLIC}

    return await client._store.run(rows_on)


VERBS: dict[str, tuple[Verb, list[int], tuple[int, int]]] = {
    "letter": (lambda p: p.alice.send(p.bob.npub, "x", dry_run=True), [1], (0, 0)),
    "large letter": (lambda p: p.alice.send(p.bob.npub, "x" * 8_000, dry_run=True), [1], (0, 0)),
    "post": (lambda p: p.alice.channels.post(p.channel, "x", once="k", dry_run=True), [1], (0, 0)),
    "invitation": (lambda p: p.alice.channels.invite(p.channel, p.carol, dry_run=True), [1], (0, 0)),
    "removal": (lambda p: p.alice.channels.remove(p.channel, p.bob.npub, dry_run=True), [1], (0, 0)),
    "permission": (lambda p: p.alice.channels.allow(p.channel, [p.bob.npub], dry_run=True), [1, 1], (0, 0)),
    "telling again": (lambda p: p.alice.channels.retell(p.channel, dry_run=True), [], (0, 0)),
    "paid": (lambda p: p.alice.paid.send(p.bob.npub, "x", sat=9, dry_run=True), [2], (9_000, fee_limit(9_000))),
    "held": (
        lambda p: p.alice.paid.send(p.bob.npub, "x", most=50, hold=True, once="k", dry_run=True),
        [2],
        (50_000, fee_limit(50_000)),
    ),
    "answer": (lambda p: p.alice.paid.answer(p.request, 3, dry_run=True), [1], (0, 0)),
    "offer": (
        lambda p: p.alice.offers.sell([p.bob.npub, p.carol], "x", sat=9, once="k", dry_run=True),
        [1, 1, 1, 1],
        (0, 0),
    ),
    "offer for ecash": (lambda p: p.alice.offers.sell(p.carol, "x", sat=9, ecash=True, dry_run=True), [1, 1], (0, 0)),
    "offer by the office": (
        lambda p: p.alice.offers.sell(p.carol, "x", sat=9, trust_office=True, dry_run=True),
        [1, 1, 1],
        (0, 0),
    ),
    "buying": (lambda p: p.alice.offers.buy(p.offer, dry_run=True), [], (7_000, fee_limit(7_000))),
    "buying with ecash": (lambda p: p.alice.offers.buy(p.ecash, dry_run=True), [1], (5_000, 0)),
    "notice by hand": (lambda p: p.alice.notices.send(p.bob.npub, "x", once="k", dry_run=True), [1], (0, 0)),
    "notice by payment": (
        lambda p: p.alice.notices.send(p.bob.npub, "x", pay=NODE, sat=4, dry_run=True),
        [1],
        (4_000, fee_limit(4_000)),
    ),
    "notice by LNURL": (
        lambda p: p.alice.notices.send(p.bob.npub, "x", pay="bob@127.0.0.1:9", sat=4, dry_run=True),
        [1],
        (4_000, fee_limit(4_000)),
    ),
    "prekeys": (lambda p: p.alice.sessions.publish(once="k", dry_run=True), [1], (0, 0)),
    "introduction": (lambda p: p.alice.sessions.introduce(p.carol, dry_run=True), [1], (0, 0)),
    "session": (lambda p: p.alice.send(p.bob.npub, "x", session=True, dry_run=True), [1], (0, 0)),
}


def receipts_of(found: Any) -> list[Receipt]:
    if isinstance(found, list):
        return [receipt for each in found for receipt in receipts_of(each)]
    if isinstance(found, Receipt):
        return [found]
    return list(found.receipts) if hasattr(found, "receipts") else [found.receipt]


@pytest.fixture
async def people(client: Callable[..., AsyncClient], meddler: Meddler, office: Sandbox) -> People:
    alice = client(transport=meddler, lightning=Purse(office.wallet()))
    bob, carol = client(lightning=Purse(office.wallet())), client()
    await alice.stamps.buy(30)
    await bob.stamps.buy(30)
    found = People(alice, bob, carol.npub)
    news = await alice.channels.create("News")
    found.channel = news.id
    for each in (bob.npub, client().npub):
        await alice.channels.invite(news.id, each)
    await bob.sessions.publish()
    (lightning,) = await bob.offers.sell(alice.npub, "report", sat=7)
    (ecash,) = await bob.offers.sell(alice.npub, "report", sat=5, ecash=True)
    found.offer, found.ecash = lightning.offer, ecash.offer
    with pytest.raises(NotAnswered):
        await bob.paid.send(alice.npub, "x", wait=0)
    (request,) = await alice.paid.requests()
    found.request = request.id
    return found


async def test_the_price_is_said_and_nothing_is_touched(people: People, meddler: Meddler) -> None:
    alice = people.alice
    wallet: Any = alice.payments.wallet
    before, balance = await rows(alice), await wallet.balance()
    for name, (verb, stamps, (msat, fee)) in VERBS.items():
        meddler.asked.clear()
        found = await verb(people)
        receipts = receipts_of(found)
        assert [each.stamps for each in receipts] == stamps, name
        assert {part.code for each in receipts for part in each.relays} <= {"dry-run"}, name
        assert {part.office for each in receipts for part in each.relays} <= {alice.office.url}
        if msat:
            assert (found.msat, found.fee_msat) == (msat, fee), name
        assert not [each for each in meddler.asked if each.startswith(("EVENT", "POST"))], name
        assert await rows(alice) == before, name
    assert (wallet.told, await wallet.balance()) == (0, balance)


async def test_at_two_offices_each_and_all(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    alice, bob = await stamped(make(tmp_path / "alice"), 9, 9), make(tmp_path / "bob")
    news = await alice.channels.create("News")
    before = await rows(alice)
    post = await alice.channels.post(news.id, "x", dry_run=True)
    assert (post.code, post.stamps) == ("dry-run", 2)
    assert [(each.office, each.code, each.stamps) for each in post.relays] == [
        (office.url, "dry-run", 1),
        (other, "dry-run", 1),
    ]
    notice = await alice.notices.send(bob.npub, "x", dry_run=True)
    assert [(each.office, each.stamps) for each in notice.receipts] == [(office.url, 1), (other, 1)]
    alice._network = alice._transport
    relay = await alice.notices.send(bob.npub, "x", relays=[other, "http://127.0.0.1:9"], dry_run=True)
    assert [each.code for each in relay.receipts] == ["dry-run", "dry-run", "unreachable"]
    for away, codes in ((other, ["dry-run", "unreachable"]), (office.url, ["unreachable", "dry-run"])):
        await close(alice, away)
        await alice._store.run(lambda c: c.execute("DELETE FROM offices"))
        post = await alice.channels.post(news.id, "x", dry_run=True)
        assert (post.code, post.stamps, [each.code for each in post.relays]) == ("dry-run", 1, codes)
    assert await rows(alice) == before
