"""Channels over a real office: who is in reads, who is out does not, and a repeat costs no second stamp."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pennypost import AsyncClient, Client, Sandbox, ledger
from pennypost.channels.reader import Post
from pennypost.home import DATABASE
from pennypost.protocol.channel import encode_grant, parse_grant
from pennypost.protocol.errors import (
    ChannelUnknown,
    InvalidInput,
    NotChannelOwner,
    NotChannelPoster,
    OfficeUnreachable,
    OnceUsed,
)
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.meddler import Meddler

Make = Callable[..., AsyncClient]
DAY = 86_400
MOST_STEPS = 60


class Clock:
    """A clock that a test turns forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def read(client: AsyncClient, channel: str | None = None, **options: Any) -> list[Post]:
    return [post async for post in client.channels.read(channel, **options)]


async def texts(client: AsyncClient, channel: str | None = None, **options: Any) -> list[str]:
    return [post.text for post in await read(client, channel, **options)]


async def owner(client: Make, *args: Any, stamps: int = 20, **options: Any) -> AsyncClient:
    made = client(*args, **options)
    await made.stamps.buy(stamps)
    return made


async def joined(alice: AsyncClient, channel: str, *others: AsyncClient) -> None:
    for each in others:
        assert (await alice.channels.invite(channel, each.npub)).accepted
        await read(each)
        await each.channels.join(channel)


@pytest.mark.parametrize("privacy", ["fast", "page", "all"])
async def test_a_post_reaches_every_member_for_one_stamp(client: Make, privacy: str) -> None:
    alice, bob, carol, stranger = await owner(client), client(), client(), client()
    news = await alice.channels.create("News")
    await joined(alice, news.id, bob, carol)
    before = await alice.stamps.balance()
    receipt = await alice.channels.post("News", "meet at nine")
    assert receipt.accepted and await alice.stamps.balance() == before - 1
    for each in (alice, bob, carol):
        (post,) = await read(each, privacy=privacy)
        assert (post.channel, post.name, post.author, post.text) == (news.id, "News", alice.npub, "meet at nine")
        assert (post.id, post.box, post.kept_until) == (receipt.event_id, False, receipt.kept_until)
        assert await read(each, privacy=privacy) == []
    assert await read(stranger, privacy=privacy) == []
    assert await stranger.channels.all() == []
    assert [mail async for mail in bob.inbox()] == []


async def test_what_a_channel_says(client: Make) -> None:
    alice, bob = await owner(client), client()
    made = await alice.channels.create("News", posters=[bob.npub])
    assert (made.owner, made.mine, made.joined, made.posters) == (alice.npub, True, True, (bob.npub,))
    assert await alice.channels.members(made.id) == []
    await alice.channels.invite(made.id, bob.npub)
    assert await read(bob) == []
    (invited,) = await bob.channels.all()
    assert (invited.id, invited.name, invited.owner) == (made.id, "News", alice.npub)
    assert (invited.mine, invited.joined, invited.box) == (False, False, made.box)
    assert (await bob.channels.join(made.id[:8])).joined
    assert await alice.channels.members("News") == [bob.npub]
    for forbidden in (bob.channels.members, bob.channels.retell, bob.channels.sell):
        with pytest.raises(NotChannelOwner):
            await forbidden(made.id)
    await bob.channels.leave(made.id)
    assert await bob.channels.all() == []
    with pytest.raises(ChannelUnknown):
        await bob.channels.post(made.id, "hello")


async def test_an_invitation_that_was_not_accepted_shows_nothing(client: Make) -> None:
    alice, bob = await owner(client), client()
    news = await alice.channels.create("News")
    await alice.channels.invite(news.id, bob.npub)
    await alice.channels.post(news.id, "one")
    assert await texts(bob) == []
    await bob.channels.join(news.id)
    assert await texts(bob) == ["one"]


async def test_only_those_who_may_are_heard(client: Make, tmp_path: Path) -> None:
    alice, bob, carol = await owner(client), await owner(client), await owner(client, tmp_path / "carol")
    news = await alice.channels.create("News", posters=[bob.npub])
    await joined(alice, news.id, bob, carol)
    await bob.channels.post(news.id, "from Bob")
    with pytest.raises(NotChannelPoster):
        await carol.channels.post(news.id, "from Carol")
    # A client that does not care: the members' clients do.
    with sqlite3.connect(tmp_path / "carol" / DATABASE) as database:
        database.execute("UPDATE channels SET posters = '[]'")
    assert (await carol.channels.post(news.id, "from Carol")).accepted
    assert await texts(alice) == await texts(bob) == ["from Bob"]
    assert [each.accepted for each in await alice.channels.allow(news.id, [carol.npub])] == [True, True]
    await read(bob)
    await carol.channels.post(news.id, "now")
    assert await texts(alice) == await texts(bob) == ["now"]
    with pytest.raises(NotChannelPoster):
        await bob.channels.post(news.id, "from Bob")


