"""What sending costs before it is done, what every office said, and letters that a crash left in the outbox."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pennypost import AsyncClient, Sandbox, ledger
from pennypost.home import Home
from pennypost.office import save_information_on
from pennypost.outbox import Letter, waiting_on, write_letter_on
from pennypost.protocol.errors import (
    InvalidInput,
    InvalidKey,
    LetterTooLarge,
    NoSession,
    NotEnoughStamps,
    NotFound,
    OfficeUnreachable,
    OnceUsed,
    OtherMint,
    ServerError,
)
from pennypost.protocol.event import event_json, sign_event
from pennypost.store import MIGRATIONS, Store
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.meddler import Meddler
from tests.sdk.test_mail import MOST_STEPS, read, stamped, texts, with_ok
from tests.sdk.test_mint_client import edit

Make = Callable[..., AsyncClient]


async def nothing_done(client: AsyncClient, stamps: int) -> None:
    assert await client.stamps.summary() == ledger.Balance(stamps=stamps)
    assert not await client._store.run(waiting_on, client.office.url)


@pytest.mark.parametrize("per_kib", [0, 2])
async def test_a_dry_run_says_the_price_and_does_nothing(client: Make, meddler: Meddler, per_kib: int) -> None:
    fee = {"amount": 1, "unit": "sat", "per_kib": per_kib, "mints": ["http://pennypost.sandbox"]}
    meddler.change("/", edit(fees={"stamp": [fee]}))
    alice, bob = await stamped(client, transport=meddler, stamps=20), client()
    dry = await alice.send(bob.npub, "x", dry_run=True)
    assert (dry.code, dry.accepted, dry.error, dry.kept_until) == ("dry-run", False, None, 0)
    assert [(each.office, each.stamps) for each in dry.relays] == [("http://pennypost.sandbox", dry.stamps)]
    assert not {"EVENT", "WEBSOCKET"} & set(meddler.asked)
    await nothing_done(alice, 20)
    assert await read(bob) == []
    receipt = await alice.send(bob.npub, "x")
    assert receipt.accepted and receipt.stamps == dry.stamps and (dry.stamps > 2) == bool(per_kib)


async def test_a_dry_run_needs_no_stamps_and_knows_no_limit(client: Make) -> None:
    dry = await client(max_stamps=0).send(client().npub, "x", dry_run=True)
    assert (dry.code, dry.stamps) == ("dry-run", 1)


async def test_a_dry_run_finds_what_would_be_refused(client: Make, meddler: Meddler) -> None:
    alice = await stamped(client)
    with pytest.raises(LetterTooLarge):
        await alice.send(client().npub, "x" * 17_000, dry_run=True)
    with pytest.raises(InvalidKey):
        await alice.send("nobody", "x", dry_run=True)
    with pytest.raises(NoSession):
        await alice.send(client().npub, "x", dry_run=True, session=True)
    meddler.change("/v1/info", edit(urls=[]))
    with pytest.raises(OtherMint):
        await client(transport=meddler, mint="http://pennypost.sandbox/elsewhere").send(
            client().npub, "x", dry_run=True
        )


async def test_a_dry_run_leaves_letters_of_before_where_they_are(
    client: Make, meddler: Meddler, tmp_path: Path
) -> None:
    alice, bob = await stamped(client, tmp_path, transport=meddler), client()
    meddler.frames = with_ok("error: later")
    with pytest.raises(ServerError):
        await alice.send(bob.npub, "kept", patience=0)
    again = client(tmp_path)
    await again.send(bob.npub, "x", dry_run=True)
    assert (await again.stamps.summary()).reserved == 1
    assert (await again.send(bob.npub, "x")).accepted
    assert sorted(await texts(bob)) == ["kept", "x"]


async def test_a_dry_run_of_a_session_uses_up_no_key(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client), await stamped(client, tmp_path)
    await bob.sessions.publish()
    for text in ("first", "second"):
        dry = await alice.send(bob.npub, text, session=True, dry_run=True)
        assert (dry.code, dry.stamps) == ("dry-run", 1)
        assert (await alice.send(bob.npub, text, session=True)).stamps == 1
        assert await texts(bob) == [text]


async def test_a_receipt_has_the_words_of_the_office(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    taken = await alice.send(bob.npub, "x")
    assert taken.reason.startswith("accepted: until ") and str(taken.kept_until) in taken.reason
    words = "blocked: " + "go away " * 100
    meddler.frames = with_ok(words)
    refused = await alice.send(bob.npub, "y")
    assert (refused.code, refused.reason, refused.relays) == ("policy", words[:300], (refused,))


# The same call again


@pytest.mark.parametrize(("way", "once"), [*((way, "letter 7") for way in WAYS), (WAYS[-1], None)])
async def test_the_same_call_after_a_crash_at_any_step(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, once: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    for step in range(MOST_STEPS):
        home, bob = tmp_path / str(step), client()
        await client(home).stamps.buy(4)

        async def send(alice: AsyncClient, bob: AsyncClient = bob) -> None:
            await alice.send(bob.npub, "x", patience=0, once=once)

        died = await dies(office, home, send, way, step, monkeypatch)
        alice = client(home)
        finished = not await alice.outbox()
        receipt = await alice.send(bob.npub, "x", once=once)
        assert receipt.accepted
        arrived, check = await texts(bob), await alice.stamps.check()
        assert (check.reserved, check.lost, check.problems) == (0, 0, ())
        assert await alice.outbox() == [] and len(arrived) == 4 - check.stamps
        # Without a key nobody can tell a repeat from a second letter once the first has had its answer.
        assert len(arrived) == 1 or (once is None and finished and len(arrived) == 2), (way, step)
        if once is not None:
            again = await client(home).send(bob.npub, "x", once=once)
            assert (again.accepted, again.code, again.stamps) == (True, "duplicate", 0)
            assert again.event_id == receipt.event_id and await texts(bob) == []
        if not died:
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("once", [None, "k"])
async def test_the_same_call_in_the_same_process(client: Make, meddler: Meddler, once: str | None) -> None:
    told: list[str] = []
    alice, bob = await stamped(client, transport=meddler, notice=told.append), client()
    meddler.frames = with_ok("error: later")
    for _ in range(3):
        with pytest.raises(ServerError):
            await alice.send(bob.npub, "x", patience=0, once=once)
    (waiting,) = await alice.outbox()
    assert (waiting.to, waiting.stamps, waiting.office) == (bob.identity.pub.hex(), 1, alice.office.url)
    meddler.honest()
    receipt = await alice.send(bob.npub, "x", once=once)
    assert (receipt.accepted, receipt.event_id) == (True, waiting.event_id)
    assert await texts(bob) == ["x"] and await alice.stamps.balance() == 4
    assert len(told) == (3 if once is None else 0)


async def test_a_draft_that_cannot_be_stamped_blocks_no_other(client: Make, meddler: Meddler, tmp_path: Path) -> None:
    told: list[str] = []
    alice, bob = await stamped(client, tmp_path, transport=meddler, stamps=1), client()
    meddler.frames = with_ok("error: later")
    with pytest.raises(ServerError):
        await alice.send(bob.npub, "x", patience=0)
    meddler.honest()
    written = sign_event(b"\x02" * 32, created_at=int(time.time()), kind=1, tags=[], content="", aux=bytes(32))
    draft = Letter(written, alice.office.url, state="drafted")
    await alice._store.run(write_letter_on, draft, [], 0)
    later = client(tmp_path, notice=told.append)
    (receipt,) = await later.flush()
    assert receipt.accepted and await texts(bob) == ["x"]
    assert [each.event_id for each in await later.outbox()] == [written.id] and len(told) == 1


async def test_two_letters_of_one_text_are_two_letters(client: Make) -> None:
    alice, bob = await stamped(client), client()
    first, second = await asyncio.gather(alice.send(bob.npub, "x"), alice.send(bob.npub, "x"))
    third = await alice.send(bob.npub, "x")
    assert len({first.event_id, second.event_id, third.event_id}) == 3
    assert await texts(bob) == ["x"] * 3


async def test_one_text_of_two_programs_is_one_letter_while_it_is_on_its_way(
    client: Make, meddler: Meddler, tmp_path: Path
) -> None:
    alice, other, bob = await stamped(client, tmp_path, transport=meddler), client(tmp_path), client()
    meddler.frames = with_ok("error: later")
    with pytest.raises(ServerError):
        await alice.send(bob.npub, "x", patience=0)
    (waiting,) = await alice.outbox()
    assert (await other.send(bob.npub, "x")).event_id == waiting.event_id
    assert (await other.send(bob.npub, "x", once="k")).event_id != waiting.event_id
    assert await texts(bob) == ["x"] * 2


async def test_another_text_is_not_the_letter_that_waits(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    meddler.frames = with_ok("error: later")
    for text, keep in (("x", 3_600), ("y", 3_600), ("x", 86_400)):
        with pytest.raises(ServerError):
            await alice.send(bob.npub, text, keep=keep, patience=0)
    assert len({each.event_id for each in await alice.outbox()}) == 3


async def test_one_key_at_the_same_time_is_one_letter(client: Make, tmp_path: Path) -> None:
    alice, other, bob = await stamped(client, tmp_path), client(tmp_path), client()
    receipts = await asyncio.gather(*(each.send(bob.npub, "x", once="k") for each in (alice, other) * 3))
    assert len({each.event_id for each in receipts}) == 1 and all(each.accepted for each in receipts)
    assert await texts(bob) == ["x"]
    assert (await alice.stamps.check()).stamps == 4


async def test_one_key_is_one_letter(client: Make) -> None:
    alice, bob, carol = await stamped(client), client(), client()
    assert (await alice.send(bob.npub, "x", once="k")).accepted
    for to, text, keep in ((bob, "y", 86_400), (carol, "x", 86_400), (bob, "x", 3_600)):
        with pytest.raises(OnceUsed):
            await alice.send(to.npub, text, once="k", keep=keep)
    assert (await alice.send(bob.npub, "x", once="K")).stamps == 1


@pytest.mark.parametrize("once", ["", "x" * 201, "a\nb", "\x00"])
async def test_keys_that_are_none(client: Make, once: str) -> None:
    with pytest.raises(InvalidInput):
        await client().send(client().npub, "x", once=once)


async def test_a_key_is_free_again_when_nothing_was_stored(client: Make, meddler: Meddler) -> None:
    alice, bob = client(transport=meddler), client()
    with pytest.raises(NotEnoughStamps):
        await alice.send(bob.npub, "x", once="k")
    assert await alice.outbox() == []
    await alice.stamps.buy(3)
    meddler.lose_request = len(meddler.asked)
    await alice._store.run(save_information_on, alice.office.url, b"{}", 0)
    with pytest.raises(OfficeUnreachable):
        await alice.send(bob.npub, "x", once="k")
    assert await alice.outbox() == []
    meddler.honest()
    meddler.frames = with_ok("restricted: members only")
    receipt = await alice.send(bob.npub, "y", once="k")
    assert receipt.code == "not-allowed"


async def test_a_key_outlives_its_letter_and_is_forgotten_a_year_later(client: Make, tmp_path: Path) -> None:
    now = [time.time()]
    alice, bob = await stamped(client, tmp_path, clock=lambda: now[0]), client()
    await alice.send(bob.npub, "x", once="k", keep=3_600)
    await alice.send(bob.npub, "x", keep=3_600)
    rows = "SELECT count(*) FROM letters", "SELECT count(*) FROM outbox"

    async def count() -> list[int]:
        return [(await alice._store.run(lambda c, q: c.execute(q).fetchone(), each))[0] for each in rows]

    assert await count() == [1, 2]
    now[0] += 2 * 86_400
    await alice.flush()
    assert await count() == [1, 0]
    receipt = await alice.send(bob.npub, "x", once="k", keep=3_600)
    assert (receipt.code, receipt.accepted, receipt.stamps) == ("duplicate", True, 0)
    now[0] += 366 * 86_400
    await alice.flush()
    assert await count() == [0, 0]


async def test_a_letter_that_expired_unsent_frees_its_key(client: Make, meddler: Meddler, tmp_path: Path) -> None:
    now = [time.time() - 3 * 3_600]
    alice, bob = await stamped(client, tmp_path, transport=meddler, clock=lambda: now[0]), client()
    meddler.frames = with_ok("error: later")
    with pytest.raises(ServerError):
        await alice.send(bob.npub, "x", once="k", keep=3_600, patience=0)
    now[0] += 3 * 3_600
    assert await alice.flush() == [] == await alice.outbox()
    meddler.honest()
    assert (await alice.send(bob.npub, "x", once="k", keep=3_600)).code == "accepted"


async def test_a_session_with_a_key_is_written_once(client: Make, tmp_path: Path, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), await stamped(client, tmp_path)
    await bob.sessions.publish()
    meddler.frames = with_ok("error: later")
    with pytest.raises(ServerError):
        await alice.send(bob.npub, "x", session=True, once="k", patience=0)
    meddler.honest()
    for code, stamps in (("duplicate", 1), ("duplicate", 0)):
        receipt = await alice.send(bob.npub, "x", session=True, once="k")
        assert (receipt.accepted, receipt.code, receipt.stamps) == (True, code, stamps)
    assert await texts(bob) == ["x"]


async def test_what_is_kept_of_letters_tells_no_text(client: Make, tmp_path: Path) -> None:
    alice, bob = await stamped(client, tmp_path), client()
    await alice.send(bob.npub, "a telling text", once="k")
    digest, receiver = await alice._store.run(lambda c: c.execute("SELECT digest, receiver FROM letters").fetchone())
    assert receiver == "" and len(digest) == 32
    assert hashlib.sha256(b"a telling text").digest() != digest
    await alice.close()
    content = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"a telling text" not in content and bob.identity.pub.hex().encode() not in content


async def test_a_home_of_before_keeps_its_letters_and_stamps(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "pennypost.db")
    before = next(place for place, each in enumerate(MIGRATIONS) if "CREATE TABLE letters" in each)
    for step in MIGRATIONS[:before]:
        connection.executescript(step)
    connection.execute(f"PRAGMA user_version={before}")
    office, id = "http://pennypost.sandbox", "ab" * 32
    event = event_json(sign_event(b"\x01" * 32, created_at=1, kind=1059, tags=[], content="", aux=bytes(32)))
    connection.execute(
        "INSERT INTO outbox VALUES (?, ?, 'm', ?, 't', 1, 'waiting', '', ?, 0)", (id, office, event, 2**40)
    )
    connection.executemany(
        "INSERT INTO proofs VALUES (?, 'm', 'k', 1, 'c', 'reserved', ?)", [("one", id), ("two", "c" * 64)]
    )
    connection.commit()
    connection.close()
    store = Store(Home(tmp_path))
    (letter,) = await store.run(waiting_on, office)
    assert (letter.token, letter.sat, letter.state, letter.holder) == ("t", 1, "waiting", f"{letter.event.id} {office}")
    holders = await store.run(lambda c: c.execute("SELECT secret, holder FROM proofs ORDER BY 1").fetchall())
    assert holders == [("one", f"{id} {office}"), ("two", "c" * 64)]
    await store.close()


# Given up


@pytest.mark.parametrize("mint_away", [False, True])
@pytest.mark.parametrize("taken", [False, True])
async def test_a_letter_is_dropped(
    client: Make, meddler: Meddler, monkeypatch: pytest.MonkeyPatch, taken: bool, mint_away: bool
) -> None:
    """`taken`: the office had it, and its answer was lost; else the office was never reached."""
    alice, bob = await stamped(client, transport=meddler), client()

    async def gone(*_: object) -> None:
        raise OfficeUnreachable

    with monkeypatch.context() as patch:
        if taken:
            meddler.frames = with_ok("error: later")
        else:
            patch.setattr(alice.office, "post", gone)
        with pytest.raises((ServerError, OfficeUnreachable)):
            await alice.send(bob.npub, "x", once="k", patience=0)
        (waiting,) = await alice.outbox()
        if mint_away:
            patch.setattr(alice.stamps.mint, "states", gone)
        (dropped,) = await alice.drop(waiting.event_id)
    meddler.honest()
    known = taken and not mint_away
    assert (dropped.returned, dropped.taken, dropped.checked) == (int(not known), int(known), not mint_away)
    assert await alice.outbox() == [] and (await alice.stamps.summary()).reserved == 0
    check = await alice.stamps.check()
    assert (check.stamps, check.reserved, check.problems) == (5 - taken, 0, ())
    with pytest.raises(NotFound):
        await alice.drop(waiting.event_id)
    receipt = await alice.send(bob.npub, "x", once="k")
    assert (receipt.code, receipt.event_id == waiting.event_id) == (
        ("duplicate", True) if known else ("accepted", False)
    )
    assert len(await texts(bob)) == (2 if taken and mint_away else 1)


async def test_a_letter_that_is_being_sent_is_not_dropped(client: Make, meddler: Meddler) -> None:
    alice, bob = await stamped(client, transport=meddler), client()
    meddler.frames = with_ok("error: later")
    sending = asyncio.ensure_future(alice.send(bob.npub, "x", patience=60))
    while not (waiting := await alice.outbox()):
        await asyncio.sleep(0)
    with pytest.raises(InvalidInput):
        await alice.drop(waiting[0].event_id)
    meddler.honest()
    assert (await sending).accepted


@pytest.mark.parametrize("once", [None, "k"])
async def test_the_same_session_message_after_an_answer_was_lost(
    client: Make, meddler: Meddler, tmp_path: Path, once: str | None
) -> None:
    alice, bob = await stamped(client, tmp_path, transport=meddler), await stamped(client)
    await bob.sessions.publish()
    before = await alice.stamps.balance()
    meddler.frames = with_ok("error: later")
    with pytest.raises(ServerError):
        await alice.sessions.send(bob.npub, "x", once=once, patience=0)
    again = client(tmp_path)
    (receipt,) = await again.sessions.send(bob.npub, "x", once=once)
    assert receipt.accepted and await again.stamps.balance() == before - 1
    assert await texts(bob) == ["x"] and await again.outbox() == []
    if once is not None:
        (repeat,) = await again.sessions.send(bob.npub, "x", once=once)
        assert (repeat.code, repeat.stamps, repeat.event_id) == ("duplicate", 0, receipt.event_id)
        assert await again.stamps.balance() == before - 1
