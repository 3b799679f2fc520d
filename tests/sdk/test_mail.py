"""Letters through a real office: sent, found, opened; and every step at which sending can be interrupted."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import json, structs

from pennypost import AsyncClient, Mail, Sandbox, ledger
from pennypost.client import KEEP
from pennypost.inbox import place_on
from pennypost.office import save_information_on
from pennypost.outbox import waiting_on
from pennypost.protocol import nip19, nip44
from pennypost.protocol.errors import (
    InvalidInput,
    InvalidKey,
    LetterTooLarge,
    NotEnoughStamps,
    OfficeMisbehaves,
    OfficeUnreachable,
    OtherMint,
    PriceTooHigh,
    ServerError,
    StampForged,
    TooMany,
)
from pennypost.protocol.event import Event, event_json, sign_event
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, make_rumor
from pennypost.protocol.stealth import Address, derive, wrap_letter
from pennypost.transport import Response
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.meddler import Meddler
from tests.sdk.test_mint_client import edit

Make = Callable[..., AsyncClient]
MOST_STEPS = 40


async def read(client: AsyncClient, **options: Any) -> list[Mail]:
    return [mail async for mail in client.inbox(**options)]


async def texts(client: AsyncClient, **options: Any) -> list[str]:
    return [mail.text for mail in await read(client, **options)]


async def stamped(client: Make, *args: Any, stamps: int = 5, **options: Any) -> AsyncClient:
    made = client(*args, **options)
    await made.stamps.buy(stamps)
    return made


async def test_a_letter_from_the_future(client: Make) -> None:
    alice, bob = await stamped(client, clock=lambda: time.time() + 7 * 86_400), client()
    receipt = await alice.send(bob.npub, "hello")
    assert (receipt.accepted, receipt.code, receipt.stamps, receipt.kept_until) == (False, "future", 0, 0)
    assert receipt.error is not None and receipt.error.code == "future"
    assert await alice.stamps.balance() == 5
    assert await texts(bob) == []


@pytest.mark.parametrize("name", ["bob", "", "npub1qqqqqq", "nsec1qqqqqq", "ff" * 32])
async def test_nobody(client: Make, name: str) -> None:
    with pytest.raises(InvalidKey):
        await client().send(name, "hello")


async def test_what_a_receipt_and_a_letter_say(client: Make) -> None:
    alice, bob = await stamped(client), client()
    receipt = await alice.send(bob.npub, "hello Bob\nsecond line: ünï ✉", keep=3_000)
    (mail,) = await read(bob)
    assert receipt.accepted and receipt.code == "accepted" and receipt.stamps == 1 and receipt.error is None
    assert receipt.office == mail.office == "http://pennypost.sandbox"
    assert mail.id == receipt.event_id
    assert mail.sender == alice.npub
    assert mail.text == "hello Bob\nsecond line: ünï ✉"
    assert mail.kept_until == receipt.kept_until == mail.sent_at + 3_600
    assert await alice.stamps.summary() == ledger.Balance(stamps=4)
    assert not await alice._store.run(waiting_on, alice.office.url)


@pytest.mark.parametrize("how", ["npub", "hex", "nprofile", "uri"])
async def test_how_people_are_named(client: Make, how: str) -> None:
    alice, bob = await stamped(client), client()
    key = bob.identity.pub
    names = {
        "npub": bob.npub,
        "hex": key.hex(),
        "nprofile": nip19.encode(nip19.Entity("nprofile", key, relays=("wss://relay.example",))),
        "uri": f"nostr:{bob.npub}",
    }
    assert (await alice.send(names[how], how)).accepted
    assert await texts(bob) == [how]


async def test_mail_is_shown_once_and_again_when_asked(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client), client(tmp_path)
    for number in range(3):
        await alice.send(bob.npub, f"nr {number}")
    expected = ["nr 0", "nr 1", "nr 2"]
    assert await texts(bob) == expected
    assert await texts(bob) == []
    assert await texts(client(tmp_path)) == []
    assert await texts(bob, again=True) == expected
    await alice.send(bob.npub, "nr 3")
    assert await texts(client(tmp_path)) == ["nr 3"]


async def test_a_letter_counts_as_read_when_the_next_is_asked_for(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client), client(tmp_path)
    for number in range(3):
        await alice.send(bob.npub, f"nr {number}")
    letters = bob.inbox()
    assert (await anext(letters)).text == "nr 0"
    assert (await anext(letters)).text == "nr 1"
    await letters.aclose()
    assert await texts(client(tmp_path)) == ["nr 1", "nr 2"]


@pytest.mark.parametrize("privacy", ["fast", "page", "all"])
async def test_levels_of_privacy(client: Make, meddler: Meddler, privacy: str) -> None:
    alice, bob, carol = await stamped(client), client(transport=meddler), client()
    await asyncio.gather(alice.send(carol.npub, "not for bob"), *(alice.send(bob.npub, str(n)) for n in range(3)))
    assert sorted(await texts(bob, privacy=privacy)) == ["0", "1", "2"]
    assert ("REQ" in meddler.asked) == (privacy == "fast")
    assert any("/v1/pages/" in each for each in meddler.asked) == (privacy != "fast")


async def test_at_level_fast_only_our_own_is_fetched(client: Make, meddler: Meddler) -> None:
    alice, carol, bob = await stamped(client), client(), client(transport=meddler)
    await alice.send(carol.npub, "not for bob")
    assert await texts(bob) == []
    assert "WEBSOCKET" not in meddler.asked


async def test_watching(client: Make) -> None:
    alice, bob = await stamped(client), client()
    letters = bob.inbox(watch=True)
    first = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "one")
    assert (await asyncio.wait_for(first, 20)).text == "one"
    second = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "two")
    assert (await asyncio.wait_for(second, 20)).text == "two"
    await letters.aclose()


async def test_watching_goes_on_through_failures(
    client: Make, meddler: Meddler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennypost.inbox.PAUSE", 0.01)
    alice, bob = await stamped(client), client(transport=meddler)
    await alice.send(bob.npub, "one")
    bad = iter([Response(503, b""), Response(429, b"")])
    meddler.answers["/v1/headers"] = lambda answer: next(bad, answer)
    letters = bob.inbox(watch=True)
    assert (await asyncio.wait_for(anext(letters), 20)).text == "one"
    await letters.aclose()


async def test_not_enough_stamps_sends_nothing(client: Make, meddler: Meddler) -> None:
    alice, bob = client(transport=meddler), client()
    with pytest.raises(NotEnoughStamps):
        await alice.send(bob.npub, "hello")
    assert "EVENT" not in meddler.asked
    assert not await alice._store.run(waiting_on, alice.office.url)


@pytest.mark.parametrize("text", ["x" * 17_000, "✉" * 6_000])
async def test_too_long(client: Make, text: str) -> None:
    alice, bob = await stamped(client), client()
    with pytest.raises(LetterTooLarge):
        await alice.send(bob.npub, text)
    assert await alice.stamps.balance() == 5


@pytest.mark.parametrize("text", ["", "x", "x" * 15_000, "\u202e\x1b[2J\x00"[:-1]])
async def test_texts(client: Make, text: str) -> None:
    alice, bob = await stamped(client), client()
    assert (await alice.send(bob.npub, text)).accepted
    assert await texts(bob) == [text]


@pytest.mark.parametrize("keep", [0, -1, KEEP + 1])
async def test_kept_times_that_are_none(client: Make, keep: int) -> None:
    with pytest.raises(InvalidInput):
        await client().send(client().npub, "x", keep=keep)


async def test_no_stamp_where_none_is_asked(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    meddler.change("/", lambda document: {key: value for key, value in document.items() if key != "fees"})
    sent: list[str] = []
    meddler.frames = lambda text: sent.append(text) or [text]
    receipt = await alice.send(bob.npub, "x")
    # The office does ask for one after all, and says how much: it gets it with the same event.
    assert receipt.accepted is False and receipt.code == "stamp-required"
    assert await alice.stamps.balance() == 5


async def test_the_price_rose(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    await alice._store.run(save_information_on, alice.office.url, b"{}", int(time.time()))
    receipt = await alice.send(bob.npub, "x")
    assert (receipt.accepted, receipt.stamps) == (True, 1)
    assert await texts(bob) == ["x"]


async def test_a_price_over_the_limit(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler, max_stamps=2), client()
    fee = {"amount": 3, "unit": "sat", "mints": ["http://pennypost.sandbox"]}
    meddler.change("/", edit(fees={"stamp": [fee]}))
    with pytest.raises(PriceTooHigh):
        await alice.send(bob.npub, "x")
    assert "EVENT" not in meddler.asked


async def test_more_than_one_stamp(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    fee = {"amount": 1, "unit": "sat", "per_kib": 1, "mints": ["http://pennypost.sandbox"]}
    meddler.change("/", edit(fees={"stamp": [fee]}))
    receipt = await alice.send(bob.npub, "x")
    assert receipt.accepted and receipt.stamps > 2
    assert await alice.stamps.balance() == 5 - receipt.stamps


async def test_an_office_that_takes_stamps_of_another_mint(client: Make, meddler: Meddler) -> None:
    meddler.change("/v1/info", edit(urls=[]))
    alice = client(transport=meddler, mint="http://pennypost.sandbox/elsewhere")
    with pytest.raises(OtherMint):
        await alice.send(client().npub, "x")


def without_ok(text: str) -> list[str]:
    return [] if text.startswith('["OK"') else [text]


def with_ok(message: str) -> Callable[[str], list[str]]:
    def change(text: str) -> list[str]:
        if not text.startswith('["OK"'):
            return [text]
        return [f'["OK","{text[7:71]}",false,"{message}"]']

    return change


async def test_a_lost_ok_is_asked_for_with_the_same_frame(
    client: Make, meddler: Meddler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennypost.outbox.ANSWER", 0.3)
    alice, bob = await stamped(client, transport=meddler), client()
    oks: list[str] = []

    def lose_first(text: str) -> list[str]:
        if text.startswith('["OK"'):
            oks.append(text)
            return [] if len(oks) == 1 else [text]
        return [text]

    meddler.frames = lose_first
    receipt = await alice.send(bob.npub, "x")
    assert (receipt.accepted, receipt.code, receipt.stamps) == (True, "duplicate", 1)
    assert await alice.stamps.summary() == ledger.Balance(stamps=4)
    assert await texts(bob) == ["x"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("error: the database is away, retry with the same stamp [database]", ServerError),
        ("error: something", ServerError),
        ("rate-limited: slow down", TooMany),
    ],
)
async def test_what_passes_is_waited_for_and_kept(
    client: Make, meddler: Meddler, tmp_path: Path, message: str, error: type[Exception]
) -> None:
    alice, bob = await stamped(client, tmp_path, transport=meddler), client()
    meddler.frames = with_ok(message)
    with pytest.raises(error):
        await alice.send(bob.npub, "x", patience=0)
    assert await alice.stamps.summary() == ledger.Balance(stamps=4, reserved=1)
    assert len(await alice._store.run(waiting_on, alice.office.url)) == 1
    meddler.honest()
    (receipt,) = await client(tmp_path).flush()
    assert (receipt.accepted, receipt.code, receipt.stamps) == (True, "duplicate", 1)
    assert await alice.stamps.summary() == ledger.Balance(stamps=4)
    assert await texts(bob) == ["x"]


REFUSALS = (
    ("blocked: deleted. Sign a new one [deleted]", "deleted"),
    ("invalid: expired [expired]", "expired"),
    ("invalid: bad", "event"),
    ("restricted: members only", "not-allowed"),
    ("blocked: go away", "policy"),
    ("pow: difficulty 28", "policy"),
    ("auth-required: who are you", "auth"),
    ("blocked: invalid stamp: forged [stamp-forged]", StampForged.code),
    ("nonsense", "policy"),
    ("", "policy"),
    ("blocked: [no-such-code]", "policy"),
)


@pytest.mark.parametrize(("message", "code"), REFUSALS)
async def test_a_refusal_gives_the_stamp_back_and_it_is_never_seen_again(
    client: Make, meddler: Meddler, message: str, code: str
) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    (before,) = [await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")]
    inner = meddler.frames
    # The office never hears of the letter: what it says is made up on the way.
    meddler.frames = with_ok(message)
    receipt = await alice.send(bob.npub, "x")
    assert (receipt.accepted, receipt.code, receipt.stamps) == (False, code, 0)
    assert receipt.error is not None
    exposed = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "exposed")
    assert len(exposed) == 1 and exposed[0] in before
    assert await alice.stamps.balance() == 5
    meddler.frames = inner
    # The stamp was taken in truth, for the letter is stored: the wallet finds out when it swaps.
    assert (await alice.stamps.check()).stamps == 4


async def test_a_stamp_spent_elsewhere_is_replaced(client: Make, tmp_path: Path) -> None:
    from pennypost.protocol.token import Token, encode_token

    alice, bob, thief = await stamped(client, tmp_path, stamps=3), client(), client()
    proofs = await alice._store.run(ledger.choose_on, alice.stamps.mint.url, 1)
    assert proofs is not None
    await thief.stamps.receive(encode_token(Token(alice.stamps.mint.url, "sat", proofs)))
    receipt = await alice.send(bob.npub, "x")
    assert (receipt.accepted, receipt.code, receipt.stamps) == (True, "accepted", 1)
    assert await alice.stamps.summary() == ledger.Balance(stamps=1)
    assert await texts(bob) == ["x"]


async def test_an_office_that_only_says_the_stamp_is_spent(client: Make, meddler: Meddler) -> None:
    """It is caught at its lie by asking the mint, before it gets a second stamp."""
    alice, bob = await stamped(client, transport=meddler), client()
    meddler.frames = with_ok("blocked: invalid stamp: already spent [stamp-spent]")
    meddler.change("/v1/checkstate", lambda a: {"states": [each | {"state": "UNSPENT"} for each in a["states"]]})
    with pytest.raises(OfficeMisbehaves):
        await alice.send(bob.npub, "x")
    assert meddler.asked.count("EVENT") == 1
    assert await alice.stamps.balance() == 5
    assert await alice.flush() == []


async def test_a_letter_left_over_does_not_hold_up_the_next(
    client: Make, meddler: Meddler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennypost.dispatch.CATCH_UP", 0)
    alice, bob = await stamped(client, tmp_path, transport=meddler), client()
    meddler.frames = with_ok("error: not now")
    with pytest.raises(ServerError):
        await alice.send(bob.npub, "first", patience=0)
    told: list[str] = []
    meddler.honest()
    later = client(tmp_path, transport=meddler, notice=told.append)
    oks: list[str] = []

    def first_fails(text: str) -> list[str]:
        if text.startswith('["OK"'):
            oks.append(text)
            return with_ok("error: not now")(text) if len(oks) == 1 else [text]
        return [text]

    meddler.frames = first_fails
    assert (await later.send(bob.npub, "second")).accepted
    assert len(told) == 1 and len(await later._store.run(waiting_on, later.office.url)) == 1
    (receipt,) = await later.flush()
    assert receipt.accepted and sorted(await texts(bob)) == ["first", "second"]
    assert await later.stamps.summary() == ledger.Balance(stamps=3)


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_sending(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    for step in range(MOST_STEPS):
        home, bob = tmp_path / str(step), client()
        await client(home).stamps.buy(4)

        async def send(alice: AsyncClient, bob: AsyncClient = bob) -> None:
            await alice.send(bob.npub, "x", patience=0)

        died = await dies(office, home, send, way, step, monkeypatch)
        alice = client(home)
        written = len(await alice._store.run(waiting_on, alice.office.url))
        receipts = await alice.flush()
        assert len(receipts) == written and all(each.accepted for each in receipts)
        check = await alice.stamps.check()
        arrived = await texts(bob)
        assert len(arrived) == 4 - check.stamps <= 1, (way, step)
        assert (check.reserved, check.lost, check.problems) == (0, 0, ())
        assert arrived or not written
        if not died:
            assert arrived == ["x"]
            return
    pytest.fail("the work had no end")


async def test_an_expired_letter_is_dropped_and_its_stamp_given_back(
    client: Make, meddler: Meddler, tmp_path: Path
) -> None:
    alice, bob = await stamped(client, tmp_path, transport=meddler), client()
    meddler.frames = without_ok
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pennypost.outbox.ANSWER", 0.1)
        with pytest.raises(OfficeUnreachable):
            await alice.send(bob.npub, "x", keep=3600, patience=0)
    meddler.honest()
    later = client(tmp_path, clock=lambda: 2**33)
    assert await later.flush() == []
    assert not await later._store.run(waiting_on, later.office.url)
    assert (await later.stamps.summary()).stamps == 5


async def test_another_key_is_another_office(client: Make, meddler: Meddler, tmp_path: Path) -> None:
    alice, bob = await stamped(client), client(tmp_path, transport=meddler)
    await alice.send(bob.npub, "x")
    meddler.change("/", edit(self="11" * 32))
    assert await texts(bob) == ["x"]
    place = await bob._store.run(place_on, bob.office.url)
    assert place > 0
    assert await texts(bob) == []
    meddler.change("/", edit(self="22" * 32))
    later = client(tmp_path, transport=meddler, clock=lambda: time.time() + 120)
    asked = len(meddler.asked)
    # The numbers begin anew; what was seen stays seen.
    assert await texts(later) == []
    assert any("after=0&" in each for each in meddler.asked[asked:])


async def test_writing_to_oneself(client: Make) -> None:
    alice = await stamped(client)
    await alice.send(alice.npub, "a note")
    (mail,) = await read(alice)
    assert (mail.sender, mail.text) == (alice.npub, "a note")


def bad_letters(alice: AsyncClient, bob: AsyncClient) -> dict[str, Event]:
    """Events that Bob's scanner finds and that are no letters, each by somebody who may pay for a stamp."""
    now, receiver = int(time.time()), Address(bob.identity.pub, bob.identity.pub)
    secret, author = alice.identity.secret, alice.identity.pub

    def letter(rumor: Rumor, sender: bytes = secret) -> Event:
        return wrap_letter(
            rumor,
            sender,
            receiver,
            secrets.token_bytes(32),
            created_at=now,
            expiration=now + 3_600,
            randomness=secrets.token_bytes(RANDOMNESS),
        )

    def raw(content: Callable[[bytes, bytes], str]) -> Event:
        one_time = secrets.token_bytes(32)
        stealth, tag = derive(one_time, receiver)
        return sign_event(
            one_time,
            created_at=now,
            kind=1059,
            tags=[["p", stealth.hex()], ["vt", tag.hex()], ["expiration", str(now + 3_600)]],
            content=content(one_time, stealth),
            aux=bytes(32),
        )

    def encrypted(text: str) -> Callable[[bytes, bytes], str]:
        return lambda key, to: nip44.encrypt(text, nip44.conversation_key(key, to), bytes(32))

    plain = make_rumor(author, created_at=now, content="x")
    other = make_rumor(bob.identity.pub, created_at=now, content="I am Bob")
    return {
        "no ciphertext": raw(lambda key, to: "hello"),
        "empty": raw(lambda key, to: ""),
        "no seal": raw(encrypted("hello")),
        "a seal that is no event": raw(encrypted("{}")),
        "a seal nested too deeply": raw(encrypted("[" * 20_000)),
        "a seal of another kind": raw(encrypted(event_json(letter(plain)).decode())),
        "a letter that is no chat": letter(make_rumor(author, created_at=now, content="x", kind=9_999)),
        "somebody else's rumor": _sealed_by(secret, other, raw, encrypted),
        "another id": letter(structs.replace(plain, id="11" * 32)),
    }


