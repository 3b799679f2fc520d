"""Sessions over a real office: begun, answered, out of order, lost, with several devices; and hostile ones."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost import AsyncClient, Mail, Sandbox, sandbox
from pennypost.home import DATABASE, IDENTITY, Home
from pennypost.protocol.errors import InvalidInput, NoSession
from pennypost.protocol.event import Event
from pennypost.protocol.stealth import open_letter
from pennypost.sessions import KIND_SESSION
from pennypost.sessions.prekeys import encode_prekeys, parse_prekeys, sign_prekeys
from pennypost.sessions.ratchet import SKIPPED, Agreement, Device, Ratchet, Repeated, Sealed, Unreadable
from tests.sdk.deaths import Killed, kill_after_commit

Make = Callable[..., AsyncClient]


@pytest.fixture(scope="module")
def office() -> Any:
    with sandbox() as running:
        yield running


@pytest.fixture
async def client(office: Sandbox) -> AsyncIterator[Callable[..., AsyncClient]]:
    async with AsyncExitStack() as stack:

        def make(home: Path | None = None, **options: Any) -> AsyncClient:
            made = AsyncClient(office, home, **options)
            stack.push_async_callback(made.close)
            return made

        yield make


async def read(client: AsyncClient, **options: Any) -> list[Mail]:
    return [mail async for mail in client.inbox(**options)]


async def texts(client: AsyncClient, **options: Any) -> list[str]:
    return [mail.text for mail in await read(client, **options)]


async def stamped(client: Make, *args: Any, stamps: int = 20, **options: Any) -> AsyncClient:
    made = client(*args, **options)
    await made.stamps.buy(stamps)
    return made


async def messages(reader: AsyncClient) -> list[dict[str, Any]]:
    """What the wraps of session messages to somebody hold, in the order of the feed."""
    found: list[dict[str, Any]] = []
    secret = reader.identity.secret
    for header in await reader.office.headers(0):
        for event in await reader.office.letters([header.pubkey]):
            try:
                _, rumor = open_letter(event, secret, secret)
            except InvalidInput:
                continue
            if rumor.kind == KIND_SESSION:
                found.append(msgspec.json.decode(rumor.content))
    return found


async def pair(client: Make, *homes: Path | None) -> tuple[AsyncClient, AsyncClient]:
    """Alice and Bob, who has published his keys."""
    alice = await stamped(client, *homes[:1])
    bob = await stamped(client, *homes[1:])
    assert (await bob.sessions.publish()).accepted
    return alice, bob


async def test_a_conversation(client: Make) -> None:
    alice, bob = await pair(client)
    receipt = await alice.send(bob.npub, "one", session=True)
    assert (receipt.accepted, receipt.stamps) == (True, 1)
    await alice.send(bob.npub, "two", session=True)
    first, second = await read(bob)
    assert (first.text, second.text, first.sender) == ("one", "two", alice.npub)
    assert first.address.startswith(f"{alice.npub}#") and first.id == receipt.event_id
    for number in range(3):
        await bob.send(alice.npub, f"answer {number}", session=True)
        await alice.send(bob.npub, f"question {number}", session=True)
    assert await texts(alice) == ["answer 0", "answer 1", "answer 2"]
    assert await texts(bob) == ["question 0", "question 1", "question 2"]
    await alice.send(bob.npub, "and on", session=True)
    assert await texts(bob) == ["and on"]
    sent = await messages(bob)
    assert len({each["session"] for each in sent}) == 1
    assert [each.get("agreement") is not None for each in sent] == [True, True, True, True, True, False]
    assert len({each["ratchet"] for each in sent}) == 2
    assert not any("one" in str(each) for each in sent)


async def test_nothing_is_known(client: Make) -> None:
    alice, bob = await stamped(client), client()
    with pytest.raises(NoSession):
        await alice.send(bob.npub, "hello", session=True)
    assert await alice.stamps.balance() == 20
    assert await alice.sessions.addresses(bob.npub) == []


async def test_by_a_word_with_a_key_used_once(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client), client(tmp_path)
    word = await bob.sessions.word()
    assert await alice.sessions.meet(word) == bob.npub
    await alice.send(bob.npub, "hello", session=True)
    (sent,) = await messages(bob)
    once = parse_prekeys(word).once
    assert once is not None and sent["agreement"]["once"] == once
    assert await texts(bob) == ["hello"]
    # The key is gone: nobody else can begin with it, and a copy of the home opens nothing.
    carol = await stamped(client)
    await carol.sessions.meet(word)
    await carol.send(bob.npub, "late", session=True)
    assert await texts(bob) == []


async def test_introduced_by_letter(client: Make) -> None:
    alice, bob = await stamped(client), await stamped(client)
    assert (await bob.sessions.introduce(alice.npub)).stamps == 1
    assert await texts(alice) == []
    await alice.send(bob.npub, "hello", session=True)
    assert (await messages(bob))[-1]["agreement"].get("once") is not None
    assert await texts(bob) == ["hello"]


async def test_both_begin_at_once(client: Make) -> None:
    alice, bob = await pair(client)
    await alice.sessions.publish()
    await alice.send(bob.npub, "a", session=True)
    await bob.send(alice.npub, "b", session=True)
    assert (await texts(alice), await texts(bob)) == (["b"], ["a"])
    for _ in range(2):
        await alice.send(bob.npub, "a", session=True)
        await bob.send(alice.npub, "b", session=True)
        assert (await texts(alice), await texts(bob)) == (["b"], ["a"])


async def test_a_message_is_opened_once_and_shown_until_it_is_read(client: Make, tmp_path: Path) -> None:
    alice, bob = await pair(client, None, tmp_path)
    await alice.send(bob.npub, "one", session=True)
    async for mail in bob.inbox():
        assert mail.text == "one"
        break
    file = tmp_path / DATABASE
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT text FROM session_mail").fetchall() == [("one",)]
    assert await texts(client(tmp_path)) == ["one"]
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT text FROM session_mail").fetchall() == []
    # Read, and nothing opens it any more, although the office still has it.
    assert await texts(bob, again=True) == []


async def test_two_devices_are_two_addresses(client: Make, tmp_path: Path) -> None:
    alice = await stamped(client)
    phone, laptop = await stamped(client, tmp_path / "phone"), None
    Home(tmp_path / "laptop").create(IDENTITY, phone.identity.nsec)
    laptop = await stamped(client, tmp_path / "laptop")
    assert laptop.npub == phone.npub
    for each in (phone, laptop):
        await each.sessions.publish()
    addresses = await alice.sessions.addresses(phone.npub)
    assert len(addresses) == 2 and all(each.startswith(f"{phone.npub}#") for each in addresses)
    assert (await alice.send(phone.npub, "hello", session=True)).stamps == 2
    assert await texts(phone) == await texts(laptop) == ["hello"]
    await laptop.send(alice.npub, "from the laptop", session=True)
    (mail,) = await read(alice)
    assert mail.address in addresses
    assert await alice.sessions.forget(phone.npub, mail.address.split("#")[1]) == 1


async def test_a_lost_session_is_begun_anew(client: Make, tmp_path: Path) -> None:
    alice, bob = await pair(client, None, tmp_path)
    await alice.send(bob.npub, "one", session=True)
    assert await texts(bob) == ["one"]
    await bob.send(alice.npub, "two", session=True)
    assert await texts(alice) == ["two"]
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute("DELETE FROM sessions")
    await alice.send(bob.npub, "nobody reads this", session=True)
    await alice.send(bob.npub, "nor this", session=True)
    before = await bob.stamps.balance()
    assert await texts(bob) == []
    # He tells her, once, with a key for the next session.
    assert await bob.stamps.balance() == before - 1
    assert await texts(alice) == []
    await alice.send(bob.npub, "three", session=True)
    assert (await messages(bob))[-1]["agreement"].get("once") is not None
    assert await texts(bob) == ["three"]
    await bob.send(alice.npub, "four", session=True)
    assert await texts(alice) == ["four"]


@pytest.mark.parametrize("step", range(12))
async def test_killed_while_reading(
    office: Sandbox, client: Make, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is shown by one run or the next, whatever commit was the last, and the session goes on."""
    alice, bob = await pair(client, None, tmp_path)
    await alice.send(bob.npub, "one", session=True)
    seen: list[str] = []
    with monkeypatch.context() as patch:
        kill_after_commit(patch, step)
        dying = AsyncClient(office, tmp_path)
        try:
            async for mail in dying.inbox():
                seen.append(mail.text)
        except Killed:
            pass
        finally:
            await dying.office.close()
    seen += await texts(client(tmp_path))
    assert set(seen) == {"one"}
    await alice.send(bob.npub, "two", session=True)
    assert await texts(client(tmp_path)) == ["two"]


