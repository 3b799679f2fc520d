"""Change: signed once, given again to every repeat, whatever its stamp, on either way and after a rotation."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
from sqlalchemy import Connection, func, select

from pennypost.protocol import bdhke
from pennypost.protocol.event import Event
from pennypost_mint.tables import outputs
from tests.postoffice.house import Author, House, wrap
from tests.postoffice.test_keysets import rotate
from tests.support.relay import Answer, Relay, plain


def blank(house: House) -> dict[str, Any]:
    """A fresh blank output of the keyset that signs."""
    return {
        "id": house.purse.keyring.active().id,
        "B_": bdhke.blind(secrets.token_bytes(32), secrets.token_bytes(32)).hex(),
    }


async def signed(house: House) -> int:
    """Signatures that the mint has made."""

    def count(connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(outputs)).scalar_one()

    return await house.office.database.read(count)


async def posted(relay: Relay, event: Event, token: Any, blanks: list[dict[str, Any]]) -> tuple[Answer, Any]:
    """The answer, and the signatures of the CHANGE before it."""
    answer = await relay.post(event, token, {"change": blanks})
    found = None
    while not relay.frames.empty():
        frame = relay.frames.get_nowait()
        if frame[0] == "CHANGE":
            assert frame[1] == event.id
            found = frame[2]
    return answer, found


async def by_http(house: House, event: Event, token: Any, blanks: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        answer = await http.post("/v1/events", json=["EVENT", plain(event), token, {"change": blanks}])
        return answer.status_code, answer.json()


async def test_every_repeat_gets_the_same(house: House) -> None:
    """With the same stamp, another, a bad one, none; over both ways; after a rotation; and nothing new is signed."""
    event, blanks = wrap(), [blank(house) for _ in range(3)]
    token = house.purse.token(house.purse.proof(8))
    async with house.relay() as relay:
        answer, change = await posted(relay, event, token, blanks)
        assert answer.accepted and [each["amount"] for each in change] == [1, 2, 4]
        before = await signed(house)
        for rotated in (False, True):
            if rotated:
                await rotate(house)
                await house.office.keyring.refresh()
            for repeated in (token, house.purse.token(), "cashuB", None):
                again, found = await posted(relay, event, repeated, blanks)
                assert again.duplicate and found == change, repeated
                status, content = await by_http(house, event, repeated, blanks)
                assert (status, content["change"]) == (200, change)
        # other blanks beside them, or instead of them, get nothing
        _, found = await posted(relay, event, token, [blank(house), *blanks])
        assert found == change
        _, found = await posted(relay, event, house.purse.token(), [blank(house)])
        assert found is None
    assert await signed(house) == before


async def test_blanks_signed_at_the_mint(house: House) -> None:
    """For a swap, before: refused, and stamp and surplus are as they were, on both ways."""
    made, keyset = blank(house), house.purse.keyring.active().id
    proof, spare = house.purse.proof(4), house.purse.proof()
    entry = {"amount": 1, "id": keyset, "secret": spare.secret, "C": spare.C}
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http:
        swap = await http.post("/v1/swap", json={"inputs": [entry], "outputs": [made | {"amount": 1}]})
        assert swap.status_code == 200
        before = await signed(house)
        answer, change = await posted(relay, wrap(), house.purse.token(proof), [made])
        assert (answer.accepted, answer.code, change) == (False, "output-signed", None)
        status, content = await by_http(house, wrap(), house.purse.token(proof), [made])
        assert (status, content["accepted"]) == (400, False) and "change" not in content
        assert await signed(house) == before and await house.spent(proof) == [False]
        assert (await relay.post(wrap(), house.purse.token(proof))).accepted


async def test_blanks_of_a_retired_keyset(house: House) -> None:
    """They are signed no more: the event is refused with its stamp untouched."""
    made, proof = blank(house), house.purse.proof(2)
    await rotate(house)
    await house.office.keyring.refresh()
    async with house.relay() as relay:
        answer, change = await posted(relay, wrap(), house.purse.token(proof), [made])
        assert (answer.accepted, answer.code, change) == (False, "keyset-inactive", None)
        assert await house.spent(proof) == [False]


async def test_exactly_paid(house: House) -> None:
    """No surplus, no CHANGE; the blanks stay good."""
    made = blank(house)
    async with house.relay() as relay:
        answer, change = await posted(relay, wrap(), house.purse.token(), [made])
        assert answer.accepted and change is None
        answer, change = await posted(relay, wrap(), house.purse.token(house.purse.proof(2)), [made])
        assert answer.accepted and len(change) == 1


async def test_nothing_is_given_back_of_what_was_not_taken(house: House) -> None:
    """A stamp of 64 beside a free deletion, a free kind, an event refused: it stays whole, and no blank is signed."""
    author = Author()
    mine = author.sign(1)
    made, proof = blank(house), house.purse.proof(64)
    token = house.purse.token(proof)
    async with house.relay() as relay:
        await house.pay(relay, [mine])
        before = await signed(house)
        for event, accepted in (
            (author.sign(5, ["e", mine.id]), True),
            (author.sign(10_002, ["r", "wss://r.example"]), True),
            (mine, False),
            (wrap(expires_in=-1), False),
            (author.sign(22_242), False),
        ):
            answer, change = await posted(relay, event, token, [made])
            assert (answer.accepted, change) == (accepted, None), event.kind
            status, content = await by_http(house, event, token, [made])
            assert (status == 200) == accepted and "change" not in content
        assert await signed(house) == before and await house.spent(proof) == [False]
        answer, change = await posted(relay, wrap(), token, [made])
        assert answer.accepted and [each["amount"] for each in change] == [32]