async def test_who_is_put_out_reads_and_posts_no_more(client: Make) -> None:
    clock = Clock()
    alice, bob = await owner(client, clock=clock), await owner(client, clock=clock)
    carol = await owner(client, clock=clock)
    news = await alice.channels.create("News")
    await joined(alice, news.id, bob, carol)
    await alice.channels.post(news.id, "before")
    (receipt,) = await alice.channels.remove(news.id, carol.npub)
    assert receipt.accepted and await alice.channels.members(news.id) == [bob.npub]
    await alice.channels.post(news.id, "after")
    assert await texts(bob) == ["before", "after"]
    assert await texts(carol) == ["before"]
    (at_bob,), (at_carol,) = await bob.channels.all(), await carol.channels.all()
    assert at_bob.box != at_carol.box == news.box
    # The old key is deleted a day later: what she still posts with it is not opened any more.
    clock.ahead = 2 * DAY - 7_200
    assert await texts(bob) == []
    clock.ahead = 0
    await carol.channels.post(news.id, "still here")
    assert await texts(bob) == []
    with pytest.raises(InvalidInput):
        await alice.channels.remove(news.id, carol.npub)


async def test_the_drop_box(client: Make) -> None:
    alice, bob, stranger = await owner(client), client(), await owner(client)
    news = await alice.channels.create("News")
    await joined(alice, news.id, bob)
    assert news.box is not None
    await stranger.send(news.box, "a tip")
    for each in (alice, bob):
        (post,) = await read(each)
        assert (post.text, post.author, post.box, post.channel) == ("a tip", stranger.npub, True, news.id)


async def test_an_epoch_that_is_sold_opens_itself_alone(client: Make) -> None:
    clock = Clock()
    alice, buyer = await owner(client, clock=clock), client(clock=clock)
    news = await alice.channels.create("News", period=DAY)
    await alice.channels.post(news.id, "today")
    word = await alice.channels.sell(news.id)
    assert parse_grant(word).chain is parse_grant(word).box is None
    taken = await buyer.channels.join(word)
    assert (taken.id, taken.owner, taken.box) == (news.id, alice.npub, None)
    assert await texts(buyer) == ["today"]
    clock.ahead = DAY - 3_700
    tomorrow = await alice.channels.sell(news.id, at=int(clock()) + DAY)
    clock.ahead = 0
    await buyer.channels.join(tomorrow)
    assert [each.id for each in await buyer.channels.all()] == [news.id]
    await alice.channels.post(news.id, "still today")
    assert await texts(buyer) == ["still today"]


