"""Letters with stamps of a mint elsewhere: what is stored, spent and earned, on both databases."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from pennypost.protocol.event import Event
from pennypost_mint.runtime.limits import FOREIGN_AT_ONCE
from pennypost_postoffice.foreign import desk
from pennypost_postoffice.tables import treasury
from tests.postoffice.foreign.conftest import Books, long_patience, short_patience
from tests.postoffice.foreign.liar import Answer, Liar, Request, hang_up, swallow, trouble
from tests.postoffice.house import Author, House, open_house
from tests.support.relay import letter

SWAP = "/v1/swap"


def token(elsewhere: House, liar: Liar, *proofs: Any) -> str:
    """A token as a wallet writes it that knows the mint by the liar's address."""
    return elsewhere.purse.token(*proofs, url=liar.url)


async def stored(office: House, event: Event) -> bool:
    async with office.relay() as relay:
        return bool(await relay.fetch({"ids": [event.id]}))


async def test_a_stamp_of_a_mint_elsewhere_pays(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    proof, event = elsewhere.purse.proof(), letter()
    async with office.relay() as relay:
        answer = await relay.post(event, token(elsewhere, liar, proof))
        assert answer.accepted and not answer.duplicate, answer
        assert (await relay.post(event, token(elsewhere, liar, proof))).duplicate
        assert (await relay.post(event)).duplicate
        assert (await relay.post(letter(), token(elsewhere, liar, proof))).code == "stamp-spent"
    assert await stored(office, event)
    assert await elsewhere.spent(proof) == [True]
    assert await books.earned() == 1 and await books.journal() == [] and await books.inputs() == 0


async def test_it_pays_beside_stamps_of_our_own(elsewhere: House, liar: Liar, tmp_path: Any, address: str) -> None:
    async with open_house(tmp_path / "both", address, mint_urls=liar.url) as house, house.relay() as relay:
        assert (await relay.post(letter(), house.purse.token())).accepted
        assert (await relay.post(letter(), token(elsewhere, liar))).accepted
        assert await Books(house).earned() == 1


@pytest.mark.usefixtures("quick")
async def test_a_mint_that_is_down(
    elsewhere: House, liar: Liar, office: House, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_patience(monkeypatch)
    await liar.down()
    proof, event = elsewhere.purse.proof(), letter()
    async with office.relay() as relay:
        assert (await relay.post(event, token(elsewhere, liar, proof))).code == "overloaded"
        assert await books.journal() == [], "nothing is written down for a mint that is away"
        long_patience(monkeypatch)
        plain = await relay.post(letter())
        assert plain.code == "stamp-required"
        waiting = asyncio.create_task(relay.post(event, token(elsewhere, liar, proof)))
        await liar.up()
        assert (await waiting).accepted
    assert await books.earned() == 1


async def test_one_silence_of_a_mint_is_one_whoever_meets_it(
    elsewhere: House, liar: Liar, office: House, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many were asking when it went away: it is asked again as soon as if it had been one."""
    monkeypatch.setattr(desk, "BACK", (0.5, 600.0))
    gone = asyncio.Event()

    async def goes(request: Request) -> Answer | None:
        if liar.asked[SWAP] >= FOREIGN_AT_ONCE:
            gone.set()
        await gone.wait()
        return None

    liar.lie(SWAP, goes, FOREIGN_AT_ONCE)
    liar.lie("/v1/checkstate", hang_up, FOREIGN_AT_ONCE)
    async with office.relay() as relay:
        posts = [relay.post(letter(), token(elsewhere, liar, elsewhere.purse.proof())) for _ in range(FOREIGN_AT_ONCE)]
        answers = await asyncio.gather(*posts)
    assert all(answer.accepted for answer in answers), answers
    assert await books.earned() == FOREIGN_AT_ONCE and await books.journal() == []


async def test_one_stamp_on_two_events(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """At once, many times: one of the two is stored."""
    async with office.relay() as one, office.relay() as two:
        for _ in range(4):
            proof, events = elsewhere.purse.proof(), [letter(), letter()]
            text = token(elsewhere, liar, proof)
            answers = await asyncio.gather(one.post(events[0], text), two.post(events[1], text))
            assert sorted(answer.accepted for answer in answers) == [False, True], answers
            assert [answer.code for answer in answers if not answer.accepted] == ["stamp-spent"]
    assert await books.earned() == 4 and await books.journal() == []


async def test_one_event_with_two_stamps(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """At once, many times: it is stored once, and one stamp is untouched."""
    async with office.relay() as one, office.relay() as two:
        for _ in range(4):
            proofs, event = [elsewhere.purse.proof(), elsewhere.purse.proof()], letter()
            texts = [token(elsewhere, liar, proof) for proof in proofs]
            answers = await asyncio.gather(one.post(event, texts[0]), two.post(event, texts[1]))
            assert all(answer.accepted for answer in answers), answers
            assert sorted(await elsewhere.spent(*proofs)) == [False, True]
    assert await books.earned() == 4


async def test_overlapping_stamps(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """A+B and B+A: one wins, the other's third stamp is untouched."""
    async with office.relay() as one, office.relay() as two:
        for _ in range(4):
            a, b, c = (elsewhere.purse.proof() for _ in range(3))
            answers = await asyncio.gather(
                one.post(letter(), token(elsewhere, liar, a, b)), two.post(letter(), token(elsewhere, liar, b, a, c))
            )
            assert sorted(answer.accepted for answer in answers) == [False, True], answers
    assert await books.journal() == [] and await books.inputs() == 0


async def test_the_same_event_with_our_own_stamp_during_a_swap(
    elsewhere: House, liar: Liar, tmp_path: Any, address: str
) -> None:
    """It waits for the swap: two stamps never pay for one event."""
    release = asyncio.Event()

    async def held(request: Any) -> Any:
        await release.wait()
        return await request.honest()

    async with open_house(tmp_path / "both", address, mint_urls=liar.url) as house:
        liar.lie(SWAP, held)
        own, theirs, event = house.purse.proof(), elsewhere.purse.proof(), letter()
        async with house.relay() as one, house.relay() as two:
            first = asyncio.create_task(one.post(event, token(elsewhere, liar, theirs)))
            await until(lambda: liar.asked[SWAP] > 0)
            second = asyncio.create_task(two.post(event, house.purse.token(own)))
            await until(lambda: waiting(house) == 2)
            assert not second.done()
            release.set()
            assert (await first).accepted and (await second).duplicate
        assert await house.spent(own) == [False] and await elsewhere.spent(theirs) == [True]


async def test_a_stamp_that_turns_out_bad_lets_the_other_pay(
    elsewhere: House, liar: Liar, tmp_path: Any, address: str
) -> None:
    release = asyncio.Event()

    async def held(request: Any) -> Any:
        await release.wait()
        return await request.honest()

    async with open_house(tmp_path / "both", address, mint_urls=liar.url) as house:
        liar.lie(SWAP, held)
        event, forged = letter(), elsewhere.purse.proof(1, key_of=2)
        async with house.relay() as one, house.relay() as two:
            first = asyncio.create_task(one.post(event, token(elsewhere, liar, forged)))
            await until(lambda: liar.asked[SWAP] > 0)
            second = asyncio.create_task(two.post(event, house.purse.token()))
            release.set()
            assert (await first).code == "stamp-forged" and (await second).accepted


@pytest.mark.usefixtures("quick")
async def test_the_sender_who_repeats_joins_the_swap(
    elsewhere: House, liar: Liar, office: House, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error, and while the swap is under way: the same request, one answer each."""
    liar.lie(SWAP, swallow)
    liar.lie("/v1/restore", trouble)
    short_patience(monkeypatch)
    proof, event = elsewhere.purse.proof(), letter()
    text = token(elsewhere, liar, proof)
    async with office.relay() as one, office.relay() as two:
        async with asyncio.timeout(60):
            # on a busy machine he may be told so before the row is written
            while not await books.journal():
                assert (await one.post(event, text)).code == "overloaded"
        assert len(await books.journal()) == 1
        long_patience(monkeypatch)
        again = [asyncio.create_task(relay.post(event, text)) for relay in (one, two)]
        await until(lambda: waiting(office) == 2)
        liar.repent()
        assert all(answer.accepted for answer in await asyncio.gather(*again))
    assert len(set(liar.bodies[SWAP])) == 1
    assert await books.earned() == 1 and await books.journal() == []


async def test_deleted_while_it_was_swapped(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """It counts as accepted before: the stamp is paid, the sender hears so, the event stays out."""
    release = asyncio.Event()

    async def held(request: Any) -> Any:
        answer = await request.honest()
        await release.wait()
        return answer

    liar.lie(SWAP, held, times=1)
    author = Author()
    event = author.sign(1, content="soon gone")
    deletion = author.sign(5, ["e", event.id])
    async with office.relay() as one, office.relay() as two:
        first = asyncio.create_task(one.post(event, token(elsewhere, liar)))
        await until(lambda: liar.asked[SWAP] > 0)
        gone = asyncio.create_task(two.post(deletion, token(elsewhere, liar)))
        assert (await gone).accepted
        release.set()
        assert (await first).accepted
    assert not await stored(office, event)
    assert await books.journal() == [] and await books.earned() == 2


async def test_a_deletion_of_ones_own_is_free(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    author, proof = Author(), elsewhere.purse.proof()
    event = author.sign(1, content="mistake")
    async with office.relay() as relay:
        assert (await relay.post(event, token(elsewhere, liar))).accepted
        assert (await relay.post(author.sign(5, ["e", event.id]), token(elsewhere, liar, proof))).accepted
    assert await elsewhere.spent(proof) == [False] and await books.earned() == 1


async def test_what_is_overpaid_is_kept_and_change_is_refused(
    elsewhere: House, liar: Liar, office: House, books: Books
) -> None:
    proof = elsewhere.purse.proof(4)
    async with office.relay() as relay:
        blanks = {"change": [{"id": elsewhere.purse.keyring.active().id, "B_": "02" + "11" * 32}]}
        answer = await relay.post(letter(), token(elsewhere, liar, proof), blanks)
        assert not answer.accepted and answer.code == "invalid-input", answer
        assert await elsewhere.spent(proof) == [False]
        assert (await relay.post(letter(), token(elsewhere, liar, proof))).accepted
    assert await books.earned() == 4


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
async def test_two_processes_of_one_office(elsewhere: House, liar: Liar, tmp_path: Path, address: str) -> None:
    """The same letter, the same stamp, at both at once: one row, one swap, one letter."""
    options = {"role": "postoffice", "mint_urls": liar.url}
    async with (
        open_house(tmp_path / "office", address, **options) as first,
        open_house(tmp_path / "office", address, **options) as second,
        first.relay() as one,
        second.relay() as two,
    ):
        for number in range(5):
            proof, other, event = elsewhere.purse.proof(), elsewhere.purse.proof(), letter()
            text = token(elsewhere, liar, proof)
            same = await asyncio.gather(one.post(event, text), two.post(event, text))
            assert all(answer.accepted for answer in same), same
            # one stamp, two letters; and one letter with a second stamp beside its first
            events = [letter(), letter()]
            text = token(elsewhere, liar, other)
            answers = await asyncio.gather(one.post(events[0], text), two.post(events[1], text))
            assert sorted(answer.accepted for answer in answers) == [False, True], answers
            assert await elsewhere.spent(proof, other) == [True, True]
            assert await Books(first).earned() == 2 * (number + 1)
        assert await Books(first).journal() == [] and await Books(first).inputs() == 0


async def test_held_mail_may_be_paid_elsewhere(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """The row is written where a commit would hold the letter; nobody is served it, and it was paid once."""
    author = Author()
    event = author.sign(1059, ["p", "11" * 32], ["hold", "22" * 32], expires_in=3_600)
    async with office.relay() as one, office.relay() as two:
        texts = [token(elsewhere, liar), token(elsewhere, liar)]
        answers = await asyncio.gather(one.post(event, texts[0]), two.post(event, texts[1]))
        assert all(answer.accepted for answer in answers), answers
    assert not await stored(office, event) and await books.earned() == 1


async def test_forged_stamps_leave_no_gaps(elsewhere: House, liar: Liar, office: House, books: Books) -> None:
    """Or a restore by seed could not cross them: the numbers of outputs that were never signed are used again."""
    async with office.relay() as relay:
        for _ in range(3):
            forged = [token(elsewhere, liar, elsewhere.purse.proof(1, key_of=2)) for _ in range(8)]
            answers = await asyncio.gather(*(relay.post(letter(), each) for each in forged))
            assert {answer.code for answer in answers} == {"stamp-forged"}
        for _ in range(4):
            assert (await relay.post(letter(), token(elsewhere, liar))).accepted
    numbers = await office.office.database.read(lambda c: c.execute(select(treasury.c.counter)).scalars().all())
    assert len(numbers) == 4 and max(numbers) < 8 + FOREIGN_AT_ONCE


def waiting(office: House) -> int:
    """Senders who wait for the swaps that are under way."""
    foreign = office.office.foreign
    assert foreign is not None
    return sum(len(exchange.waiting()) for exchange in foreign._under_way.values())


async def until(holds: Any, seconds: float = 60.0) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
