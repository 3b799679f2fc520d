"""A scan key apart from the npub: what it finds, who may hold it, and that old addresses go on working."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from pennypost import AsyncClient, Sandbox
from pennypost.addresses import KIND_MAIL_RELAYS
from pennypost.keys import scan_key_of
from pennypost.protocol import bech32, nip19, secp
from pennypost.protocol.errors import InvalidKey, InvalidPayload
from pennypost.protocol.event import sign_event
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor
from pennypost.protocol.scan_key import ScanKey, decode_scan_key, encode_scan_key, scan_secret_of
from pennypost.protocol.stealth import Address, open_letter, wrap_letter
from pennypost.watcher import Found, Watcher
from tests.sdk.meddler import Meddler
from tests.sdk.test_mail import stamped, texts

Make = Callable[..., AsyncClient]


async def found(office: Sandbox, key: str, meddler: Meddler, after: int = 0) -> list[Found]:
    return [each async for each in Watcher(office.url, key, meddler).found(after=after)]


async def test_letters_to_both_keys_arrive(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client), client(tmp_path)
    told = await bob.addresses.make()
    for number, name in enumerate([bob.npub, told, f"nostr:{told}", bob.identity.pub.hex(), told.upper()]):
        assert (await alice.send(name, f"nr {number}")).accepted
    assert await texts(client(tmp_path)) == [f"nr {number}" for number in range(5)]
    assert await bob.addresses.make() == told


async def test_what_comes_before_the_key_is_used_is_found_after(client: Make, tmp_path: Path) -> None:
    """A home restored from its nsec has the same scan key."""
    alice, bob = await stamped(client), client()
    told = await bob.addresses.make()
    await alice.send(told, "x")
    (tmp_path / "identity").write_text(bob.identity.nsec)
    restored = client(tmp_path)
    assert await texts(restored) == []
    assert await restored.addresses.make() == told
    assert await texts(restored, again=True) == ["x"]


async def test_other_programs_read_the_npub(client: Make) -> None:
    bob = client()
    entity = nip19.decode(await bob.addresses.make())
    assert (entity.prefix, entity.key, entity.relays) == ("nprofile", bob.identity.pub, ("ws://pennypost.sandbox/",))
    assert entity.scan == secp.xonly(scan_secret_of(bob.identity.secret)) != bob.identity.pub


async def test_published_and_found(client: Make) -> None:
    alice, bob = await stamped(client), client()
    assert await alice.addresses.find(bob.npub) == bob.npub
    receipt = await bob.addresses.publish()
    assert receipt.accepted and receipt.stamps == 0
    assert await alice.addresses.find(bob.npub) == await bob.addresses.make()
    (event,) = await alice.office.published(bob.identity.pub, KIND_MAIL_RELAYS)
    assert event.tags[0] == ["relay", "ws://pennypost.sandbox/"]
    await alice.send(await alice.addresses.find(bob.npub), "x")
    assert await texts(bob) == ["x"]


@pytest.mark.parametrize("scan", ["", "ab", "FF" * 32, "ff" * 32, "0" * 64])
async def test_published_by_a_fool(client: Make, scan: str) -> None:
    alice, bob = client(), client()
    event = sign_event(
        bob.identity.secret,
        created_at=int(time.time()),
        kind=KIND_MAIL_RELAYS,
        tags=[["scan", scan]],
        content="",
        aux=bytes(32),
    )
    assert (await bob.office.post(event, None, 20)).accepted
    assert await alice.addresses.find(bob.npub) == bob.npub


async def test_a_watcher_lists_and_can_do_no_more(client: Make, office: Sandbox, meddler: Meddler) -> None:
    """All that a watcher has is the scan key; all that it asks for is what everybody gets."""
    alice, bob, carol = await stamped(client), client(), client()
    key = await bob.addresses.scan_key()
    told = await bob.addresses.make()
    before = len(await found(office, key, meddler))
    assert before == 0
    await alice.send(carol.npub, "for Carol")
    await alice.send(bob.npub, "to the npub alone")
    receipt = await alice.send(told, "for Bob")
    (hit,) = await found(office, key, meddler)
    (event,) = await alice.office.letters([bytes.fromhex(hit.author)])
    assert event.id == receipt.event_id and ["p", hit.receiver] in event.tags
    assert await found(office, key, meddler, after=hit.number) == []
    # Nothing but the feed was asked for, and nothing in the answer is more than a header.
    assert {each.split("?")[0] for each in meddler.asked} == {"GET /v1/headers"}
    assert {field.name for field in fields(hit)} == {"number", "author", "receiver", "size_class", "ttl_class", "held"}
    # With all that the key holds and the whole event, the letter stays shut: it takes b_spend.
    held, author = decode_scan_key(key), bytes.fromhex(hit.author)
    tweak = secp.tagged_hash("stealth", secp.ecdh_x(held.secret, author), author)
    for secret in (held.secret, held.spend, tweak):
        with pytest.raises(InvalidPayload):
            open_letter(event, held.secret, secret)
    assert open_letter(event, held.secret, bob.identity.secret)[1].content == "for Bob"
    assert bob.identity.secret not in held.secret + held.spend and bob.identity.nsec not in key


async def test_held_letters_are_told_apart(client: Make, office: Sandbox, meddler: Meddler) -> None:
    alice, bob = await stamped(client), client()
    key = await bob.addresses.scan_key()
    scan = scan_key_of(await bob.addresses.make())
    assert scan is not None
    now = int(time.time())
    event = wrap_letter(
        make_rumor(alice.identity.pub, created_at=now, content="x"),
        alice.identity.secret,
        Address(bob.identity.pub, scan),
        secrets.token_bytes(32),
        created_at=now,
        expiration=now + 3_600,
        randomness=secrets.token_bytes(RANDOMNESS),
        hold=secrets.token_bytes(32),
    )
    assert (await alice._dispatch.post(event, 20)).accepted
    assert [each.held for each in await found(office, key, meddler)] == [True]


def test_a_scan_key_is_a_hash_of_the_secret_and_never_leads_back() -> None:
    secret = secrets.token_bytes(32)
    key = scan_secret_of(secret)
    assert key == scan_secret_of(secret) == secp.tagged_hash("scan-key", secret)
    # Independent of the npub: no public number is the difference of the two keys (the contract forbids a tweak).
    assert secp.xonly(key) != secp.xonly(secret)
    with pytest.raises(InvalidKey):
        scan_secret_of(bytes(32))


def test_scan_keys_as_text() -> None:
    key = ScanKey(secrets.token_bytes(31).rjust(32, b"\1"), secp.xonly(b"\2" * 32))
    text = encode_scan_key(key)
    assert text.startswith("ppscan1") and decode_scan_key(f" {text}\n") == key and decode_scan_key(text.upper()) == key
    assert key.secret.hex() not in repr(key)


BROKEN = ["", "ppscan1", "x" * 5_000, "npub1" + "q" * 58, "nsec1" + "q" * 58, nip19.encode_npub(secp.xonly(b"\2" * 32))]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_scan_key(text: str) -> None:
    with pytest.raises(InvalidKey):
        decode_scan_key(text)


@pytest.mark.parametrize("key", [ScanKey(bytes(32), b"\1" * 32), ScanKey(b"\1" * 32, b"\xff" * 32)])
def test_scan_keys_that_are_no_keys(key: ScanKey) -> None:
    with pytest.raises(InvalidKey):
        decode_scan_key(encode_scan_key(key))


@pytest.mark.parametrize("scan", [b"", b"\1" * 31, b"\xff" * 32])
def test_addresses_with_a_broken_scan_key_name_nobody(scan: bytes) -> None:
    """Sent to the npub alone it would arrive, but not where its owner wanted it."""
    data = b"\x00\x20" + secp.xonly(b"\2" * 32) + bytes((115, len(scan))) + scan
    with pytest.raises(InvalidKey):
        scan_key_of(bech32.encode("nprofile", bech32.regroup(data, 8, 5)))
