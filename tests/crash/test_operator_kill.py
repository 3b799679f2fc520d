"""`kill -9` of the operator's commands at any moment: each is run again, and nothing is lost, doubled or half done.

CRASH_ROUNDS deaths on each database (2 in CI, 500 by `make crash`), in turn of `issue`, `rotate`, `backup` and
`restore`; CRASH_SEED repeats a run's moments.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol import bdhke
from pennypost.protocol.token import parse_token
from pennypost_migrations import upgrade
from pennypost_mint.api import Keyring
from pennypost_mint.operate.backup import verify
from pennypost_mint.runtime.database import database_url, open_database
from tests.mint.desk import SWAP, open_desk, settings_for
from tests.support.postgres import Postgres
from tests.support.server import clean_environment
from tests.support.stamps import output

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "2"))
PENNYPOST = Path(sys.executable).with_name("pennypost")

pytestmark = pytest.mark.timeout(7_200 if ROUNDS > 20 else 240)


class Operator:
    """Runs `pennypost …` on one database; some of the commands die."""

    def __init__(self, data: Path, url: str, chance: random.Random) -> None:
        self.data, self.url = data, url
        self._chance = chance
        self._environment = clean_environment(PENNYPOST_DATA_DIR=str(data), PENNYPOST_DATABASE_URL=url)
        self._seconds: dict[str, float] = {}

    def run(self, *words: str, code: int = 0) -> Any:
        """To its end: the JSON it prints."""
        began = time.monotonic()
        done = subprocess.run(
            [PENNYPOST, *words, "--json"], env=self._environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, (words, done.stderr)
        self._seconds[words[1]] = time.monotonic() - began
        return json.loads(done.stdout.splitlines()[-1])

    def dies(self, *words: str) -> None:
        """Killed at some moment, most often before its end."""
        process = subprocess.Popen(
            [PENNYPOST, *words, "--json"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(self._seconds.get(words[1], 1.0) * self._chance.uniform(0.4, 1.1))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()


async def business(data: Path, url: str) -> None:
    async with open_desk(settings_for(data, url)) as desk:
        proofs = await desk.buy(*[1] * 200)
        for proof in proofs[:50]:
            await desk.done(SWAP, {"inputs": [proof], "outputs": [output(1).message(desk.keyset)]})


async def good(data: Path, url: str, token: str) -> bool:
    """Whether the mint's keys made every proof of the token."""
    database = open_database(url, data)
    try:
        keyring = await Keyring.open(database, settings_for(data, url))
    finally:
        await database.close()
    return all(
        bdhke.verify(keyring.get(proof.id).secrets[proof.amount], proof.secret.encode(), bytes.fromhex(proof.C))
        for proof in parse_token(token, keyring.ids).proofs
    )


def test_killed_operators(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> None:
    seed = int(os.environ.get("CRASH_SEED", random.randrange(1 << 30)))
    print(f"CRASH_SEED={seed}")
    chance = random.Random(seed)
    asyncio.run(business(tmp_path / "data", database_url))
    operator = Operator(tmp_path / "data", database_url, chance)
    given, keysets = 0, 1
    whole = tmp_path / "whole.backup"
    operator.run("mint", "backup", str(whole))
    first = chance.randrange(4)
    for number in range(first, first + ROUNDS):
        match number % 4:
            case 0:
                amount = chance.randrange(1, 1_000)
                words = ("mint", "issue", str(amount), "--reference", f"round-{number}")
                operator.dies(*words)
                issued = operator.run(*words)
                assert operator.run(*words) == issued | {"fresh": False}
                assert asyncio.run(good(operator.data, database_url, issued["token"]))
                given += amount
            case 1:
                operator.dies("mint", "rotate")
                listed = operator.run("mint", "keysets")["keysets"]
                assert len(listed) in (keysets, keysets + 1)
                assert [each["active"] for each in listed] == [False] * (len(listed) - 1) + [True]
                keysets = len(listed)
            case 2:
                file = tmp_path / f"{number}.backup"
                operator.dies("mint", "backup", str(file))
                if file.exists():
                    verify(file, lambda _done, _total: None)
                operator.run("mint", "backup", str(tmp_path / f"{number}-again.backup"))
            case _:
                restored(tmp_path / f"restored-{number}", request, operator, whole, chance)
        books = operator.run("mint", "report")
        assert (books["promotional"], books["sold"], books["difference"], books["balanced"]) == (given, 200, 0, True)


def restored(
    data: Path, request: pytest.FixtureRequest, operator: Operator, whole: Path, chance: random.Random
) -> None:
    """A restore that dies leaves all or nothing."""
    url, cluster = "", None
    if operator.url:
        cluster = request.getfixturevalue("postgres_cluster")
        assert isinstance(cluster, Postgres)
        url = cluster.database()
    data.mkdir()
    (data / "mint.seed").write_bytes((operator.data / "mint.seed").read_bytes())
    asyncio.run(upgrade(database_url(url, data)))
    target = Operator(data, url, chance)
    target.dies("mint", "restore", str(whole))
    before = target.run("mint", "report")
    assert before["sold"] in (0, 200) and before["balanced"]
    if before["sold"]:
        target.run("mint", "restore", str(whole), code=10)
    else:
        target.run("mint", "restore", str(whole))
        assert target.run("mint", "report")["outstanding"] == 200
    if cluster is not None:
        cluster.drop(url)
