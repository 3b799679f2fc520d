"""NIP-17 mail: what is written, what is read, where reading goes on, and what hostile wraps do."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import json

from pennypost import AsyncClient, Mail
from pennypost import nip17 as reader
from pennypost.line import Line
from pennypost.nip17 import PlainInbox
from pennypost.protocol import nip44, secp
from pennypost.protocol.errors import AuthRequired, InvalidInput, LetterTooLarge, NotReceiver, OfficeMisbehaves
from pennypost.protocol.event import KIND_GIFT_WRAP, Event, event_json, expiration, sign_event
from pennypost.protocol.filter import Filter
from pennypost.protocol.giftwrap import RANDOMNESS, Rumor, make_rumor, unwrap, wrap
from pennypost.protocol.headers import view_tag
from pennypost.protocol.nip17 import SHIFT, message_tags, wrap_message
from tests.postoffice.house import House, open_house
from tests.sdk.meddler import Meddler
from tests.sdk.test_mail import stamped

Make = Callable[..., AsyncClient]


async def read(client: AsyncClient, **options: Any) -> list[Mail]:
    return [mail async for mail in client.inbox(**{"mode": "nip17", **options})]


async def texts(client: AsyncClient, **options: Any) -> list[str]:
    return [mail.text for mail in await read(client, **options)]


def written(
    sender: bytes, receiver: bytes, text: str, *, kind: int = 14, tags: list[list[str]] | None = None, at: int = 0
) -> Event:
    """A message as another program may write it."""
    now = at or int(time.time())
    rumor = make_rumor(
        secp.xonly(sender), created_at=now, content=text, kind=kind, tags=message_tags(receiver) + (tags or [])
    )
    return wrap_message(
        rumor,
        sender,
        receiver,
        secrets.token_bytes(32),
        sealed_at=now - 1_000,
        created_at=now - 2_000,
        now=now,
        keep=86_400,
        randomness=secrets.token_bytes(RANDOMNESS),
    )


async def test_what_is_written_and_read(client: Make) -> None:
    alice, bob = await stamped(client), client()
    first = await alice.send(bob.npub, "hello Bob ✉", mode="nip17", subject="supper")
    (mail,) = await read(bob)
    assert first.accepted and first.stamps == 1 and mail.id == first.event_id
    assert (mail.sender, mail.text, mail.mode, mail.subject) == (alice.npub, "hello Bob ✉", "nip17", "supper")
    assert (mail.reply_to, mail.file, mail.kept_until) == ("", None, first.kept_until)
    await bob.stamps.buy(1)
    await bob.send(mail.sender, "at eight", mode="nip17", reply_to=mail.message_id)
    (answer,) = await read(alice)
    assert (answer.text, answer.reply_to) == ("at eight", mail.message_id)


async def test_each_mode_reads_its_own(client: Make) -> None:
    alice, bob = await stamped(client), client()
    await alice.send(bob.npub, "by stealth")
    await alice.send(bob.npub, "to all programs", mode="nip17")
    assert [mail.text async for mail in bob.inbox(again=True)] == ["by stealth"]
    assert await texts(bob, again=True) == ["to all programs"]
    both = [(mail.mode, mail.text) async for mail in bob.inbox(mode="both")]
    assert sorted(both) == [("nip17", "to all programs"), ("stealth", "by stealth")]
    assert [mail async for mail in bob.inbox(mode="both")] == []


async def test_subjects_and_replies_by_stealth_too(client: Make) -> None:
    alice, bob = await stamped(client), client()
    await alice.send(bob.npub, "x", subject="supper", reply_to="ab" * 32)
    (mail,) = [mail async for mail in bob.inbox()]
    assert (mail.mode, mail.subject, mail.reply_to) == ("stealth", "supper", "ab" * 32)


@pytest.mark.parametrize(
    "options",
    [
        {"subject": "x" * 257},
        {"subject": "two\nlines"},
        {"reply_to": "ab"},
        {"reply_to": "AB" * 32},
        {"mode": "nip17", "session": True},
        {"subject": "x", "session": True},
    ],
)
async def test_what_cannot_be_said(client: Make, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await client().send(client().npub, "x", **options)


async def test_the_office_learns_no_name_by_stealth(client: Make, meddler: Meddler) -> None:
    """Asking for NIP-17 mail names us, so only who asks for it does."""
    alice, bob = await stamped(client), client(transport=meddler)
    await alice.send(bob.npub, "x", mode="nip17")
    assert [mail async for mail in bob.inbox()] == []
    assert "WEBSOCKET" not in meddler.asked


async def test_shown_once_and_where_it_goes_on(client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()

    def another() -> AsyncClient:
        return client(tmp_path, clock=lambda: now)

    alice, bob = await stamped(client, stamps=10), another()
    for number in range(3):
        await alice.send(bob.npub, f"nr {number}", mode="nip17")
    letters = bob.inbox(mode="nip17")
    shown = [(await anext(letters)).text, (await anext(letters)).text]
    await letters.aclose()
    # The second was never followed by another question, so it is shown again.
    rest = await texts(another())
    assert sorted({*shown, *rest}) == ["nr 0", "nr 1", "nr 2"] and len(rest) == 2 and shown[1] in rest
    assert await texts(another()) == []
    assert sorted(await texts(bob, again=True)) == ["nr 0", "nr 1", "nr 2"]
    asked: list[Filter] = []
    inner = Line.fetch

    async def noted(line: Line, wanted: Filter, **options: Any) -> list[Event]:
        asked.append(wanted)
        return await inner(line, wanted, **options)

    monkeypatch.setattr(Line, "fetch", noted)
    assert await texts(bob) == []
    (wanted,) = asked
    assert wanted.since == int(now) - SHIFT - reader.LATE
    assert wanted.tags == {"p": (bob.identity.pub.hex(),)} and wanted.kinds == (KIND_GIFT_WRAP,)


async def test_more_than_one_answer_holds(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LETTERS", 2)
    monkeypatch.setattr(reader, "AT_ONCE", 100)
    alice, bob = await stamped(client, stamps=10), client()
    for number in range(7):
        await alice.send(bob.npub, f"nr {number}", mode="nip17")
    assert sorted(await texts(bob)) == [f"nr {number}" for number in range(7)]


async def test_many_of_one_second(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No filter goes further into one second than an answer holds: the rest of it is passed over, without end never."""
    monkeypatch.setattr(reader, "LETTERS", 2)
    alice, bob = await stamped(client, stamps=10), client()
    now = int(time.time())
    for number in range(4):
        await alice._dispatch.post(written(alice.identity.secret, bob.identity.pub, f"same {number}", at=now), 20)
    await alice._dispatch.post(written(alice.identity.secret, bob.identity.pub, "older", at=now - 100), 20)
    found = await texts(bob)
    assert "older" in found and len(found) >= 3


