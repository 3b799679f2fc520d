"""Channels, offers, paid messages, notices and sessions over two post offices, of which either may be away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Sandbox, ledger
from pennypost.channels.book import KEEP, SKEW
from pennypost.ledger import Balance
from pennypost.play import FUNDS
from pennypost.protocol.errors import NotAnswered, OfficeUnreachable
from pennypost.sessions import KIND_PREKEYS
from tests.sdk.deaths import Killed, kill_after_commit
from tests.sdk.test_channels import DAY, Clock
from tests.sdk.test_channels import read as posts
from tests.sdk.test_channels import texts as post_texts
from tests.sdk.test_offers import Purse
from tests.sdk.test_paid_mail import answering
from tests.sdk.test_several_offices import MOST_STEPS, Make, close, make, read, stamped, texts

__all__ = ["make"]
Person = Callable[..., Any]


@pytest.fixture
def person(make: Make, office: Sandbox, tmp_path: Path) -> Person:
    """`await person(name)` is a client of both offices, with 20 stamps of each mint and a wallet."""

    async def made(name: str, amount: int = 20, **options: Any) -> AsyncClient:
        options = {"lightning": Purse(office.wallet())} | options
        return await stamped(make(tmp_path / name, **options), amount, amount)

    return made


@pytest.fixture
def at(make: Make, tmp_path: Path) -> Callable[..., AsyncClient]:
    """`at(name, url)` is the same home as a client of one office alone."""
    return lambda name, url, **options: make(tmp_path / name, url, **options)


def said(receipt: Any) -> dict[str, str]:
    return {each.office: each.code for each in receipt.relays}


# Channels


async def test_a_post_is_at_each_office_and_is_read_once(person: Person, at: Any, office: Sandbox, other: str) -> None:
    alice, bob = await person("alice"), await person("bob", 0)
    news = await alice.channels.create("News")
    invited = await alice.channels.invite(news.id, bob.npub)
    assert said(invited) == {office.url: "accepted", other: "accepted"} and invited.stamps == 2
    assert all(each.reason for each in invited.relays)
    assert await posts(bob) == []
    await bob.channels.join(news.id)
    posted = await alice.channels.post(news.id, "both")
    assert said(posted) == {office.url: "accepted", other: "accepted"} and posted.stamps == 2
    await at("alice", other).channels.post(news.id, "there")
    await at("alice", office.url).channels.post(news.id, "here")
    found = await posts(bob)
    assert sorted(each.text for each in found) == ["both", "here", "there"]
    assert {each.text: each.office for each in found if each.text != "both"} == {"here": office.url, "there": other}
    assert await posts(bob) == []
    assert await alice.purse.balances() == {office.url: Balance(17), other: Balance(17)}


async def test_a_channel_while_an_office_is_away(person: Person, at: Any, office: Sandbox, other: str) -> None:
    alice, bob = await person("alice"), await person("bob", 0)
    news = await alice.channels.create("News")
    await close(alice, other)
    receipt = await alice.channels.invite(news.id, bob.npub)
    assert said(receipt) == {office.url: "accepted", other: "unreachable"} and receipt.stamps == 1
    await close(bob, other)
    assert await posts(bob) == []
    await bob.channels.join(news.id)
    posted = await alice.channels.post(news.id, "x")
    assert posted.accepted and await post_texts(bob) == ["x"]
    (first, second) = await alice.outbox()
    before = await alice.purse.balances()
    await close(alice)
    assert {each.event_id for each in await alice.flush()} == {first.event_id, second.event_id}
    assert await alice.outbox() == []
    after = await alice.purse.balances()
    assert after[office.url] == before[office.url]
    assert after[other].stamps + after[other].reserved == before[other].stamps + before[other].reserved - 2
    # What it has of the other office already is not shown a second time.
    await close(bob)
    assert await post_texts(bob) == []
    await close(bob, office.url, other)
    with pytest.raises(OfficeUnreachable):
        await posts(bob)


async def test_a_key_that_comes_late_opens_what_was_passed_over(person: Person) -> None:
    """One who was told of a change after posts were made under it reads them then."""
    alice, bob, carol = await person("alice"), await person("bob", 0), await person("carol", 0)
    news = await alice.channels.create("News")
    for each in (bob, carol):
        await alice.channels.invite(news.id, each.npub)
        await posts(each)
        await each.channels.join(news.id)
    await alice.channels.post(news.id, "before")
    assert await post_texts(bob) == ["before"]
    await close(alice, *(each.url for each in alice.offices))
    with pytest.raises(OfficeUnreachable):
        await alice.channels.remove(news.id, carol.npub, patience=0)
    await close(alice)
    await alice.channels.post(news.id, "between")
    assert await post_texts(bob) == []
    assert [each.accepted for each in await alice.channels.retell(news.id)] == [True]
    assert await post_texts(bob) == ["between"]
    assert await post_texts(bob) == [] and await post_texts(carol) == ["before"]


async def test_keys_wait_for_an_office_that_is_away_and_not_for_ever(person: Person, other: str) -> None:
    clock = Clock()
    alice = await person("alice", clock=clock)
    news = await alice.channels.create("News", period=DAY)

    async def first() -> int:
        (position,) = await alice._store.run(lambda c: c.execute("SELECT position FROM channel_keys").fetchone())
        return position

    clock.ahead = 3 * DAY + SKEW
    await close(alice, other)
    await posts(alice)
    assert await first() == 0
    await close(alice)
    await posts(alice)
    assert await first() > 0
    before = await first()
    clock.ahead += KEEP + 3 * DAY + SKEW
    await close(alice, other)
    await posts(alice)
    assert await first() > before and news.mine


# Messages with their payment


@pytest.mark.parametrize("hold", [False, True])
async def test_a_payment_is_one_and_its_message_at_each_office(
    person: Person, at: Any, office: Sandbox, other: str, hold: bool
) -> None:
    alice, bob = await person("alice"), await person("bob")
    async with answering(bob, price=5):
        done = await alice.paid.send(bob.npub, "x", sat=9, hold=hold)
    # What was held was posted, and stamped, before it was paid for.
    code = "duplicate" if hold else "accepted"
    assert said(done.receipt) == {office.url: code, other: code} and done.receipt.stamps == 2 - 2 * hold
    wallet: Any = alice.payments.wallet
    assert (wallet.told, await wallet.balance()) == (1, FUNDS - 9_000)
    assert [(mail.text, mail.paid_msat) for mail in await read(bob)] == [("x", 9_000)]
    for url in (office.url, other):
        assert await texts(at("bob", url), again=True) == ["x"]


async def test_an_office_that_was_away_releases_later(person: Person, at: Any, office: Sandbox, other: str) -> None:
    alice, bob = await person("alice"), await person("bob")
    wallet: Any = alice.payments.wallet
    pay = wallet.pay

    async def pay_and_cut(request: str, **options: Any) -> Any:
        await close(alice, other)
        return await pay(request, **options)

    wallet.pay = pay_and_cut
    async with answering(bob, price=5):
        done = await alice.paid.send(bob.npub, "x", sat=9, hold=True)
    assert done.receipt.accepted and wallet.told == 1
    assert await texts(at("bob", other)) == [] and await texts(at("bob", office.url)) == ["x"]
    wallet.pay = pay
    await close(alice)
    await alice.flush()
    assert await texts(at("bob", other), again=True) == ["x"]
    assert await alice._store.run(lambda c: c.execute("SELECT count(*) FROM releases").fetchone()) == (0,)
    assert wallet.told == 1


async def test_a_hold_that_comes_to_an_office_after_the_payment_is_released_there(
    person: Person, at: Any, office: Sandbox, other: str
) -> None:
    alice, bob = await person("alice"), await person("bob")
    await close(alice, other)
    async with answering(bob, price=5):
        await alice.paid.send(bob.npub, "x", sat=9, hold=True)
    assert await texts(at("bob", other)) == []
    await close(alice)
    await alice.flush()
    assert await texts(at("bob", other), again=True) == ["x"] == await texts(bob)


# Offers


@pytest.mark.parametrize("trust_office", [False, True])
async def test_an_offer_is_bought_at_the_office_that_is_left(
    person: Person, office: Sandbox, other: str, trust_office: bool
) -> None:
    habit = "neither" if trust_office else ""
    seller, buyer = await person("seller", lightning=Purse(office.wallet(), habit)), await person("buyer", 0)
    (sale,) = await seller.offers.sell(buyer.npub, "report", sat=7, trust_office=trust_office)
    assert [said(each) for each in sale.receipts] == [{office.url: "accepted", other: "accepted"}] * (2 + trust_office)
    await close(buyer, office.url)
    (listed,) = await buyer.offers.all()
    assert listed.id == sale.id
    bought = await buyer.offers.buy(sale.id, trust_office=trust_office)
    wallet: Any = buyer.payments.wallet
    assert (bought.text, wallet.told) == ("report", 1)
    await close(buyer)
    again = await buyer.offers.buy(sale.id, trust_office=trust_office)
    assert (again.text, wallet.told) == ("report", 1) and len(await buyer.offers.all()) == 1


# Notices


async def test_a_notice_names_the_offices_and_is_fetched_at_the_one_that_is_left(
    person: Person, office: Sandbox, other: str
) -> None:
    alice, bob = await person("alice"), await person("bob", 0)
    wallet: Any = alice.payments.wallet
    node = bob.payments.wallet.inner.node.hex()  # type: ignore[attr-defined]
    done = await alice.notices.send(bob.npub, "x", pay=node, sat=3)
    assert [(each.office, each.code) for each in done.receipts] == [(office.url, "accepted"), (other, "accepted")]
    assert await wallet.balance() == FUNDS - 3_000
    await close(bob, office.url)
    mail = await bob.notices.fetch(done.notice)
    assert (mail.text, mail.office) == ("x", other)
    await close(bob)
    assert await texts(bob) == ["x"]


async def test_a_relay_that_was_silent_gets_the_same_frame_later(
    make: Make, person: Person, office: Sandbox, other: str, tmp_path: Path
) -> None:
    """Named for one letter: it is paid once, by the same stamp, however often the command is repeated."""
    alice, bob = await stamped(make(tmp_path / "alice", office.url), 9), await person("bob", 0)
    await alice.purse.add(other)
    await (await alice.purse.at(other)).buy(9)
    alice._network = alice._transport
    prices = await alice.notices.prices("x", [other])
    assert [(each.relay, each.sat) for each in prices] == [(office.url, 1), (other, 1)]
    send = Closing(alice, other)
    done = await alice.notices.send(bob.npub, "x", relays=[other], once="n")
    assert {each.office: each.code for each in done.receipts} == {office.url: "accepted", other: "unreachable"}
    assert send.frames == 1
    (waiting,) = await alice.outbox()
    assert (waiting.office, waiting.stamps) == (other, 1)
    await close(alice)
    send.stop()
    (later,) = await alice.flush()
    assert (later.office, later.accepted, later.event_id) == (other, True, waiting.event_id)
    again = await alice.notices.send(bob.npub, "x", relays=[other], once="n")
    assert {each.office: each.code for each in again.receipts} == {office.url: "duplicate", other: "duplicate"}
    balances = await alice.purse.balances()
    assert (balances[office.url], balances[other]) == (Balance(8), Balance(8))
    assert await texts(bob) == ["x"] and await alice.outbox() == []
    assert await alice._store.run(lambda c: c.execute("SELECT count(*) FROM relays").fetchone()) == (1,)
    await alice.flush()
    assert await alice._store.run(lambda c: c.execute("SELECT count(*) FROM relays").fetchone()) == (0,)


async def test_a_notice_at_a_relay_killed_at_any_step_is_one_frame_at_each(
    make: Make, office: Sandbox, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    bob = make(tmp_path / "bob")

    def sender(home: Path) -> AsyncClient:
        made = make(home, office.url)
        made._network = made._transport
        return made

    # Some of the steps, for time's sake: each of them with one office is in test_notices.py.
    for step in range(0, MOST_STEPS, 5):
        home, died = tmp_path / str(step), False
        await stamped(sender(home), 3)
        there = make(home, other)
        await there.stamps.buy(3)
        with monkeypatch.context() as patch:
            kill_after_commit(patch, step)
            dying = sender(home)
            try:
                await dying.notices.send(bob.npub, str(step), relays=[other], once="k", patience=0)
            except Killed:
                died = True
        await dying.office.close()
        alice = sender(home)
        done = await alice.notices.send(bob.npub, str(step), relays=[other], once="k")
        assert {each.office: each.accepted for each in done.receipts} == {office.url: True, other: True}, step
        assert await texts(bob) == [str(step)] and await alice.outbox() == []
        checks = await alice.purse.check()
        assert {url: getattr(each, "stamps", each) for url, each in checks.items()} == {office.url: 2, other: 2}, step
        if not died:
            return
    pytest.fail("the work had no end")


class Closing:
    """An office that takes its frame and says nothing more: it is cut off with the first one."""

    def __init__(self, client: AsyncClient, url: str) -> None:
        self.frames, self._client = 0, client
        roads: Any = client._transport
        self._roads, self._websocket = roads, roads.websocket

        async def websocket(address: str, **options: Any) -> Any:
            if address == url:
                self.frames += 1
                raise OfficeUnreachable
            return await self._websocket(address, **options)

        roads.websocket = websocket

    def stop(self) -> None:
        self._roads.websocket = self._websocket


# Sessions and addresses


async def test_a_session_over_both_comes_once(person: Person, office: Sandbox, other: str) -> None:
    alice, bob = await person("alice"), await person("bob")
    published = await bob.sessions.publish()
    assert said(published) == {office.url: "accepted", other: "accepted"} and published.stamps == 2
    assert len(await alice._desk.published(bob.identity.pub, KIND_PREKEYS)) == 1
    await close(alice, office.url)
    assert len(await alice.sessions.addresses(bob.npub)) == 1
    await close(alice)
    one = await alice.send(bob.npub, "one", session=True)
    assert said(one) == {office.url: "accepted", other: "accepted"}
    assert await texts(bob) == ["one"] and await texts(bob) == []
    back = await bob.send(alice.npub, "two", session=True)
    assert back.accepted and await texts(alice) == ["two"]
    await close(alice, other)
    await alice.send(bob.npub, "three", session=True)
    await close(bob, other)
    assert await texts(bob) == ["three"]
    await close(alice)
    await alice.flush()
    await close(bob)
    assert await texts(bob) == []


async def test_a_session_that_was_lost_is_told_once(
    person: Person, make: Make, office: Sandbox, other: str, tmp_path: Path
) -> None:
    alice, bob = await person("alice"), await person("bob")
    await bob.sessions.publish()
    await alice.send(bob.npub, "one", session=True)
    assert await texts(bob) == ["one"]
    await bob.sessions.forget(alice.npub)
    await bob.send(alice.npub, "plain")
    await texts(alice)
    balance = (await bob.purse.balances())[other].stamps
    await alice.send(bob.npub, "two", session=True)
    found = await texts(bob)
    assert found in ([], ["two"])
    assert balance - (await bob.purse.balances())[other].stamps <= 1


async def test_an_address_names_both(person: Person, office: Sandbox, other: str) -> None:
    alice, bob = await person("alice", 0), await person("bob", 0)
    receipt = await bob.addresses.publish()
    assert said(receipt) == {office.url: "accepted", other: "accepted"}
    await close(alice, office.url)
    found = await alice.addresses.find(bob.npub)
    assert found == await bob.addresses.make() and found.startswith("nprofile1")
    await close(bob, other)
    assert said(await bob.addresses.publish()) == {office.url: "accepted", other: "unreachable"}
    await close(bob, office.url, other)
    with pytest.raises(OfficeUnreachable):
        await bob.addresses.publish()


# What others name


async def test_what_a_letter_names_is_not_dialled(person: Person, office: Sandbox, other: str) -> None:
    """An offer, an invitation and a request may come with anything in them: our own offices alone are asked."""
    mallory, bob = await person("mallory"), await person("bob", 0)
    roads: Any = bob._transport
    bait = "http://127.0.0.1:9/bait"
    news = await mallory.channels.create(bait)
    await mallory.channels.invite(news.id, bob.npub)
    await mallory.offers.sell(bob.npub, bait, sat=7, description=bait)
    with pytest.raises(NotAnswered):
        await mallory.paid.send(bob.npub, bait, about=bait, sat=5, wait=0)
    await mallory.send(bob.npub, bait)
    roads.asked.clear()
    await posts(bob)
    await bob.channels.join(news.id)
    assert len(await bob.offers.all()) == 1 and len(await bob.paid.requests()) == 1
    assert await texts(bob) == [bait]
    assert roads.asked and all(each.startswith((office.url, other)) for each in roads.asked)
