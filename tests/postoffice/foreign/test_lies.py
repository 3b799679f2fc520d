"""Mints elsewhere that fail and lie, and stamps that are no good: one office on SQLite for all rows of the tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import select

from pennypost.protocol import bdhke
from pennypost.protocol.event import Event
from pennypost.protocol.price import PriceList, Rule
from pennypost.protocol.token import Proof
from pennypost_postoffice.tables import treasury
from tests.postoffice.foreign.conftest import Books, long_patience, quickly, short_calls, short_patience
from tests.postoffice.foreign.liar import DONE, UNSEEN, Answer, Behaviour, Liar, Request, spent, strange
from tests.postoffice.house import House, open_house
from tests.support.relay import Relay, letter

pytestmark = pytest.mark.asyncio(loop_scope="module")

SWAP = "/v1/swap"


@dataclass
class Bed:
    """An office apart from its mint, and the liar between them."""

    elsewhere: House
    liar: Liar
    office: House
    books: Books

    def token(self, *proofs: Proof) -> str:
        """As a wallet writes it that knows the mint by the liar's address."""
        return self.elsewhere.purse.token(*proofs, url=self.liar.url)

    async def genuine(self) -> bool:
        """Whether the mint's own keys verify all that was earned."""
        rows = await self.office.office.database.read(lambda c: c.execute(select(treasury)).all())
        keyring = self.elsewhere.purse.keyring
        return all(bdhke.verify_y(keyring.get(row.keyset).secrets[row.amount], row.y, row.c) for row in rows)

    async def stored(self, event: Event) -> bool:
        async with self.office.relay() as relay:
            return bool(await relay.fetch({"ids": [event.id]}))

    async def in_doubt(self, relay: Relay, event: Event, proof: Proof) -> None:
        """Its sender is told to come again, and it is written down: on a busy machine not before he was told so."""
        async with asyncio.timeout(60):
            while not await self.books.journal():
                answer = await relay.post(event, self.token(proof))
                assert answer.code == "overloaded", answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    folder = tmp_path_factory.mktemp("lies")
    with pytest.MonkeyPatch.context() as patch:
        quickly(patch)
        async with (
            open_house(folder / "mint") as elsewhere,
            Liar(elsewhere.url) as liar,
            open_house(folder / "office", role="postoffice", mint_urls=liar.url) as office,
        ):
            yield Bed(elsewhere, liar, office, Books(office))


@pytest_asyncio.fixture(loop_scope="module")
async def bed(shared: Bed) -> AsyncIterator[Bed]:
    """Honest at the beginning of each row, with nothing under way at its end."""
    shared.liar.repent()
    shared.liar.bodies.clear()
    yield shared
    assert await shared.books.journal() == [] and await shared.books.inputs() == 0
    assert not shared.liar.asked["/astray"], "no redirect is followed"
    assert await shared.genuine(), "every proof of the treasury was signed by the mint"


REFUSED: list[tuple[str, str]] = [
    ("a mint that is not listed", "stamp-mint"),
    ("an address on this machine", "stamp-mint"),
    ("our own address", "stamp-mint"),
    ("another unit", "stamp-unit"),
    ("an unknown keyset", "stamp-keyset"),
    ("an unknown short id", "stamp-keyset"),
    ("locked", "stamp-locked"),
    ("too little", "stamp-too-little"),
    ("far too much", "stamp-refused"),
    ("forged", "stamp-forged"),
    ("off the curve", "stamp-forged"),
    ("no stamp", "stamp-required"),
    ("not a token", "stamp-malformed"),
]