def _sealed_by(secret: bytes, rumor: Rumor, raw: Any, encrypted: Any) -> Event:
    def content(key: bytes, to: bytes) -> str:
        inner = nip44.encrypt(json.encode(rumor).decode(), nip44.conversation_key(secret, to), bytes(32))
        seal = sign_event(secret, created_at=1, kind=13, tags=[], content=inner, aux=bytes(32))
        return encrypted(event_json(seal).decode())(key, to)

    return raw(content)


async def test_very_many_letters_by_one_key_push_out_nobody(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pennypost.office.LETTERS", 5)
    alice, bob = await stamped(client, stamps=20), client()
    now, one_time, receiver = int(time.time()), secrets.token_bytes(32), Address(bob.identity.pub, bob.identity.pub)
    await alice.send(bob.npub, "before")
    for number in range(8):
        rumor = make_rumor(alice.identity.pub, created_at=now, content=f"flood {number}")
        event = wrap_letter(
            rumor,
            alice.identity.secret,
            receiver,
            one_time,
            created_at=now,
            expiration=now + 3_600,
            randomness=secrets.token_bytes(RANDOMNESS),
        )
        assert (await alice._dispatch.post(event, 5)).accepted
    await alice.send(bob.npub, "after")
    found = await texts(bob)
    assert {"before", "after"} <= set(found) and len(found) == 7


async def test_what_is_no_letter_is_passed_over_and_blocks_nothing(client: Make) -> None:
    alice, bob = await stamped(client, stamps=20), client()
    for event in bad_letters(alice, bob).values():
        receipt = await alice._dispatch.post(event, 5)
        assert receipt.accepted
    await alice.send(bob.npub, "good")
    assert await texts(bob) == ["good"]
