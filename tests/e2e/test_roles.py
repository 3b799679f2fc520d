"""Mint and post office apart: two processes, two databases, and our SDK, which is told the office's address alone."""

from __future__ import annotations

import json
import secrets
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from pennypost import AsyncClient
from pennypost.protocol import secp
from pennypost.protocol.errors import OfficeMisbehaves, OtherMint
from pennypost.protocol.nip98 import http_auth
from tests.support.server import Server
from tests.support.stamps import MintClient, token_of

OPERATOR = bytes(31) + b"\1"
OPERATORS = secp.xonly(OPERATOR).hex()


@pytest.fixture
def mint(tmp_path: Path):
    with Server(tmp_path / "mint", arguments=["--role", "mint"], settings={"OPERATORS": OPERATORS}) as server:
        yield server


@pytest.fixture
def office(tmp_path: Path, mint: Server):
    settings = {"MINT_URLS": mint.url, "OPERATORS": OPERATORS}
    with Server(tmp_path / "office", arguments=["--role", "postoffice"], settings=settings) as server:
        yield server


async def test_buy_at_the_mint_post_at_the_office(mint: Server, office: Server, tmp_path: Path) -> None:
    async with (
        AsyncClient(office.url, home=tmp_path / "alice") as alice,
        AsyncClient(office.url, home=tmp_path / "bob") as bob,
        MintClient(mint.url) as wallet,
    ):
        await alice.stamps.buy(3)
        receipt = await alice.send(bob.npub, "hello Bob")
        assert receipt.error is None, receipt
        found = [mail.text async for mail in bob.inbox()]
        assert found == ["hello Bob"]
        assert await alice.stamps.balance() == 2
        # a token that names the mint by its own address is ours
        (stamp,) = await wallet.buy(1)
        assert await alice.stamps.receive(token_of(stamp)) == 1
        other = stamp.__class__("https://mint.example", stamp.proof)
        with pytest.raises(OtherMint):
            await alice.stamps.receive(token_of(other))
        assert (await alice.stamps.check()).stamps == 3
    # a later process, whose first question is another one
    async with AsyncClient(office.url, home=tmp_path / "alice") as alice:
        assert (await alice.send(bob.npub, "again")).error is None
        assert await alice.stamps.balance() == 2
    data = office.folder / "data"
    assert not (data / "mint.seed").exists(), "the office has no key of a mint"
    assert stat.S_IMODE((data / "office.seed").stat().st_mode) == 0o600
    rows = sqlite3.connect(f"file:{data / 'pennypost.sqlite'}?mode=ro", uri=True)
    assert rows.execute("SELECT (SELECT count(*) FROM keysets), (SELECT count(*) FROM spent)").fetchone() == (0, 0)
    assert rows.execute("SELECT sum(amount) FROM treasury").fetchone() == (2,)
    rows.close()


