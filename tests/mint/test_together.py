"""Requests that share a transaction: each gets its own outcome, whatever the others are."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from pennypost.protocol.errors import DatabaseUnavailable, OutputSigned, Overloaded, PennypostError, ProofSpent
from pennypost_mint import together
from pennypost_mint.answers import signatures_on
from pennypost_mint.runtime.database import Database
from pennypost_mint.signing import BlindSignature
from pennypost_mint.spend import SpentProof, spent_on
from pennypost_mint.swap import Commit, commit_on
from pennypost_mint.together import LATER, Together
from tests.mint.desk import open_desk, settings_for


@pytest.fixture
async def database(tmp_path: Path, database_url: str) -> AsyncIterator[Database]:
    async with open_desk(settings_for(tmp_path, database_url)) as desk:
        yield desk.database


def key(name: str, size: int = 33) -> bytes:
    return name.encode().ljust(size, b".")


def commit(request: str, ys: str, bs: str) -> Commit:
    """A swap of proofs `ys` for outputs `bs`, a letter each."""
    spent = [SpentProof(key(y), 0, 1, 1, None) for y in ys]
    rows = [(key(b), 0, 1, key("C" + b), key("e", 32), key("s", 32), 1) for b in bs]
    return Commit(key(request, 32), 10**10, spent, rows, [key(b) for b in bs])


def kinds(outcomes: list[Any]) -> list[str]:
    return [type(each).__name__ if isinstance(each, (PennypostError, type(LATER))) else "ok" for each in outcomes]


async def state(database: Database) -> tuple[str, str, int]:
    """Letters spent, letters signed, requests remembered."""

    def read(connection: Connection) -> tuple[str, str, int]:
        letters = "abcdefghijklmnopqrstuvwxyz"
        ys, bs = spent_on(connection, map(key, letters)), signatures_on(connection, [key(each) for each in letters])
        count = connection.execute(text("SELECT count(*) FROM answers")).scalar()
        return ("".join(x for x in letters if key(x) in ys), "".join(x for x in letters if key(x) in bs), count or 0)

    return await database.read(read)


async def test_one_batch_of_everything(database: Database) -> None:
    earlier = [commit("before", "az", "az"), commit("old", "x", "y")]
    assert kinds(await database.write(commit_on, earlier)) == ["ok", "ok"]
    batch = [
        commit("good", "bc", "b"),
        commit("before", "az", "az"),
        commit("spent", "dx", "d"),
        commit("signed", "e", "ye"),
        commit("same proof", "c", "f"),
        commit("same proof as one answered before", "a", "f"),
        commit("same output", "g", "gb"),
        commit("good", "bc", "b"),
        commit("spent", "dx", "d"),
        commit("the key that was given back", "d", "h"),
        commit("the output that was given back", "e", "e"),
        commit("good too", "i", "ij"),
    ]
    outcomes: list[Any] = await database.write(commit_on, batch)
    assert kinds(outcomes) == [
        "ok",
        "ok",
        "ProofSpent",
        "OutputSigned",
        "ProofSpent",
        "ProofSpent",
        "OutputSigned",
        "ok",
        "ProofSpent",
        "Later",
        "Later",
        "ok",
    ]
    assert [b for _, _, b in outcomes[1]] == [BlindSignature(key("C" + b), key("e", 32), key("s", 32)) for b in "az"]
    assert outcomes[0] == outcomes[7] == []
    assert await state(database) == ("abcixz", "abijyz", 4)
    assert kinds(await database.write(commit_on, batch[9:11])) == ["ok", "ok"]
    assert await state(database) == ("abcdeixz", "abehijyz", 6)


async def test_whoever_comes_meanwhile_shares_the_next_transaction(database: Database) -> None:
    batches: list[list[int]] = []

    def work(_connection: Connection, items: list[int]) -> list[Any]:
        batches.append(items)
        return [item * 2 for item in items]

    commits = Together[int, int](database.write, work, lambda _item: 1, 10)
    assert await commits.run(0) == 0
    assert await asyncio.gather(*(commits.run(n) for n in range(25))) == [2 * n for n in range(25)]
    assert batches == [[0], list(range(10)), list(range(10, 20)), list(range(20, 25))]


async def test_a_heavy_item_goes_alone(database: Database) -> None:
    batches: list[list[int]] = []

    def work(_connection: Connection, items: list[int]) -> list[Any]:
        batches.append(items)
        return list(items)

    commits = Together[int, int](database.write, work, lambda item: item, 10)
    await asyncio.gather(*(commits.run(n) for n in (4, 5, 4, 50, 1)))
    assert batches == [[4, 5], [4], [50], [1]]


async def test_later_goes_behind_the_others(database: Database) -> None:
    batches: list[list[str]] = []

    def work(_connection: Connection, items: list[str]) -> list[Any]:
        batches.append(items)
        return [LATER if item[0] == items[0][0] and number else item for number, item in enumerate(items)]

    commits = Together[str, str](database.write, work, lambda _item: 1, 3)
    names = ["a1", "a2", "a3", "b1", "c1"]
    assert await asyncio.gather(*map(commits.run, names)) == names
    assert batches == [["a1", "a2", "a3"], ["b1", "c1", "a2"], ["a3"]]


async def test_one_that_breaks_the_transaction_breaks_it_for_itself_alone(database: Database) -> None:
    def work(connection: Connection, items: list[int]) -> list[Any]:
        if 3 in items:
            connection.execute(text("INSERT INTO spent (y, keyset, amount, day) VALUES (:y, 99, 1, 1)"), {"y": b"y"})
        return list(items)

    commits = Together[int, int](database.write, work, lambda _item: 1, 10)
    outcomes = await asyncio.gather(*(commits.run(n) for n in range(6)), return_exceptions=True)
    assert isinstance(outcomes[3], SQLAlchemyError)
    assert [each for each in outcomes if isinstance(each, int)] == [0, 1, 2, 4, 5]


async def test_refusals_go_to_whom_they_concern(database: Database) -> None:
    def work(_connection: Connection, items: list[int]) -> list[Any]:
        return [ProofSpent() if item % 2 else OutputSigned() if item % 3 else item for item in items]

    commits = Together[int, int](database.write, work, lambda _item: 1, 10)
    outcomes = await asyncio.gather(*(commits.run(n) for n in range(7)), return_exceptions=True)
    assert kinds(outcomes) == ["ok", "ProofSpent", "OutputSigned", "ProofSpent", "OutputSigned", "ProofSpent", "ok"]


async def test_a_caller_who_goes_away_takes_nobody_along(database: Database) -> None:
    def work(_connection: Connection, items: list[int]) -> list[Any]:
        return list(items)

    commits = Together[int, int](database.write, work, lambda _item: 1, 10)
    tasks = [asyncio.create_task(commits.run(n)) for n in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in outcomes if isinstance(each, int)] == [0, 1, 3, 4]
    assert await commits.run(9) == 9


async def test_what_breaks_one_reaches_nobody_else(database: Database) -> None:
    def work(_connection: Connection, items: list[int]) -> list[Any]:
        return [1 // item for item in items]

    commits = Together[int, int](database.write, work, lambda _item: 1, 10)
    outcomes = await asyncio.gather(*(commits.run(n) for n in (1, 0, 1)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [int, ZeroDivisionError, int]
    assert await commits.run(1) == 1


async def test_a_database_that_is_away_is_told_to_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_connection: Connection, items: list[int]) -> list[Any]:
        raise DatabaseUnavailable

    commits = Together[int, int](database.write, work, lambda _item: 1, 10)
    outcomes = await asyncio.gather(*(commits.run(n) for n in range(3)), return_exceptions=True)
    assert kinds(outcomes) == ["DatabaseUnavailable"] * 3
    monkeypatch.setattr(together, "MOST_WAITING", 2)
    outcomes = await asyncio.gather(*(commits.run(n) for n in range(5)), return_exceptions=True)
    assert [type(each) for each in outcomes].count(Overloaded) == 3


async def test_many_random_swaps_at_once_spend_each_proof_once(database: Database) -> None:
    commits = Together(database.write, commit_on, lambda each: each.rows, 40)
    letters = "abcdefghijklmnopqrstuvwxyz"
    random = secrets.SystemRandom()
    swaps = [commit(str(n), "".join(random.sample(letters, 2)), "".join(random.sample(letters, 2))) for n in range(200)]
    outcomes = await asyncio.gather(*map(commits.run, swaps), return_exceptions=True)
    won = [swap for swap, outcome in zip(swaps, outcomes, strict=True) if outcome == []]
    ys = [row.y for swap in won for row in swap.spent]
    bs = [b for swap in won for b in swap.bs]
    assert len(ys) == len(set(ys))
    assert len(bs) == len(set(bs))
    assert {type(each) for each in outcomes} <= {list, ProofSpent, OutputSigned}
    spent, signed, remembered = await state(database)
    assert {key(each) for each in spent} == set(ys)
    assert {key(each) for each in signed} == set(bs)
    assert remembered == len(won)
    # Nobody was refused for nothing: each loser shares a key with a winner.
    for swap, outcome in zip(swaps, outcomes, strict=True):
        if isinstance(outcome, PennypostError):
            assert {row.y for row in swap.spent} & set(ys) or set(swap.bs) & set(bs)
