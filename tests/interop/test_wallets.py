"""Foreign wallets buy stamps from our mint and foreign clients spend them at our post office."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient
from pennypost.protocol.token import parse_token
from tests.support.foreign import NutshellWallet, node
from tests.support.relay import Relay, letter
from tests.support.server import Server
from tests.support.stamps import MintClient, Stamp


async def _states(server: Server, token: str) -> list[str]:
    async with MintClient(server.url) as mint:
        keyset = await mint.keyset()
        proofs = parse_token(token, [keyset]).proofs
        return await mint.states([Stamp(server.url, proof) for proof in proofs])


def _balance(text: str) -> int:
    (found,) = re.findall(r"^Balance: (\d+) sat", text, re.MULTILINE)
    return int(found)


async def test_nutshell_wallet(server: Server, tmp_path: Path) -> None:
    """Buys, sends to itself, and its stamp carries an event."""
    wallet = NutshellWallet(tmp_path / "nutshell", server.url)
    bought = wallet.buy(21)
    assert "Invoice" in bought
    assert _balance(wallet.run("balance")) == 21

    (token,) = re.findall(r"cashuB[\w-]+=*", wallet.run("send", "5"))
    assert await _states(server, token) == ["UNSPENT"] * len(parse_token(token, None).proofs)
    assert "Received 5 sat" in wallet.run("receive", token)
    assert set(await _states(server, token)) == {"SPENT"}
    assert _balance(wallet.run("balance")) == 21

    (stamp,) = re.findall(r"cashuB[\w-]+=*", wallet.run("send", "1"))
    event = letter(kind=1, tags=[])
    async with Relay(server.websocket_url) as relay:
        answer = await relay.post(event, stamp)
        assert answer.accepted and not answer.duplicate, answer
        (found,) = await relay.fetch({"ids": [event.id]})
    assert found["content"] == event.content
    assert set(await _states(server, stamp)) == {"SPENT"}


@pytest.fixture
def customer(server: Server) -> Any:
    """What the cashu-ts script did at our mint with 16 stamps."""
    return node("wallet.mjs", server.url, "16")


async def test_cashu_ts_wallet(server: Server, customer: Any) -> None:
    assert customer["bought"] == 16
    assert customer["received"] == 3
    assert set(customer["spentStates"]) == {"SPENT"}
    assert (customer["balance"], set(customer["left"])) == (15, {"UNSPENT"})
    assert re.fullmatch(r"01[0-9a-f]{64}", customer["keyset"])
    assert customer["unsigned"] == 20008, "a locked quote was minted with another key"
    assert await _states(server, customer["token"]) == ["UNSPENT"]


async def test_nostr_tools_posts_with_a_stamp_of_cashu_ts(server: Server, customer: Any) -> None:
    done = node("letter.mjs", server.websocket_url, customer["token"])
    identifier = done["event"]["id"]
    assert done["unstamped"][:3] == ["OK", identifier, False]
    assert done["unstamped"][3].endswith("[stamp-required]")
    assert done["stamped"][:3] == done["again"][:3] == ["OK", identifier, True]
    assert done["again"][3].startswith("duplicate:")
    assert Counter(done["verified"]) == {True: 1}
    assert {name: done["found"][0][name] for name in done["event"]} == done["event"]
    assert await _states(server, customer["token"]) == ["SPENT"]


async def test_cashu_ts_finds_its_stamps_again(server: Server) -> None:
    """By its seed alone (NUT-09, NUT-13): what it made, sent ones included, less what somebody has taken since."""
    assert node("restore.mjs", server.url, "16") == {"left": 13, "found": 32, "unspent": 13, "after": 13}


def test_nutshell_finds_its_stamps_again(server: Server, tmp_path: Path) -> None:
    wallet = NutshellWallet(tmp_path / "nutshell", server.url)
    wallet.buy(21)
    wallet.run("send", "5")
    (words,) = re.findall(r"Mnemonic:\s+- ([a-z ]+)", wallet.run("info", "--mnemonic"))
    again = NutshellWallet(tmp_path / "again", server.url)
    assert _balance(again.run("restore", given=words + "\n")) == 21
    (token,) = re.findall(r"cashuB[\w-]+=*", again.run("send", "21"))
    assert "Received 21 sat" in NutshellWallet(tmp_path / "other", server.url).run("receive", token)


async def test_tokens_of_the_older_form_go_both_ways(server: Server, tmp_path: Path) -> None:
    """cashuA, for wallets that read nothing newer: Nutshell's is taken, ours are read (NUT-00, V3 tokens)."""
    nutshell = NutshellWallet(tmp_path / "nutshell", server.url)
    async with AsyncClient(server.url, tmp_path / "alice") as alice:
        await alice.stamps.buy(10)
        ours = await alice.stamps.send(3, memo="older", format="cashuA")
        assert ours.startswith("cashuA") and "Received 3 sat" in nutshell.run("receive", ours)
        (theirs,) = re.findall(r"cashuA[\w-]+=*", nutshell.run("send", "2", "--legacy"))
        assert await alice.stamps.receive(theirs) == 2
        ours = await alice.stamps.send(4, memo="older", format="cashuA")
        assert node("older.mjs", server.url, ours) == {"received": 4, "memo": "older"}
        assert await alice.stamps.balance() == 10 - 3 + 2 - 4