def treasury(office: Server, *arguments: str) -> list[dict[str, Any]]:
    """`pennypost office treasury … --json` beside the running server."""
    program = Path(sys.executable).with_name("pennypost")
    command = [program, "office", "treasury", *arguments, "--json"]
    done = subprocess.run(
        command, env=office.environment, cwd=office.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def balance_sheet(server: Server) -> dict[str, Any]:
    """`/operator/money.json`, asked for by a request that an operator signed (NIP-98)."""
    url = f"{server.url}/operator/money.json"
    header = http_auth(OPERATOR, url=url, method="GET", body=b"", now=int(time.time()), aux=secrets.token_bytes(32))
    answer = httpx.get(url, headers={"authorization": header}, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_operator_takes_what_was_earned(mint: Server, office: Server, tmp_path: Path) -> None:
    async with AsyncClient(office.url, home=tmp_path / "alice") as alice:
        await alice.stamps.buy(5)
        for text in ("one", "two", "three"):
            assert (await alice.send(alice.npub, text)).error is None
    # the sheet of each: what the office earned it holds in stamps of the mint, which are out there
    told = balance_sheet(mint)
    names = ("settled", "sold", "unclaimed", "used", "outstanding", "difference", "balanced")
    assert [told["books"][name] for name in names] == [5, 5, 0, 0, 5, 0, True]
    assert told["treasury"] == {"sat": 0, "mints": []}
    told = balance_sheet(office)
    assert told["books"] is None and told["lightning"] is None and told["treasury"]["sat"] == 3
    (listed,) = treasury(office, "list")
    assert [(each["mint"], each["sat"]) for each in listed["mints"]] == [(mint.url, 3)]
    assert [(each["mint"], each["sat"]) for each in told["treasury"]["mints"]] == [(mint.url, 3)]
    assert treasury(office, "backup", str(tmp_path / "treasury.json"))[0]["sat"] == 3
    (swept,) = treasury(office, "sweep", mint.url)
    assert swept["sat"] == 3 and not swept["again"]
    (again,) = treasury(office, "sweep")
    assert again["token"] == swept["token"] and again["again"]
    async with AsyncClient(mint.url, home=tmp_path / "operator") as operator:
        assert await operator.stamps.receive(swept["token"]) == 3
    assert treasury(office, "check")[0] == {"mint": mint.url, "good": 0, "taken": 3, "lost": 0}
    assert treasury(office, "restore", str(tmp_path / "treasury.json")) == [{"sat": 0}]
    assert treasury(office, "list") == [{"mints": [], "swaps": [], "closed": []}]


async def test_what_each_of_them_serves(mint: Server, office: Server) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        page = await http.get(mint.url + "/")
        assert page.status_code == 200 and "no relay" in page.text
        for path in ("/buy", "/buy/check", "/buy/wallet"):
            assert f"{{&quot;mint&quot;:&quot;{mint.url}&quot;" in (await http.get(mint.url + path)).text
            assert f"{{&quot;mint&quot;:&quot;{mint.url}&quot;" in (await http.get(office.url + path)).text
        for path in ("/v1/headers", "/v1/pages/1"):
            assert (await http.get(mint.url + path)).status_code == 404
        assert (await http.post(mint.url + "/v1/events", content="{}")).status_code == 404
        assert (await http.get(office.url + "/v1/keys")).status_code == 404
        assert (await http.get(office.url + "/v1/info")).status_code == 404
        document = (await http.get(office.url + "/", headers={"accept": "application/nostr+json"})).json()
        assert document["payments_url"] == f"{office.url}/buy"
        assert document["fees"]["publication"][0]["method"]["Cashu"]["mints"] == [mint.url]
        assert document["fees"]["stamp"][0]["mints"] == [mint.url]
        assert len(document["self"]) == 64
        asked = await http.post(office.url + "/v1/events", content="{}")
        assert asked.status_code == 400
    with pytest.raises(websockets.exceptions.InvalidStatus):
        async with connect(mint.websocket_url, proxy=None):
            pass


async def test_an_office_that_changes_its_mint_is_noticed(mint: Server, office: Server, tmp_path: Path) -> None:
    """Stamps are never shown to a mint that did not make them."""
    home = tmp_path / "alice"
    async with AsyncClient(office.url, home=home) as alice:
        await alice.stamps.buy(2)
    office.end()
    with (
        Server(tmp_path / "other", arguments=["--role", "mint"]) as other,
        Server(
            tmp_path / "office",
            arguments=["--role", "postoffice"],
            settings={"MINT_URLS": other.url},
            port=office.port,
        ),
    ):
        # what the office said of itself is believed for an hour
        async with AsyncClient(office.url, home=home, clock=lambda: time.time() + 7_200) as alice:
            with pytest.raises(OfficeMisbehaves):
                await alice.stamps.check()
        async with AsyncClient(office.url, home=home, mint=mint.url) as alice:
            assert await alice.stamps.balance() == 0


REFUSED = {
    "no mint named": {},
    "a seed that is not the one": {"MINT_URLS": "https://mint.example"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_starts_that_make_no_sense(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "office"
    if case == "a seed that is not the one":
        with Server(folder, arguments=["--role", "postoffice"], settings=REFUSED[case]):
            pass
        (folder / "data" / "office.seed").write_text("11" * 32)
    with pytest.raises(RuntimeError, match="ended with 10"):
        Server(folder, arguments=["--role", "postoffice"], settings=REFUSED[case]).start()