async def test_two_programs_of_one_home_use_no_key_twice(client: Make, tmp_path: Path) -> None:
    import asyncio

    alice, bob = await pair(client, tmp_path, None)
    await alice.send(bob.npub, "first", session=True)
    assert await texts(bob) == ["first"]
    other = client(tmp_path)
    # Each has words of its own: the same ones, while the first are on their way, would be the same letter again.
    words = [(each, f"{who} {number}") for number in range(4) for who, each in (("alice", alice), ("other", other))]
    receipts = await asyncio.gather(*(each.send(bob.npub, text, session=True) for each, text in words))
    assert all(receipt.accepted for receipt in receipts)
    numbers = [(each["ratchet"], each.get("number", 0)) for each in await messages(bob)]
    assert len(set(numbers)) == len(numbers) == 9
    assert sorted(await texts(bob)) == sorted(text for _, text in words)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"to": 1}',
        '{"to": "%s", "by": "00"}',
        '{"to": "%s", "by": "' + "ab" * 32 + '", "keys": "pps1AAAA"}',
        '{"to": "%s", "by": "' + "ab" * 32 + '", "reset": "' + "cd" * 32 + '"}',
        '{"to": "%s", "by": "' + "ab" * 32 + '", "body": "!", "session": "' + "cd" * 32 + '", "ratchet": "' + "ef" * 32
        + '"}',
        '{"to": "%s", "by": "' + "00" * 32 + '", "body": "AAAA", "session": "' + "00" * 32 + '", "ratchet": "'
        + "00" * 32 + '", "agreement": {"ephemeral": "' + "00" * 32 + '", "signed": "' + "00" * 32 + '"}}',
        '{"to": "%s", "by": "' + "ab" * 32 + '", "number": 2147483648}',
        '{"to": "%s", "number": ' + "9" * 400 + "}",
        "[" * 10_000,
    ],
    ids=range(12),
)  # fmt: skip
async def test_hostile_messages(client: Make, content: str) -> None:
    """Passed over; what comes after is read."""
    mallory, bob = await pair(client)
    device = parse_prekeys(await bob.sessions.word()).device
    desk = mallory._desk  # pyright: ignore[reportPrivateUsage]
    letter = desk.letter(bob.identity.pub, content.replace("%s", device), kind=KIND_SESSION)
    assert (await desk.post(letter.event)).accepted
    await mallory.send(bob.npub, "hello", session=True)
    assert await texts(bob) == ["hello"]


