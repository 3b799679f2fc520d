"""Keys of the caller's own at offers, paid messages and sessions: the same call is made once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Receipt
from pennypost.play import FUNDS
from pennypost.protocol.errors import OnceUsed
from tests.sdk.test_mail import texts
from tests.sdk.test_offers import funds
from tests.sdk.test_paid_mail import answering

Make = Callable[..., AsyncClient]
Call = Callable[[AsyncClient, AsyncClient, str], Awaitable[list[Receipt]]]
STAMPS = 20


async def sell(alice: AsyncClient, bob: AsyncClient, text: str) -> list[Receipt]:
    (sale,) = await alice.offers.sell(bob.npub, text, sat=5, once="k")
    return list(sale.receipts)


async def pay(alice: AsyncClient, bob: AsyncClient, text: str) -> list[Receipt]:
    async with answering(bob):
        return [(await alice.paid.send(bob.npub, text, sat=12, once="k")).receipt]


async def publish(alice: AsyncClient, _bob: AsyncClient, _text: str) -> list[Receipt]:
    return [await alice.sessions.publish(once="k")]


async def introduce(alice: AsyncClient, bob: AsyncClient, _text: str) -> list[Receipt]:
    return [await alice.sessions.introduce(bob.npub, once="k")]


async def write(alice: AsyncClient, bob: AsyncClient, text: str) -> list[Receipt]:
    await alice.sessions.meet(await bob.sessions.word())
    return await alice.sessions.send(bob.npub, text, once="k")


@pytest.mark.parametrize(
    ("call", "stamps", "msat"), [(sell, 2, 0), (pay, 2, 12_000), (publish, 1, 0), (introduce, 1, 0), (write, 1, 0)]
)
async def test_the_same_call_is_made_once(client: Make, tmp_path: Path, call: Call, stamps: int, msat: int) -> None:
    bob = client()
    await bob.stamps.buy(STAMPS)
    first = client(tmp_path)
    await first.stamps.buy(STAMPS)
    done = await call(first, bob, "x")
    assert done and all(each.accepted for each in done)
    for alice in (first, client(tmp_path)):
        again = await call(alice, bob, "x")
        assert [each.event_id for each in again] == [each.event_id for each in done]
        check = await alice.stamps.check()
        assert (check.stamps, check.reserved) == (STAMPS - stamps, 0)
    assert await funds(first) == FUNDS - msat
    if call in (pay, write):
        assert await texts(bob) == ["x"]


@pytest.mark.parametrize("call", [sell, pay, write])
async def test_a_key_belongs_to_one_text(client: Make, call: Any) -> None:
    alice, bob = client(), client()
    for each in (alice, bob):
        await each.stamps.buy(STAMPS)
    await call(alice, bob, "x")
    left = (await alice.stamps.check()).stamps
    with pytest.raises(OnceUsed):
        await call(alice, bob, "y")
    assert (await alice.stamps.check()).stamps == left
