"""Other people's relay programs (nostr-tools, nostr-sdk, NDK): all they do at a relay, with stamps from a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import nostr_sdk
import pytest
import pytest_asyncio

from tests.postoffice.house import Author, House, open_house, secret_key
from tests.support.foreign import NODE, node
from tests.support.relay import plain
from tests.support.require import require
from tests.support.stamper import stamping


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def test_nostr_tools(house: House) -> None:
    """Publish, subscribe, count, delete, authenticate, NIP-17 mail, and what either lacks by negentropy."""
    author = Author()
    shared, ours, theirs = ([author.sign(1, age=number) for number in range(50)] for _ in range(3))
    async with house.relay() as relay, stamping(house.settings.port, house.purse.token) as url:
        await house.pay(relay, shared + ours)
        given = {
            "url": url,
            "alice": secret_key().hex(),
            "bob": secret_key().hex(),
            "records": [[event.created_at, event.id] for event in shared + theirs],
            "filter": {"authors": [author.pubkey]},
        }
        found = await asyncio.to_thread(node, "relay.mjs", given=given)
    assert found["heard"][:2] == found["ids"]
    assert all(answer.startswith("accepted:") for answer in found["answers"])
    assert (found["count"], found["left"]) == (2, 1)
    assert found["refused"].endswith("[deleted]")
    assert found["guarded"].startswith("accepted:") and found["mail"] == "hello Bob"
    assert sorted(found["need"]) == sorted(event.id for event in ours)
    assert sorted(found["have"]) == sorted(event.id for event in theirs)


async def test_ndk(house: House) -> None:
    """Publish, also with a stamp by hand, subscribe, count, delete, authenticate, gift wraps."""
    require((NODE / "node_modules" / "@nostr-dev-kit").exists(), "NDK is not installed (make node)")
    async with stamping(house.settings.port, house.purse.token) as url:
        proof = house.purse.proof()
        keys = {"alice": secret_key().hex(), "bob": secret_key().hex()}
        given = {"url": url, "token": house.purse.token(proof)} | keys
        found = await asyncio.to_thread(node, "ndk.mjs", given=given)
        assert found["arrived"] == [found["byHand"]] and await house.spent(proof) == [True]
    everything = sorted([*found["ids"], found["guarded"]])
    assert sorted(found["fetched"]) == everything and sorted(found["heard"]) == everything
    assert found["count"] == 3 and found["left"] == found["ids"][1:] and found["mail"] == "hello Bob"


async def test_ndk_sync(house: House) -> None:
    """NDK reconciles its cache with us by negentropy (@nostr-dev-kit/sync), fetches what it lacks, and is then done."""
    require((NODE / "node_modules" / "@nostr-dev-kit" / "sync").exists(), "NDK's sync is not installed (make node)")
    author = Author()
    shared, ours, theirs = ([author.sign(1, age=number) for number in range(50)] for _ in range(3))
    async with house.relay() as relay:
        await house.pay(relay, shared + ours)
        known = [plain(event) for event in shared + theirs]
        given = {"url": house.websocket_url, "known": known, "filter": {"authors": [author.pubkey]}}
        found = await asyncio.to_thread(node, "ndk_sync.mjs", given=given)
    assert found["errors"] == [] and found["supported"] is True
    assert sorted(found["need"]) == sorted(found["fetched"]) == sorted(event.id for event in ours)
    assert sorted(found["have"]) == sorted(event.id for event in theirs) and found["again"] == []
    # negentropy, and no REQ in its place
    assert {"initiating", "reconciling", "closing"} <= set(found["rounds"])


async def test_nostr_sdk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish, fetch, subscribe, count, delete, authenticate, NIP-17 mail, and what either lacks by negentropy."""
    alice, bob, author = nostr_sdk.Keys.generate(), nostr_sdk.Keys.generate(), Author()
    patience = timedelta(seconds=20)
    shared, ours, theirs = ([author.sign(1, age=number) for number in range(40)] for _ in range(3))
    # its authenticator is called from a thread of its own
    monkeypatch.setattr("nostr_sdk.nostr_sdk._UNIFFI_GLOBAL_EVENT_LOOP", asyncio.get_running_loop())
    client = nostr_sdk.ClientBuilder().authenticator(nostr_sdk.SignerAuthenticator(alice)).build()
    async with house.relay() as relay, stamping(house.settings.port, house.purse.token) as url:
        await house.pay(relay, shared + ours)
        address = nostr_sdk.RelayUrl.parse(url)
        await client.add_relay(address, and_connect=True)

        def signed(kind: int, content: str, *tags: list[str]) -> nostr_sdk.Event:
            made = nostr_sdk.EventBuilder(nostr_sdk.Kind(kind), content).tags(list(map(nostr_sdk.Tag.parse, tags)))
            return made.finalize(alice)

        async def fetch(wanted: nostr_sdk.Filter) -> set[str]:
            found = await client.fetch_events(nostr_sdk.ReqTarget.auto([wanted]), timeout=patience)
            return {event.id().to_hex() for event in found}

        notes = [signed(1, "one"), signed(1, "two"), signed(1, "for members", ["-"])]
        for note in notes:
            sent = await client.send_event(note)
            assert list(sent.success) and not sent.failed, sent
        own = nostr_sdk.Filter().author(alice.public_key()).kind(nostr_sdk.Kind(1))
        assert await fetch(own) == {note.id().to_hex() for note in notes}
        there = await client.relay(address)
        assert there is not None and await there.count_events(own, patience) == 3
        await client.send_event(signed(5, "", ["e", notes[0].id().to_hex()]))
        assert await fetch(own) == {note.id().to_hex() for note in notes[1:]}
        mail = nostr_sdk.nip17_make_private_msg(alice, bob.public_key(), "hello Bob")
        await client.send_event(mail)
        inbox = nostr_sdk.Filter().pubkey(bob.public_key()).kind(nostr_sdk.Kind(1059))
        (wrap,) = await client.fetch_events(nostr_sdk.ReqTarget.auto([inbox]), timeout=patience)
        assert nostr_sdk.UnwrappedGift.from_gift_wrap(bob, wrap).rumor().content() == "hello Bob"

        notices = client.notifications()
        theirs_now = nostr_sdk.Filter().author(nostr_sdk.PublicKey.parse(author.pubkey)).kind(nostr_sdk.Kind(7))
        await client.subscribe(nostr_sdk.ReqTarget.auto([theirs_now]))
        live = [author.sign(7), author.sign(7)]
        await house.pay(relay, live)
        heard = set[str]()
        async with asyncio.timeout(20):
            while len(heard) < len(live):
                notice = await notices.next()
                if isinstance(notice, nostr_sdk.ClientNotification.NEW_EVENT):
                    heard.add(notice.event.id().to_hex())
        assert heard == {event.id for event in live}

        held = [
            nostr_sdk.NegentropyItem(
                id=nostr_sdk.EventId.parse(event.id), timestamp=nostr_sdk.Timestamp.from_secs(event.created_at)
            )
            for event in shared + theirs
        ]
        wanted = nostr_sdk.Filter().author(nostr_sdk.PublicKey.parse(author.pubkey)).kind(nostr_sdk.Kind(1))
        summary = await there.sync(wanted, items=held, opts=nostr_sdk.SyncOptions().dry_run())
        assert {each.to_hex() for each in summary.remote} == {event.id for event in ours}
        assert {each.to_hex() for each in summary.local} == {event.id for event in theirs}
    await client.shutdown()
