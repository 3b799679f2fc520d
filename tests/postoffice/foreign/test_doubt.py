"""Swaps of which a mint does not say what became: the operator looks again, or closes them, and senders come again."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from pennypost.cli import main
from pennypost.protocol.errors import InvalidInput, MintAway, Overloaded
from pennypost.protocol.event import Event
from pennypost.protocol.price import PriceList
from pennypost.protocol.token import Proof
from pennypost_mint.runtime.logs import configure_logs
from pennypost_postoffice.foreign import exchange
from pennypost_postoffice.foreign import swap as swaps
from pennypost_postoffice.foreign import treasury as treasuries
from pennypost_postoffice.foreign.backup import read_backup, write_backup
from pennypost_postoffice.foreign.closed import Closed, closed_on
from pennypost_postoffice.foreign.doubt import Doubts, Look
from pennypost_postoffice.foreign.treasury import Treasury
from pennypost_postoffice.operate.prices import set_on
from pennypost_postoffice.tables import feed
from tests.postoffice.foreign.conftest import Books, long_patience, short_patience
from tests.postoffice.foreign.liar import Answer, Behaviour, Liar, Request, hang_up, spent, swallow, trouble
from tests.postoffice.house import Author, House, open_house
from tests.support.relay import letter, plain

pytestmark = pytest.mark.usefixtures("quick", "at_once")

SWAP, STATE, RESTORE = "/v1/swap", "/v1/checkstate", "/v1/restore"
REASON = "the mint is gone"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is under way any more after a moment."""
    monkeypatch.setattr(swaps, "QUIET", 0.4)


@pytest_asyncio.fixture
async def doubts(liar: Liar, office: House) -> AsyncIterator[Doubts]:
    """The operator's command, beside the server."""
    foreign = office.office.foreign
    assert foreign is not None
    opened = Doubts(office.office.database, [liar.url], foreign.seed, PriceList())
    yield opened
    await opened.end()


sqlite_only = pytest.mark.parametrize("address", ["sqlite"], indirect=True)
"""For what does not depend on the database."""