# Below the office


async def agreed() -> tuple[Ratchet, Ratchet, bytes]:
    a, b = Device.new(), Device.new()
    b.fresh()
    shared, names, agreement = await a.agree(b.bundle, b"ab")
    writing, first = await Ratchet.begin(shared, b.bundle.signed_pre_key, names, b"first")
    shared, names, own = await b.agree_with(agreement, b"ab")
    reading, text = await Ratchet.answer(shared, own, names, first)
    assert text == b"first"
    return writing, reading, names


async def test_messages_out_of_order_and_repeated() -> None:
    a, b, _ = await agreed()
    sent = [await a.encrypt(str(number).encode()) for number in range(10)]
    for number in (9, 3, 4, 0, 8):
        assert await b.decrypt(sent[number]) == str(number).encode()
        with pytest.raises(Unreadable):
            await b.decrypt(sent[number])
    back = await b.encrypt(b"back")
    assert await a.decrypt(back) == b"back"
    assert await b.decrypt(await a.encrypt(b"on")) == b"on"
    assert await b.decrypt(sent[1]) == b"1"


async def test_too_many_are_missing() -> None:
    a, b, _ = await agreed()
    last = [await a.encrypt(b"x") for _ in range(SKIPPED + 2)][-1]
    with pytest.raises(Unreadable):
        await b.decrypt(last)
    far = Sealed(last.ratchet, 2**31 - 1, 2**31 - 1, last.ciphertext)
    with pytest.raises(Unreadable):
        await b.decrypt(far)