async def test_mail_without_end(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LETTERS", 1)
    monkeypatch.setattr(reader, "PAGES", 20)
    bob, sender = client(), secrets.token_bytes(32)

    async def endless(line: Line, wanted: Filter, **_: Any) -> list[Event]:
        return [written(sender, bob.identity.pub, "x", at=wanted.until or 2_000_000_000)]

    monkeypatch.setattr(Line, "fetch", endless)
    with pytest.raises(OfficeMisbehaves):
        await texts(bob, again=True)


async def test_watching(client: Make) -> None:
    alice, bob = await stamped(client), client()
    await alice.send(bob.npub, "stored", mode="nip17")
    letters = bob.inbox(mode="nip17", watch=True)
    assert (await asyncio.wait_for(anext(letters), 20)).text == "stored"
    waiting = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "live", mode="nip17")
    assert (await asyncio.wait_for(waiting, 20)).text == "live"
    await letters.aclose()
    assert await texts(bob) == ["live"]


async def test_watching_both(client: Make) -> None:
    alice, bob = await stamped(client), client()
    letters = bob.inbox(mode="both", watch=True)
    waiting = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "plain", mode="nip17")
    assert (await asyncio.wait_for(waiting, 20)).text == "plain"
    await alice.send(bob.npub, "hidden")
    assert (await asyncio.wait_for(anext(letters), 20)).text == "hidden"
    await asyncio.wait_for(letters.aclose(), 20)