class Street:
    """A sender, and what is written down."""

    def __init__(
        self, elsewhere: House, liar: Liar, office: House, books: Books, doubts: Doubts, patch: pytest.MonkeyPatch
    ) -> None:
        self.elsewhere, self.liar, self.office, self.books, self.doubts = elsewhere, liar, office, books, doubts
        self._patch = patch

    def repent(self) -> None:
        """The mint is honest from now on, and who comes again is told what became of his stamp."""
        self.liar.repent()
        long_patience(self._patch)

    def token(self, proof: Proof) -> str:
        return self.elsewhere.purse.token(proof, url=self.liar.url)

    async def post(self, event: Event, proof: Proof) -> Any:
        async with self.office.relay() as relay:
            return await relay.post(event, self.token(proof))

    async def taken(self, event: Event, proof: Proof) -> None:
        """It comes in."""
        answer = await self.post(event, proof)
        assert answer.accepted, answer

    async def stored(self, event: Event) -> bool:
        async with self.office.relay() as relay:
            return bool(await relay.fetch({"ids": [event.id]}))

    async def closed(self) -> list[Closed]:
        return await self.office.office.database.read(closed_on)

    async def in_doubt(self, behaviour: Behaviour = hang_up, event: Event | None = None) -> tuple[Event, Proof]:
        """A letter whose sender was told to come again, and whose mint says nothing."""
        event, proof = event or letter(), self.elsewhere.purse.proof()
        self.liar.lie(SWAP, behaviour)
        self.liar.lie(STATE, trouble)
        short_patience(self._patch, 0.6)
        async with asyncio.timeout(60):
            # on a busy machine he may be told so before the row is written
            while not (entries := await self.books.journal()):
                assert (await self.post(event, proof)).code == "overloaded"
        (entry,) = entries
        assert entry.event_id.hex() == event.id
        # the server's first two steps are over; the next ones are PAUSE apart
        async with asyncio.timeout(60):
            while self.liar.asked[STATE] < 2:
                await asyncio.sleep(0.02)
        return event, proof

    async def close(self, event: Event) -> Look:
        """As soon as no request may be under way any more."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.doubts.close(event.id, REASON)
                except Overloaded:
                    await asyncio.sleep(0.05)

    async def left_alone(self) -> None:
        """The server has noticed."""
        foreign = self.office.office.foreign
        assert foreign is not None
        async with asyncio.timeout(60):
            while foreign._under_way:
                await asyncio.sleep(0.02)


@pytest.fixture
def street(
    elsewhere: House, liar: Liar, office: House, books: Books, doubts: Doubts, monkeypatch: pytest.MonkeyPatch
) -> Street:
    return Street(elsewhere, liar, office, books, doubts, monkeypatch)


@pytest.mark.parametrize("done", [False, True], ids=["the stamp was left alone", "the stamp was taken"])
async def test_a_sender_who_comes_again_after_a_closing(street: Street, done: bool) -> None:
    """He loses nothing: the same request to the mint, byte for byte, and his stamp pays once."""
    event, proof = await street.in_doubt(swallow if done else hang_up)
    assert (await street.close(event)).result == "closed"
    assert await street.books.journal() == [] and await street.books.inputs() == 0
    assert not await street.stored(event) and await street.books.earned() == 0
    (closed,) = await street.closed()
    assert closed.reason == REASON and closed.letter and closed.event_id.hex() == event.id
    await street.left_alone()
    street.repent()
    await street.taken(event, proof)
    assert await street.stored(event) and await street.books.earned() == 1
    assert await street.elsewhere.spent(proof) == [True]
    assert len(set(street.liar.bodies[SWAP])) == 1, "never other outputs"
    assert await street.closed() == [] and await street.books.journal() == []
    assert (await street.post(event, proof)).duplicate


async def test_other_uses_after_a_closing(street: Street) -> None:
    """A stamp that was left alone pays for another letter; the letter may come with another stamp."""
    event, proof = await street.in_doubt()
    await street.close(event)
    street.repent()
    await street.taken(letter(), proof)
    assert (await street.post(event, proof)).code == "stamp-spent"
    assert await street.closed() == [], "it is known now that nothing was signed"
    other = street.elsewhere.purse.proof()
    await street.taken(event, other)
    assert await street.elsewhere.spent(proof, other) == [True, True] and await street.books.earned() == 2


@sqlite_only
async def test_a_stamp_that_was_taken_pays_for_its_own_letter_alone(street: Street) -> None:
    event, proof = await street.in_doubt(swallow)
    await street.close(event)
    street.repent()
    assert (await street.post(letter(), proof)).code == "stamp-spent"
    await street.taken(event, proof)
    assert await street.books.earned() == 1


async def test_what_was_signed_for_a_closed_swap_comes_in_once(street: Street) -> None:
    """Whoever comes first, the operator or the sender: one stamp earns one sat, and the letter is stored."""
    event, proof = await street.in_doubt(swallow)
    await street.close(event)
    assert [each.result for each in await street.doubts.look()] == ["collected"]
    assert await street.books.earned() == 1 and (await street.closed())[0].collected
    assert [each.result for each in await street.doubts.look()] == ["closed"]
    street.repent()
    await street.taken(event, proof)
    assert await street.stored(event)
    assert await street.books.earned() == 1 and await street.closed() == []


@pytest.mark.parametrize("by", ["the operator", "the sender"])
async def test_a_closed_swap_is_in_the_backup(street: Street, tmp_path: Path, by: str) -> None:
    """Another database with the same seed: what was signed is found, or pays for the letter that comes again. No stamp
    and no letter is in the file."""
    event, proof = await street.in_doubt(swallow)
    await street.close(event)
    foreign = street.office.office.foreign
    assert foreign is not None
    file = tmp_path / "treasury.json"
    made = await write_backup(street.office.office.database, foreign.seed, file)
    text, before = file.read_text(), await street.closed()
    assert len(made.closed) == 1 and proof.secret not in text and event.content not in text
    street.repent()
    seed = str(street.office.settings.office_seed)
    new = {"role": "postoffice", "mint_urls": street.liar.url, "office_seed_file": seed}
    async with open_house(tmp_path / "new", **new) as office:
        database = office.office.database
        for _ in range(2):
            assert await read_backup(database, foreign.seed, file) == 0
            assert await database.read(closed_on) == before
        if by == "the operator":
            looking = Doubts(database, [street.liar.url], foreign.seed, PriceList())
            assert [each.result for each in await looking.look()] == ["collected"]
            await looking.end()
            # the file does not undo what happened since
            await read_backup(database, foreign.seed, file)
            assert [each.collected for each in await database.read(closed_on)] == [True]
        async with office.relay() as relay:
            answer = await relay.post(event, street.token(proof))
            assert answer.accepted, answer
            assert await relay.fetch({"ids": [event.id]}) == [plain(event)]
        assert await Books(office).earned() == 1 and await database.read(closed_on) == []


LOOKS: list[tuple[str, Behaviour, Behaviour | None, str]] = [
    ("it was taken", swallow, None, "stored"),
    ("it was left alone", hang_up, None, "untouched"),
    ("the mint says nothing", hang_up, trouble, "unknown"),
]


@sqlite_only
@pytest.mark.parametrize(("case", "swap", "state", "result"), LOOKS, ids=[row[0] for row in LOOKS])
async def test_a_look_carries_out_what_the_mint_says(
    street: Street, monkeypatch: pytest.MonkeyPatch, case: str, swap: Behaviour, state: Behaviour | None, result: str
) -> None:
    """The command alone: the server looks after it once a minute, as in life."""
    monkeypatch.setattr(exchange, "PAUSE", (60.0, 60.0, 60.0))
    event, _ = await street.in_doubt(swap)
    asked = street.liar.asked[SWAP]
    street.repent()
    if state is not None:
        street.liar.lie(STATE, state)
    await asyncio.sleep(swaps.QUIET)
    (found,) = await street.doubts.look([event.id])
    assert (found.result, found.sat, found.letter) == (result, 1, True)
    assert street.liar.asked[SWAP] == asked, "nobody waits: no swap is asked for"
    assert await street.stored(event) == (result == "stored")
    assert await street.books.earned() == (result == "stored")
    assert len(await street.books.journal()) == (result == "unknown")


@sqlite_only
async def test_a_letter_that_was_deleted_meanwhile(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is paid, and the letter stays out."""
    monkeypatch.setattr(exchange, "PAUSE", (60.0, 60.0, 60.0))
    author = Author()
    event, proof = await street.in_doubt(swallow, author.sign(1))
    street.repent()
    await street.taken(author.sign(5, ["e", event.id]), street.elsewhere.purse.proof())
    assert [each.result for each in await street.doubts.look([event.id])] == ["over"]
    assert await street.books.earned() == 2 and await street.books.journal() == []
    assert not await street.stored(event) and (await street.post(event, proof)).code == "deleted"