async def test_keys_of_epochs_that_are_over_are_deleted(client: Make, tmp_path: Path) -> None:
    clock = Clock()
    alice, bob = await owner(client, clock=clock), client(tmp_path / "bob", clock=clock)
    news = await alice.channels.create("News", period=DAY)
    await joined(alice, news.id, bob)
    first = parse_grant(await alice.channels.sell(news.id)).epoch
    file = tmp_path / "bob" / DATABASE

    def key() -> tuple[int, str]:
        with sqlite3.connect(file) as database:
            return database.execute("SELECT position, key FROM channel_keys").fetchone()

    start = key()
    clock.ahead = 2 * DAY - 600
    await read(bob)
    assert key() == start
    clock.ahead = 2 * DAY + 600
    await read(bob)
    assert key()[0] == start[0] + 1
    held = file.read_bytes() + file.with_name(file.name + "-wal").read_bytes()
    assert start[1].encode() not in held and key()[1].encode() in held
    assert first is not None
    await read(alice)
    with pytest.raises(InvalidInput):
        await alice.channels.sell(news.id, at=int(clock()) - 2 * DAY)


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_inviting(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it dies of and when: repeated, the member has one invitation, and it cost one stamp."""
    monkeypatch.setattr(ledger, "READY", 0)
    for step in range(MOST_STEPS):
        home, bob = tmp_path / str(step), client()
        news = await (await owner(client, home, stamps=4)).channels.create("News")

        async def invite(alice: AsyncClient, id: str = news.id, npub: str = bob.npub) -> None:
            await alice.channels.invite(id, npub, patience=0)

        died = await dies(office, home, invite, way, step, monkeypatch)
        alice = client(home)
        assert (await alice.channels.invite(news.id, bob.npub)).accepted
        check = await alice.stamps.check()
        assert (check.stamps, check.reserved, check.lost, check.problems) == (3, 0, 0, ()), (way, step)
        await read(bob)
        assert [each.id for each in await bob.channels.all()] == [news.id]
        if not died:
            return
    pytest.fail("the work had no end")


async def test_whom_it_could_not_be_told_is_told_later(client: Make, meddler: Meddler) -> None:
    alice = await owner(client, transport=meddler)
    bob, carol = client(), client()
    news = await alice.channels.create("News")
    await joined(alice, news.id, bob, carol)
    meddler.lose_request = 0
    with pytest.raises(OfficeUnreachable):
        await alice.channels.remove(news.id, carol.npub, patience=0)
    meddler.honest()
    assert [each.accepted for each in await alice.channels.retell(news.id)] == [True]
    assert await alice.channels.retell(news.id) == []
    await alice.channels.post(news.id, "after")
    assert (await texts(bob), await texts(carol)) == (["after"], [])


async def test_a_stranger_cannot_change_a_channel(client: Make) -> None:
    alice, mallory, bob = await owner(client), await owner(client), client()
    news = await alice.channels.create("News")
    await joined(alice, news.id, bob)
    word = await alice.channels.sell(news.id)
    other = parse_grant(word)
    assert other.owner != mallory.identity.pub.hex()
    forged = structs.replace(other, owner=mallory.identity.pub.hex(), epoch=None, chain="ab" * 32, version=99)
    with pytest.raises(InvalidInput):
        await bob.channels.join(encode_grant(forged))
    (kept,) = await bob.channels.all()
    assert kept.owner == alice.npub
    await alice.channels.post(news.id, "still ours")
    assert await texts(bob) == ["still ours"]


@pytest.mark.parametrize("word", ["ppch1", "ppch1AAAA", "nothing", ""])
async def test_words_that_are_no_invitation(client: Make, word: str) -> None:
    with pytest.raises((InvalidInput, ChannelUnknown)):
        await client().channels.join(word)


def test_the_sync_face(office: Sandbox) -> None:
    with Client(office) as alice, Client(office) as bob:
        alice.stamps.buy(5)
        news = alice.channels.create("News")
        alice.channels.invite("News", bob.npub)
        assert list(bob.channels.read()) == []
        bob.channels.join(news.id)
        alice.channels.post("News", "hello")
        assert [post.text for post in bob.channels.read()] == ["hello"]


@pytest.mark.parametrize(("way", "once"), [*((way, "monday") for way in WAYS), (WAYS[-1], None)])
async def test_the_same_post_after_a_crash_at_any_step(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, once: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    for step in range(MOST_STEPS):
        home, bob = tmp_path / str(step), client()
        alice = await owner(client, home, stamps=4)
        news = await alice.channels.create("News")
        await joined(alice, news.id, bob)

        async def post(alice: AsyncClient, channel: str = news.id) -> None:
            await alice.channels.post(channel, "x", patience=0, once=once)

        died = await dies(office, home, post, way, step, monkeypatch)
        alice = client(home)
        finished = not await alice.outbox()
        assert {each.to for each in await alice.outbox()} <= {""}
        receipt = await alice.channels.post(news.id, "x", once=once)
        assert receipt.accepted
        arrived, check = await texts(bob), await alice.stamps.check()
        assert (check.reserved, check.lost, check.problems) == (0, 0, ())
        assert await alice.outbox() == [] and len(arrived) == 3 - check.stamps
        # Without a key nobody can tell a repeat from a second post once the first has had its answer.
        assert len(arrived) == 1 or (once is None and finished and len(arrived) == 2), (way, step)
        if once is not None:
            again = await client(home).channels.post(news.id, "x", once=once)
            assert (again.code, again.stamps, again.event_id) == ("duplicate", 0, receipt.event_id)
            assert await texts(bob) == []
            with pytest.raises(OnceUsed):
                await alice.channels.post(news.id, "y", once=once)
        if not died:
            return
    pytest.fail("the work had no end")