async def test_watching_goes_on_through_failures(
    client: Make, meddler: Meddler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "PAUSE", 0.01)
    alice, bob = await stamped(client), client(transport=meddler)
    letters = bob.inbox(mode="nip17", watch=True)
    waiting = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "one", mode="nip17")
    assert (await asyncio.wait_for(waiting, 20)).text == "one"
    # The line breaks with the next question; what comes meanwhile is stored and found by the next look.
    meddler.lose_answer = 0
    waiting = asyncio.ensure_future(anext(letters))
    await alice.send(bob.npub, "two", mode="nip17")
    await asyncio.sleep(0)
    meddler.honest()
    assert (await asyncio.wait_for(waiting, 20)).text == "two"
    await letters.aclose()


# What other programs, and hostile ones, put into a wrap


async def delivered(client: Make, *events: Event, receiver: AsyncClient) -> list[Mail]:
    alice = await stamped(client, stamps=len(events))
    for event in events:
        receipt = await alice._dispatch.post(event, 20)
        assert receipt.accepted, receipt
    return await read(receiver)


FILE = [
    ["file-type", "image/jpeg"],
    ["encryption-algorithm", "aes-gcm"],
    ["decryption-key", "11" * 32],
    ["decryption-nonce", "22" * 12],
    ["x", "ab" * 32],
    ["size", "12345"],
    ["thumbhash", "whatever"],
]


async def test_a_file(client: Make) -> None:
    bob, sender = client(), secrets.token_bytes(32)
    event = written(sender, bob.identity.pub, "https://files.example/1", kind=15, tags=FILE)
    (mail,) = await delivered(client, event, receiver=bob)
    assert mail.file is not None and mail.text == mail.file.url == "https://files.example/1"
    assert (mail.file.media_type, mail.file.algorithm, mail.file.size) == ("image/jpeg", "aes-gcm", 12_345)
    assert (mail.file.key, mail.file.nonce, mail.file.digest) == ("11" * 32, "22" * 12, "ab" * 32)
    assert "11" * 32 not in repr(mail)


@pytest.mark.parametrize("missing", ["encryption-algorithm", "decryption-key", "decryption-nonce"])
async def test_a_file_that_nobody_could_open_is_passed_over(client: Make, missing: str) -> None:
    bob, sender = client(), secrets.token_bytes(32)
    tags = [tag for tag in FILE if tag[0] != missing]
    event = written(sender, bob.identity.pub, "https://files.example/1", kind=15, tags=tags)
    assert await delivered(client, event, receiver=bob) == []


@pytest.mark.parametrize("kind", [7, 5, 1, 13, 1059, 4414])
async def test_rumors_of_other_kinds_are_passed_over(client: Make, kind: int) -> None:
    bob, sender = client(), secrets.token_bytes(32)
    assert await delivered(client, written(sender, bob.identity.pub, "+", kind=kind), receiver=bob) == []


def sealed_by(author: bytes, rumor: Rumor, receiver: bytes, *, kind: int = 13) -> Event:
    key = nip44.conversation_key(author, receiver)
    content = nip44.encrypt(json.encode(rumor).decode(), key, secrets.token_bytes(32))
    return sign_event(author, created_at=rumor.created_at, kind=kind, tags=[], content=content, aux=bytes(32))


def wrapped(sealed: Event, receiver: bytes) -> Event:
    now, randomness = int(time.time()), secrets.token_bytes(64)
    return wrap(sealed, secrets.token_bytes(32), receiver, created_at=now, randomness=randomness)