async def test_a_changed_message_changes_nothing() -> None:
    a, b, names = await agreed()
    sealed = await a.encrypt(b"text")
    before = b.save()
    for changed in (
        Sealed(
            sealed.ratchet, sealed.previous, sealed.number, sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
        ),
        Sealed(sealed.ratchet, sealed.previous + 1, sealed.number, sealed.ciphertext),
        Sealed(bytes(32), sealed.previous, sealed.number, sealed.ciphertext),
        Sealed(bytes(31), sealed.previous, sealed.number, sealed.ciphertext),
        Sealed(sealed.ratchet, sealed.previous, sealed.number, b""),
    ):
        with pytest.raises(Unreadable):
            await b.decrypt(changed)
        assert b.save() == before
    with pytest.raises(Unreadable):
        await Ratchet.load(before, names + b"x").decrypt(sealed)
    assert await Ratchet.load(before, names).decrypt(sealed) == b"text"
    assert await b.decrypt(sealed) == b"text"
    with pytest.raises(Repeated):
        await b.decrypt(sealed)


async def test_keys_of_before_open_nothing_that_comes() -> None:
    """Who has a copy of a state reads on until both have written once; then no more."""
    a, b, names = await agreed()
    stolen = Ratchet.load(b.save(), names)
    await a.decrypt(await b.encrypt(b"b"))
    await b.decrypt(await a.encrypt(b"a"))
    await a.decrypt(await b.encrypt(b"b"))
    after = await a.encrypt(b"healed")
    assert await b.decrypt(after) == b"healed"
    with pytest.raises(Unreadable):
        await stolen.decrypt(after)


async def test_keys_that_are_over() -> None:
    a, b = Device.new(), Device.new()
    bundle = b.bundle
    assert not b.rotate(3_600) and b.rotate(0)
    _, _, agreement = await a.agree(bundle, b"ab")
    await b.agree_with(agreement, b"ab")
    assert b.rotate(0)
    with pytest.raises(Unreadable):
        await b.agree_with(agreement, b"ab")
    none = Agreement(a.name, a.bundle.signed_pre_key, b.bundle.signed_pre_key, a.bundle.signed_pre_key)
    with pytest.raises(Unreadable):
        await b.agree_with(none, b"ab")
    with pytest.raises(Unreadable):
        await a.agree(bundle._replace(signed_pre_key_sig=bytes(64)), b"ab")


def prekeys(**changes: Any) -> str:
    device = Device.new()
    made = sign_prekeys(device.bundle, device.fresh(), bytes([7]) * 32, 1_700_000_000, bytes(32))
    return encode_prekeys(msgspec.structs.replace(made, **changes))


def test_prekeys_as_a_word() -> None:
    word = prekeys()
    assert encode_prekeys(parse_prekeys(word)) == word


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "ab" * 32},
        {"device": "ab" * 32},
        {"signed": "ab" * 32},
        {"once": None},
        {"once": "AB" * 32},
        {"made_at": 1},
        {"made_at": -1},
        {"signature": "00" * 64},
        {"signature": "00"},
    ],
    ids=str,
)
def test_prekeys_that_their_owner_did_not_sign(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        parse_prekeys(prekeys(**changes))


@settings(max_examples=100)
@given(st.one_of(st.text(), st.text(alphabet="ABCabc019-_=").map(lambda text: "pps1" + text)))
def test_prekeys_are_read_or_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_prekeys(text)


async def test_messages_look_like_letters(client: Make) -> None:
    alice, bob = await pair(client)
    await alice.send(bob.npub, "x", session=True)
    await alice.send(bob.npub, "x" * 600)
    plain = await messages(bob)
    assert len(plain) == 1
    found: list[Event] = []
    for header in await bob.office.headers(0):
        found += [e for e in await bob.office.letters([header.pubkey]) if _ours(e, bob)]
    assert len({(len(e.content), tuple(tag[0] for tag in e.tags)) for e in found}) == 1


def _ours(event: Event, bob: AsyncClient) -> bool:
    try:
        open_letter(event, bob.identity.secret, bob.identity.secret)
    except InvalidInput:
        return False
    return True


def test_where_they_are_not_installed() -> None:
    program = """
import sys
sys.modules["x3dh"] = None
from pennypost import Client, PennypostError, sandbox
with sandbox() as office, Client(office) as alice, Client(office) as bob:
    alice.stamps.buy(2)
    try:
        alice.send(bob.npub, "x", session=True)
    except PennypostError as error:
        print(error.code)
    alice.send(bob.npub, "y")
    print([mail.text for mail in bob.inbox()])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["sessions-missing", "['y']"], done.stderr
