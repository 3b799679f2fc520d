"""Rotations while whole servers sell, swap and take letters: nobody loses anything, and the books balance."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost import AsyncClient
from pennypost.protocol import bdhke
from pennypost.protocol.errors import NotEnoughStamps
from pennypost.protocol.token import Proof, parse_token
from pennypost_mint import keyring
from tests.support.relay import Relay, letter
from tests.support.server import Server
from tests.support.stamps import Stamp, output

DAY = 86_400
ROTATIONS = 4
SECONDS = 90
KINDS = ("bought", "swapped", "posted", "written")
"""What is done while keysets are rotated."""


class Pressed:
    """A wallet that asks one server, then the other, and knows of keysets only what it was told at its last refusal."""

    def __init__(self, servers: list[Server], http: list[httpx.AsyncClient]) -> None:
        self._servers, self._http = servers, http
        self._turn = 0
        self.keyset = ""
        self._keys: dict[str, dict[int, bytes]] = {}
        self.codes: Counter[int] = Counter()
        self.repeats = 0
        """Most refusals in a row of one request."""

    def _next(self) -> httpx.AsyncClient:
        self._turn += 1
        return self._http[self._turn % len(self._http)]

    async def refresh(self) -> None:
        """As cashu-ts and our SDK do it: the list, then the keys of what is new."""
        listed = (await self._next().get("/v1/keysets")).json()["keysets"]
        [self.keyset] = [each["id"] for each in listed if each["active"]]
        if self.keyset not in self._keys:
            [found] = (await self._next().get(f"/v1/keys/{self.keyset}")).json()["keysets"]
            self._keys[self.keyset] = {int(amount): bytes.fromhex(key) for amount, key in found["keys"].items()}

    async def signed(self, path: str, body: dict[str, Any]) -> Stamp:
        """One stamp for the request; refused with 12xxx, again with fresh outputs after a refresh."""
        for attempt in range(10):
            made = output()
            response = await self._next().post(path, json=body | {"outputs": [made.message(self.keyset)]})
            answer = response.json()
            if response.status_code == 200:
                [signature] = answer["signatures"]
                key = self._keys[signature["id"]][1]
                point = bytes.fromhex(signature["C_"])
                e, s = (bytes.fromhex(signature["dleq"][name]) for name in "es")
                assert bdhke.dleq_verify(key, made.B_, point, e, s)
                C = bdhke.unblind(point, made.r, key)
                return Stamp(self._servers[0].url, Proof(1, signature["id"], made.secret, C.hex()))
            self.codes[answer["code"]] += 1
            assert response.status_code == 400 and answer["code"] == 12002, answer
            self.repeats = max(self.repeats, attempt + 1)
            await self.refresh()
        raise AssertionError("refused ten times in a row")

    async def buy(self) -> Stamp:
        quote = (await self._next().post("/v1/mint/quote/bolt11", json={"amount": 1, "unit": "sat"})).json()
        while (await self._next().get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] != "PAID":
            await asyncio.sleep(0.02)
        return await self.signed("/v1/mint/bolt11", {"quote": quote["quote"]})

    async def swap(self, stamp: Stamp) -> Stamp:
        proof = stamp.proof
        given = {"amount": 1, "id": proof.id, "secret": proof.secret, "C": proof.C}
        return await self.signed("/v1/swap", {"inputs": [given]})


def command(server: Server, *arguments: str) -> Any:
    """`pennypost mint …` as a process with the server's settings."""
    program = Path(sys.executable).with_name("pennypost")
    done = subprocess.run(
        [program, "mint", *arguments, "--json"],
        env=server.environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def servers(serve: Callable[..., Server], database_url: str) -> list[Server]:
    """One server on SQLite, two on one PostgreSQL; each with two crypto processes."""
    common = {"RATE_LIMIT": "0", "WORKERS": "2"}
    first = serve(database_url=database_url, settings=common)
    if not database_url:
        return [first]
    return [first, serve(database_url=database_url, settings=common | {"PUBLIC_URL": first.url})]


async def test_rotation_under_load_loses_no_request(servers: list[Server], tmp_path: Path) -> None:
    limits = httpx.Limits(max_connections=20)
    http = [httpx.AsyncClient(base_url=each.url, trust_env=False, timeout=60, limits=limits) for each in servers]
    stop = asyncio.Event()
    done: Counter[str] = Counter()

    async def trade(wallet: Pressed) -> None:
        """Buys, then swaps the same stamp on and on."""
        stamp = await wallet.buy()
        done["bought"] += 1
        while not stop.is_set():
            for _ in range(10):
                stamp = await wallet.swap(stamp)
                done["swapped"] += 1
            stamp = await wallet.buy()
            done["bought"] += 1

    async def post(wallet: Pressed, number: int) -> None:
        """A stamp of the newest keyset, used at once at the server that has not made it."""
        while not stop.is_set():
            async with Relay(servers[number % len(servers)].websocket_url) as relay:
                for _ in range(5):
                    await wallet.refresh()
                    answer = await relay.post(letter(), (await wallet.buy()).token)
                    assert answer.accepted, answer
                    done["posted"] += 1

    async def write(number: int) -> None:
        """Our SDK, which is told nothing of rotations."""
        server = servers[number % len(servers)]
        async with AsyncClient(server.url, tmp_path / f"home-{number}") as client:
            while not stop.is_set():
                await client.stamps.buy(3)
                for _ in range(3):
                    receipt = await client.send(client.npub, secrets.token_hex(4))
                    assert receipt.accepted, receipt
                    done["written"] += 1

    async def rotate() -> list[str]:
        made: list[str] = []
        try:
            for _ in range(ROTATIONS):
                target = done.total() + 20
                while done.total() < target or not all(done[kind] for kind in KINDS):
                    await asyncio.sleep(0.02)
                made.append((await asyncio.to_thread(command, servers[-1], "rotate"))["id"])
                # whoever lists keysets makes a server look, so none is behind once the command has ended
                assert {await active(each) for each in http} == {made[-1]}
            target = done.total() + 20
            while done.total() < target:
                await asyncio.sleep(0.02)
            return made
        finally:
            stop.set()

    async def active(client: httpx.AsyncClient) -> str:
        [found] = (await client.get("/v1/keys")).json()["keysets"]
        return found["id"]

    wallets = [Pressed(servers, http) for _ in range(6)]
    for wallet in wallets:
        await wallet.refresh()
    try:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            rotated = group.create_task(rotate())
            for number, wallet in enumerate(wallets):
                group.create_task(post(wallet, number) if number % 3 == 2 else trade(wallet))
            for number in range(2):
                group.create_task(write(number))
    finally:
        for each in http:
            await each.aclose()

    assert len(set(rotated.result())) == ROTATIONS
    assert all(done[kind] for kind in KINDS)
    refusals = sum((wallet.codes for wallet in wallets), Counter())
    assert set(refusals) <= {12002}
    # One refresh is enough; a second refusal needs a second rotation between the two.
    assert max(wallet.repeats for wallet in wallets) <= 2
    books = await asyncio.to_thread(command, servers[0], "report")
    assert books["balanced"] and books["difference"] == 0
    assert len(books["keysets"]) == ROTATIONS + 1
    assert books["used"] == done["posted"] + done["written"]


async def test_a_quiet_server_follows_within_a_second(servers: list[Server]) -> None:
    """No request makes it look; it looks twice a second, however late a busy machine lets it."""
    assert keyring.EVERY <= 0.5
    before = {server.log: server.tail(1 << 20).count("keysets changed") for server in servers}
    await asyncio.to_thread(command, servers[0], "rotate")
    async with asyncio.timeout(30):
        while any(server.tail(1 << 20).count("keysets changed") == before[server.log] for server in servers):
            await asyncio.sleep(0.02)


async def test_a_wallet_across_a_final_expiry(server: Server, tmp_path: Path) -> None:
    """Stamps that expire soon are swapped in time; expired ones are laid aside and hold up nothing."""
    expiry = int(time.time()) + 2 * DAY
    late = command(server, "rotate", "--final-expiry", str(expiry))["id"]

    def wallet(name: str, ahead: int = 0) -> AsyncClient:
        return AsyncClient(server.url, tmp_path / name, clock=lambda: time.time() + ahead)

    async with wallet("careful") as careful, wallet("careless") as careless:
        await careful.stamps.buy(5)
        await careless.stamps.buy(5)
        new = command(server, "rotate")["id"]
        check = await careful.stamps.check()
        assert (check.stamps, check.lost, check.problems) == (5, 0, ())
        ids = {proof.id for proof in parse_token(await careful.stamps.send(5), [late, new]).proofs}
        assert ids == {new}
    async with wallet("careless", 3 * DAY) as careless:
        assert await careless.stamps.balance() == 5
        await careless.stamps.buy(3)
        ids = {proof.id for proof in parse_token(await careless.stamps.send(3), [late, new]).proofs}
        assert ids == {new}
        with pytest.raises(NotEnoughStamps):
            await careless.stamps.send(1)
        summary = await careless.stamps.summary()
        assert (summary.stamps, summary.expired) == (0, 5)
        assert (await careless.stamps.check()).problems == ()