def hostile(receiver: bytes) -> dict[str, Event]:
    thief, victim = secrets.token_bytes(32), secp.xonly(secrets.token_bytes(32))
    now = int(time.time())
    rumor = make_rumor(victim, created_at=now, content="send money", tags=[["p", receiver.hex()]])
    own = make_rumor(secp.xonly(thief), created_at=now, content="x", tags=[])
    good = sealed_by(thief, own, receiver)
    other = sealed_by(thief, own, secp.xonly(secrets.token_bytes(32)))
    unsigned = Event(good.id, good.pubkey, good.created_at, good.kind, good.tags, good.content, "00" * 64)
    garbage = sign_event(
        thief, created_at=now, kind=KIND_GIFT_WRAP, tags=[["p", receiver.hex()]], content="garbage", aux=bytes(32)
    )
    return {
        "the rumor of somebody else": wrapped(sealed_by(thief, rumor, receiver), receiver),
        "a seal for somebody else": wrapped(other, receiver),
        "a seal that nobody signed": wrapped(unsigned, receiver),
        "a seal of another kind": wrapped(sealed_by(thief, own, receiver, kind=1), receiver),
        "an id that is not its own": wrapped(
            sealed_by(thief, Rumor(own.pubkey, now, 14, [], "x", "ab" * 32), receiver), receiver
        ),
        "garbage": garbage,
    }


@pytest.mark.parametrize("name", sorted(hostile(secp.xonly(b"\1" * 32))))
async def test_hostile_wraps_show_nothing_and_stop_nothing(client: Make, name: str) -> None:
    bob, sender = client(), secrets.token_bytes(32)
    bad = hostile(bob.identity.pub)[name]
    good = written(sender, bob.identity.pub, "genuine")
    assert [mail.text for mail in await delivered(client, bad, good, receiver=bob)] == ["genuine"]


def test_a_wrap_shows_no_more_than_it_must() -> None:
    now, receiver = 1_800_000_001, secp.xonly(b"\2" * 32)
    event = written(b"\1" * 32, receiver, "x", at=now)
    assert view_tag(event) is None and [tag[0] for tag in event.tags] == ["p", "expiration"]
    assert (expiration(event) or 1) % 86_400 == 0 and 0 <= (expiration(event) or 0) - now - 86_400 < 86_400
    assert secp.xonly(b"\1" * 32).hex() not in event_json(event).decode()
    sizes = {len(written(b"\1" * 32, receiver, text).content) for text in ("", "x", "x" * 500)}
    assert len(sizes) == 1
    assert unwrap(event, b"\2" * 32)[1].content == "x"
    with pytest.raises(LetterTooLarge):
        written(b"\1" * 32, receiver, "x" * 17_000)


async def test_dates_lie_in_the_two_days_before(client: Make) -> None:
    alice, bob = client(), client().identity.pub
    now = time.time()
    events = [alice._wrap(bob, None, "x", 86_400, "nip17", message_tags(bob)) for _ in range(20)]
    assert all(now - SHIFT - 5 <= event.created_at <= now + 5 for event in events)
    assert len({event.created_at for event in events}) > 1 and len({event.pubkey for event in events}) == 20


# An office that serves gift wraps to their receiver alone


@pytest_asyncio.fixture
async def private(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path / "office", private_wraps=True) as opened:
        yield opened


async def test_we_sign_in_where_the_office_wants_it(private: House) -> None:
    url = f"http://127.0.0.1:{private.settings.port}"
    async with AsyncClient(url, home_of(private)) as alice, AsyncClient(url, home_of(private)) as bob:
        await alice.stamps.buy(3)
        await alice.send(bob.npub, "for Bob alone", mode="nip17")
        assert await texts(bob) == ["for Bob alone"]
        letters = bob.inbox(mode="nip17", watch=True)
        waiting = asyncio.ensure_future(anext(letters))
        await alice.send(bob.npub, "and live", mode="nip17")
        assert (await asyncio.wait_for(waiting, 20)).text == "and live"
        await letters.aclose()
        # Who signs in with another key is shown none of it.
        wanted = Filter(kinds=(KIND_GIFT_WRAP,), tags={"p": (bob.identity.pub.hex(),)})
        signer = PlainInbox(alice.office, alice._store, alice.identity, time.time)._sign_in
        for line, refusal in ((Line(alice._transport, url), AuthRequired), (alice.office.line(signer), NotReceiver)):
            with pytest.raises(refusal):
                await line.fetch(wanted, most=10, timeout=20)
            await line.close()


def home_of(house: House) -> Path:
    return Path(house.settings.data_dir) / secrets.token_hex(4)
