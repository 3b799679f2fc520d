"""The grace of former prices: kept in the database, so that neither a restart nor another process ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from pennypost.protocol.price import PriceList, Rule
from pennypost_mint.runtime.limits import FORMER_PRICES
from pennypost_mint.runtime.settings import MAX_PRICE_GRACE
from pennypost_postoffice.former_prices import Former, ask_on
from pennypost_postoffice.tables import price_lists
from tests.postoffice.house import Author, House, open_house

NOW = 1_800_000_000
ONE, TWO, FIVE = (PriceList((Rule(base=base),)) for base in (1, 2, 5))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(price_lists)).scalar_one()


def _bases(former: Any) -> list[int]:
    return [each.prices.rules[0].base for each in former]


# --- the table


async def test_what_is_asked_no_more_has_ended(house: House) -> None:
    """The house itself asked 1 sat when it started."""
    write = house.office.database.write
    assert await write(ask_on, TWO, (), NOW) == [Former(PriceList(), NOW)]
    assert await write(ask_on, TWO, (), NOW + 5) == [Former(PriceList(), NOW)]
    assert await write(ask_on, FIVE, (), NOW + 9) == [Former(TWO, NOW + 9), Former(PriceList(), NOW)]
    assert await write(ask_on, TWO, (), NOW + 10) == [Former(FIVE, NOW + 10), Former(PriceList(), NOW)]


async def test_what_a_process_asked_between_two_notes_is_noted(house: House) -> None:
    write = house.office.database.write
    found = await write(ask_on, FIVE, [Former(TWO, NOW - 1), Former(FIVE, NOW - 2)], NOW)
    assert found == [Former(PriceList(), NOW), Former(TWO, NOW - 1)]


async def test_old_ones_and_too_many_are_forgotten(house: House) -> None:
    write, read = house.office.database.write, house.office.database.read
    found: list[Former] = []
    for number in range(FORMER_PRICES + 4):
        found = await write(ask_on, PriceList((Rule(base=10 + number),)), (), NOW + number)
    last = 10 + FORMER_PRICES + 3
    assert _bases(found) == list(range(last - 1, last - 1 - FORMER_PRICES, -1))
    assert await read(_count) == FORMER_PRICES + 1
    ended = found[0].ended_at
    found = await write(ask_on, PriceList((Rule(base=last),)), (), ended + MAX_PRICE_GRACE - 1)
    assert _bases(found) == [last - 1]
    assert await write(ask_on, PriceList((Rule(base=last),)), (), ended + MAX_PRICE_GRACE) == []
    assert await read(_count) == 1


async def test_a_list_of_a_later_version_is_passed_over(house: House) -> None:
    def spoil(connection: Connection) -> None:
        connection.execute(update(price_lists).values(rules='{"rule": [{"per_mood": 1}]}'))

    await house.office.database.write(spoil)
    assert await house.office.database.write(ask_on, TWO, (), NOW) == []


# --- the grace


async def _base(house: House, base: int, path: Path, **settings: Any) -> None:
    """Another price by a reload."""
    path.write_text(f"[[rule]]\nbase = {base}\n")
    house.service.load = lambda: house.settings.model_copy(update={"price_file": path} | settings)
    house.service.reload()
    await _until(lambda: not house.office.former_prices._changed.is_set())


async def test_an_old_price_is_good_after_a_restart(address: str, tmp_path: Path) -> None:
    """Reloaded to 3 sat, restarted at 4 sat: who read 2 sat still posts, until the grace is over."""
    prices, grace = tmp_path / "prices.toml", 1_000
    prices.write_text("[[rule]]\nbase = 2\n")
    async with open_house(tmp_path, address, price_file=prices, price_grace=grace) as house:
        await _base(house, 3, prices)
    prices.write_text("[[rule]]\nbase = 4\n")
    async with open_house(tmp_path, address, price_file=prices, price_grace=grace) as house, house.relay() as relay:
        purse = house.purse
        cheap, dear = purse.token(purse.proof(2)), purse.token(purse.proof(1))
        assert (await relay.post(Author().sign(), dear)).code == "stamp-too-little"
        assert (await relay.post(Author().sign(), cheap)).accepted
        house.pass_time(grace + 60)
        late = purse.proof(2)
        letter = Author().sign(at=house.office.now())
        assert (await relay.post(letter, purse.token(late))).code == "stamp-too-little"
        assert await house.spent(late) == [False]
        assert (await relay.post(letter, purse.token(purse.proof(4)))).accepted


@pytest.mark.parametrize("grace", [0, 1_000])
async def test_the_grace_is_a_setting(sqlite_house: House, tmp_path: Path, grace: int) -> None:
    """Taken on by a reload; 0 asks the new price at once."""
    house, purse = sqlite_house, sqlite_house.purse
    await _base(house, 2, tmp_path / "prices.toml", price_grace=grace)
    async with house.relay() as relay:
        answer = await relay.post(Author().sign(), purse.token())
        assert (answer.accepted, answer.code) == ((True, "") if grace else (False, "stamp-too-little"))


async def test_a_longer_grace_brings_back_what_was_over(sqlite_house: House, tmp_path: Path) -> None:
    house, path = sqlite_house, tmp_path / "prices.toml"
    await _base(house, 2, path, price_grace=0)
    async with house.relay() as relay:
        assert (await relay.post(Author().sign(), house.purse.token())).code == "stamp-too-little"
        await _base(house, 2, path, price_grace=1_000)
        await _until(lambda: _bases(house.office.policy.former) == [1])
        assert (await relay.post(Author().sign(), house.purse.token())).accepted


async def test_a_process_learns_what_another_asked(tmp_path: Path, postgres_url: str) -> None:
    """One that starts with other prices honours those of the one that runs."""
    prices = tmp_path / "prices.toml"
    prices.write_text("[[rule]]\nbase = 3\n")
    async with open_house(tmp_path, postgres_url), open_house(tmp_path, postgres_url, price_file=prices) as two:
        assert _bases(two.office.policy.former) == [1]
        async with two.relay() as relay:
            assert (await relay.post(Author().sign(), two.purse.token())).accepted