@pytest.mark.parametrize(("case", "code"), REFUSED, ids=[case for case, _ in REFUSED])
async def test_bad_stamps_are_refused(bed: Bed, case: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    purse, good, here = bed.elsewhere.purse, bed.elsewhere.purse.proof(), bed.liar.url
    locked = '["P2PK",{"nonce":"' + "00" * 16 + '","data":"02' + "11" * 32 + '"}]'
    tokens: dict[str, str | None] = {
        "a mint that is not listed": purse.token(good, url="https://mint.example"),
        "an address on this machine": purse.token(good, url="http://127.0.0.1:9"),
        "our own address": purse.token(good, url=bed.office.url),
        "another unit": purse.token(good, url=here, unit="usd"),
        "an unknown keyset": purse.token(msgspec.structs.replace(good, id="01" + "00" * 32), url=here, version="A"),
        "an unknown short id": purse.token(msgspec.structs.replace(good, id="01" + "00" * 32), url=here),
        "locked": purse.token(purse.proof(secret=locked), url=here),
        "too little": purse.token(good, url=here),
        "far too much": purse.token(msgspec.structs.replace(good, amount=1 << 62), url=here),
        "forged": purse.token(purse.proof(1, key_of=2), url=here),
        "off the curve": purse.token(msgspec.structs.replace(good, C="02" + "ff" * 32), url=here),
        "no stamp": None,
        "not a token": "cashuBrubbish",
    }
    if case == "too little":
        monkeypatch.setattr(bed.office.office.policy, "prices", PriceList((Rule(base=2),)))
    before = await bed.books.earned()
    async with bed.office.relay() as relay:
        answer = await relay.post(letter(), tokens[case])
    assert not answer.accepted and answer.code == code, answer
    assert await bed.elsewhere.spent(good) == [False] and await bed.books.earned() == before


@pytest.mark.parametrize("behaviour", UNSEEN.values(), ids=UNSEEN)
async def test_a_mint_that_fails_before_it_does_anything(
    bed: Bed, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and the sender notices nothing."""
    short_calls(monkeypatch)
    bed.liar.lie(SWAP, behaviour, times=2)
    proof, event, before = bed.elsewhere.purse.proof(), letter(), await bed.books.earned()
    async with bed.office.relay() as relay:
        answer = await relay.post(event, bed.token(proof))
    assert answer.accepted and not answer.duplicate, answer
    assert await bed.elsewhere.spent(proof) == [True] and await bed.stored(event)
    assert await bed.books.earned() == before + 1
    first, *others = bed.liar.bodies[SWAP]
    assert others and all(body == first for body in others), "the same request each time (NUT-19)"


@pytest.mark.parametrize("behaviour", DONE.values(), ids=DONE)
async def test_a_mint_that_does_it_and_does_not_say_so(
    bed: Bed, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always: what it did is found by NUT-07 and NUT-09."""
    short_calls(monkeypatch)
    bed.liar.lie(SWAP, behaviour)
    proof, event, before = bed.elsewhere.purse.proof(), letter(), await bed.books.earned()
    async with bed.office.relay() as relay:
        answer = await relay.post(event, bed.token(proof))
    assert answer.accepted and not answer.duplicate, answer
    assert await bed.elsewhere.spent(proof) == [True] and await bed.stored(event)
    assert await bed.books.earned() == before + 1


@pytest.mark.parametrize("behaviour", UNSEEN.values(), ids=UNSEEN)
async def test_a_mint_that_fails_for_long(bed: Bed, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender is told to come again with the same stamp, which nobody has touched; when he does, it pays once."""
    short_calls(monkeypatch)
    short_patience(monkeypatch)
    bed.liar.lie(SWAP, behaviour)
    proof, event, before = bed.elsewhere.purse.proof(), letter(), await bed.books.earned()
    async with bed.office.relay() as relay:
        answer = await relay.post(event, bed.token(proof))
        assert answer.code == "overloaded", answer
        assert await bed.elsewhere.spent(proof) == [False] and not await bed.stored(event)
        bed.liar.repent()
        long_patience(monkeypatch)
        again = await relay.post(event, bed.token(proof))
        assert again.accepted, again
    assert await bed.elsewhere.spent(proof) == [True] and await bed.stored(event)
    assert await bed.books.earned() == before + 1
    assert len(set(bed.liar.bodies[SWAP])) <= 2, "never new outputs while the first swap may be under way"


@pytest.mark.parametrize("behaviour", [DONE["does it and hangs up"], DONE["a wrong DLEQ"]])
@pytest.mark.parametrize("silent", ["/v1/checkstate", "/v1/restore"])
async def test_a_mint_that_does_it_and_hides_it(
    bed: Bed, behaviour: Behaviour, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is decided while nobody can know; then the event is stored with the stamp that paid for it."""
    short_patience(monkeypatch)
    bed.liar.lie(SWAP, behaviour)
    bed.liar.lie(silent, UNSEEN["500"])
    proof, event, before = bed.elsewhere.purse.proof(), letter(), await bed.books.earned()
    async with bed.office.relay() as relay:
        await bed.in_doubt(relay, event, proof)
        assert [entry.event_id.hex() for entry in await bed.books.journal()] == [event.id]
        other = await relay.post(letter(), bed.token(proof))
        assert other.code == "overloaded", other
        bed.liar.repent()
        long_patience(monkeypatch)
        assert (await relay.post(event, bed.token(proof))).accepted
    assert await bed.stored(event) and await bed.books.earned() == before + 1


async def test_a_request_that_is_done_much_later(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mint calls the stamp unspent, and takes it afterwards: nobody is told before that it was left alone."""
    short_calls(monkeypatch)
    short_patience(monkeypatch)
    go, done = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Answer | None:
        await go.wait()
        answer = await request.honest()
        done.set()
        return answer

    bed.liar.lie(SWAP, slow)
    proof, event, before = bed.elsewhere.purse.proof(), letter(), await bed.books.earned()
    async with bed.office.relay() as relay:
        await bed.in_doubt(relay, event, proof)
        # several looks at a stamp that is unspent and for which nobody waits
        looks = bed.liar.asked["/v1/checkstate"]
        async with asyncio.timeout(60):
            while bed.liar.asked["/v1/checkstate"] < looks + 3:
                await asyncio.sleep(0.02)
        assert len(await bed.books.journal()) == 1 and await bed.elsewhere.spent(proof) == [False]
        go.set()
        await done.wait()
        async with asyncio.timeout(60):
            while await bed.books.journal():
                await asyncio.sleep(0.02)
    assert await bed.stored(event) and await bed.elsewhere.spent(proof) == [True]
    assert await bed.books.earned() == before + 1


@pytest.mark.parametrize(("behaviour", "code"), [(strange, "stamp-refused"), (spent, "stamp-spent")])
async def test_a_refusal_that_touches_nothing(bed: Bed, behaviour: Behaviour, code: str) -> None:
    """Whatever the mint says: it is its word, the stamp is not ours, the row is gone."""
    bed.liar.lie(SWAP, behaviour)
    proof, event = bed.elsewhere.purse.proof(), letter()
    async with bed.office.relay() as relay:
        assert (await relay.post(event, bed.token(proof))).code == code
    assert await bed.elsewhere.spent(proof) == [False] and not await bed.stored(event)


@pytest.mark.parametrize("path", ["/v1/keysets", "/v1/info"])
@pytest.mark.parametrize("behaviour", ["500", "garbage", "redirect", "endless body"])
async def test_a_mint_that_says_nothing_of_itself(bed: Bed, path: str, behaviour: str) -> None:
    """No swap is begun with it."""
    mint = next(iter(bed.office.office.foreign.desks.values())).mint  # type: ignore[union-attr]
    mint._asked_at = float("-inf")
    bed.liar.lie(path, UNSEEN[behaviour], times=2)
    async with bed.office.relay() as relay:
        answer = await relay.post(letter(), bed.token())
    assert answer.accepted, answer
    assert len(set(bed.liar.bodies[SWAP])) == 1