@sqlite_only
async def test_a_mint_that_takes_a_stamp_and_never_signs(street: Street) -> None:
    """It says spent, and knows nothing of our outputs: ten minutes later that is its word, and no row stays."""

    async def taken(request: Request) -> Answer | None:
        ys = json.loads(request.body)["Ys"]
        return 200, json.dumps({"states": [{"Y": y, "state": "SPENT"} for y in ys]}).encode(), {}

    street.liar.lie(SWAP, spent)
    street.liar.lie(STATE, taken)
    event, proof = letter(), street.elsewhere.purse.proof()
    assert (await street.post(event, proof)).code == "stamp-spent"
    assert await street.books.journal() == [] and not await street.stored(event)


@sqlite_only
async def test_a_mint_that_says_pending_for_good(street: Street) -> None:
    """Only the operator ends that."""

    async def pending(request: Request) -> Answer | None:
        ys = json.loads(request.body)["Ys"]
        return 200, json.dumps({"states": [{"Y": y, "state": "PENDING"} for y in ys]}).encode(), {}

    event, _ = await street.in_doubt()
    street.liar.lie(STATE, pending)
    await asyncio.sleep(swaps.QUIET)
    assert [each.result for each in await street.doubts.look()] == ["unknown"]
    assert (await street.close(event)).result == "closed"
    await street.left_alone()


@sqlite_only
async def test_what_cannot_be_closed(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    event, _ = await street.in_doubt()
    monkeypatch.setattr(swaps, "QUIET", 600.0)
    with pytest.raises(Overloaded):
        await street.doubts.close(event.id, REASON)
    with pytest.raises(InvalidInput):
        await street.doubts.close("00" * 32, REASON)
    with pytest.raises(InvalidInput):
        await street.doubts.look(["00" * 32])
    for bad in ("", " ", "two\nlines", "x" * 257):
        with pytest.raises(InvalidInput):
            await street.doubts.close(event.id, bad)
    assert len(await street.books.journal()) == 1
    nobody = Doubts(street.office.office.database, [], bytes(32), PriceList())
    assert [each.result for each in await nobody.look()] == ["unlisted"]
    monkeypatch.setattr(swaps, "QUIET", 0.0)
    assert (await nobody.close(event.id, "it left")).result == "closed", "also for a mint that is not listed any more"


@sqlite_only
async def test_what_the_mint_says_goes_before_a_closing(street: Street) -> None:
    event, _ = await street.in_doubt(swallow)
    await asyncio.sleep(swaps.QUIET)
    street.repent()
    # the server may be faster
    with suppress(InvalidInput):
        assert (await street.doubts.close(event.id, REASON)).result in ("stored", "gone")
    async with asyncio.timeout(60):
        while await street.books.journal():
            await asyncio.sleep(0.02)
    assert await street.stored(event) and await street.closed() == [] and await street.books.earned() == 1


async def test_change_of_the_treasury_is_closed_and_swept_again(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mint had changed the proofs: the old ones are forgotten as lost, the new ones come in."""
    monkeypatch.setattr(treasuries, "TOKEN_PROOFS", 2)
    monkeypatch.setattr(treasuries, "TRIES", 1)
    for _ in range(4):
        await street.taken(letter(), street.elsewhere.purse.proof())
    foreign = street.office.office.foreign
    assert foreign is not None
    till = Treasury(street.office.office.database, [street.liar.url], foreign.seed)
    try:
        street.liar.lie(SWAP, swallow)
        street.liar.lie(STATE, trouble)
        with pytest.raises(MintAway):
            await till.sweep(street.liar.url, lambda done, total: None)
        (entry,) = await street.books.journal()
        assert entry.body is None
        assert (await street.doubts.close(entry.event_id.hex(), REASON)).result == "closed"
        street.repent()
        assert [each.result for each in await street.doubts.look()] == ["collected"]
        assert await street.closed() == [], "nobody comes again with these"
        found = await till.check(street.liar.url, lambda done, total: None)
        assert (found.good, found.lost) == (4, 4)
        swept = await till.sweep(street.liar.url, lambda done, total: None)
        assert swept.sat == 4
    finally:
        await till.close()


Command = Callable[..., Awaitable[Any]]


@pytest.fixture
def command(
    liar: Liar, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`pennypost office treasury …` as the operator types it, beside the running server: what it says as JSON."""
    # the server of this test speaks on stderr, as one in a process of its own does
    configure_logs("text")
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path / "office"))
    monkeypatch.setenv("PENNYPOST_DATABASE_URL", address)
    monkeypatch.setenv("PENNYPOST_MINT_URLS", liar.url)

    async def run(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["pennypost", "office", "treasury", *arguments, "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main)
        out, talk = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + talk
        return json.loads(out)

    return run


async def test_a_letter_is_kept_as_long_as_the_prices_say_that_were_set(
    street: Street, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the operator set while the office ran go before the price file, for the commands, too."""
    monkeypatch.setattr(exchange, "PAUSE", (60.0, 60.0, 60.0))
    event, _ = await street.in_doubt(swallow, letter(tags=[]))
    database = street.office.office.database
    await database.write(set_on, f"[[rule]]\nttl_default = {3 * 86_400}\n", int(time.time()))
    street.repent()
    assert [each["result"] for each in (await command("retry"))["swaps"]] == ["stored"]
    kept = await database.read(lambda connection: list(connection.execute(select(feed.c.keep_until)).scalars()))
    assert kept == [event.created_at + 3 * 86_400]


async def test_the_commands(street: Street, command: Command) -> None:
    """`list`, `retry` and `close`."""
    run = command
    event, proof = await street.in_doubt()
    await asyncio.sleep(swaps.QUIET)
    listed = await run("list")
    assert [(each["id"], each["letter"], each["sat"]) for each in listed["swaps"]] == [(event.id, True, 1)]
    assert listed["mints"][0]["under_way"] == 1 and listed["closed"] == []
    assert [each["result"] for each in (await run("retry"))["swaps"]] == ["unknown"]
    assert (await run("close", "00" * 32, "--reason", REASON, code=3))["error"] == "invalid-input"
    assert (await run("close", event.id, "--reason", REASON))["result"] == "closed"
    listed = await run("list")
    assert listed["swaps"] == [] and [(each["id"], each["reason"]) for each in listed["closed"]] == [(event.id, REASON)]
    assert proof.secret not in json.dumps(listed)
