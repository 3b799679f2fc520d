"""Subscriptions (NUT-17): what is told, when, and what is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol import bdhke
from pennypost.protocol.errors import DatabaseUnavailable
from pennypost_mint import watch, websocket
from pennypost_mint.api import SpentProof, pay_play_invoice, spend_on
from pennypost_mint.runtime import limits
from tests.mint.desk import MINT, SWAP, Body, Desk, desk_on, open_desk, settings_for
from tests.mint.wire import SECONDS, wire_to
from tests.support.stamps import output

NEVER = "02" + "ab" * 32
"""The Y of a proof that nobody ever made."""

QUOTES = "bolt11_mint_quote"
PROOFS = "proof_state"


def y_of(proof: Body) -> str:
    return bdhke.hash_to_curve(proof["secret"].encode()).hex()


@pytest.fixture(autouse=True)
def reported_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a test says otherwise: what is told was reported by whoever committed it, not found by looking round."""
    monkeypatch.setattr(watch, "EVERY", 3_600)


@pytest.fixture
def looking_round(reported_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody reported is found soon. Named before the mint, which must be opened after it."""
    monkeypatch.setattr(watch, "EVERY", 0.02)


@pytest.fixture
async def open_mint(tmp_path: Path, database_url: str) -> AsyncIterator[Desk]:
    """A mint that listens for payments and tells subscribers."""
    async with open_desk(settings_for(tmp_path, database_url), listening=True) as opened:
        yield opened


@pytest.fixture
async def small_mint(tmp_path: Path) -> AsyncIterator[Desk]:
    """The same on SQLite alone, for bounds that no database knows of."""
    async with open_desk(settings_for(tmp_path), listening=True) as opened:
        yield opened


async def test_a_quote_is_told_from_unpaid_to_issued(open_mint: Desk) -> None:
    desk = open_mint
    quote = await desk.quote(8)
    async with wire_to(desk.mint) as wire:
        await wire.subscribe(QUOTES, [quote["quote"]])
        assert await wire.told() == quote
        await pay_play_invoice(desk.database, quote["request"])
        paid = await wire.told()
        assert (paid["quote"], paid["state"], paid["amount_paid"], paid["amount_issued"]) == (
            quote["quote"],
            "PAID",
            8,
            0,
        )
        for amount, state, issued in ((2, "PAID", 2), (4, "PAID", 6), (2, "ISSUED", 8)):
            await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(amount)])})
            told = await wire.told()
            assert (told["state"], told["amount_issued"]) == (state, issued)
        assert told == await desk.state_of(quote)
        assert wire.frames.empty()


async def test_a_proof_is_told_until_it_is_spent(open_mint: Desk) -> None:
    desk = open_mint
    proofs = await desk.buy(4, 2)
    Ys = [y_of(proof) for proof in proofs]
    async with wire_to(desk.mint) as wire, wire_to(desk.mint) as other:
        await wire.subscribe(PROOFS, [*Ys, NEVER])
        assert {(told["Y"], told["state"]) for told in [await wire.told() for _ in range(3)]} == {
            (Y, "UNSPENT") for Y in (*Ys, NEVER)
        }
        await desk.done(SWAP, {"inputs": proofs[:1], "outputs": desk.messages([output(4)])})
        assert await wire.told() == {"Y": Ys[0], "state": "SPENT", "witness": None}
        await other.subscribe(PROOFS, Ys)
        assert {told["Y"]: told["state"] for told in [await other.told(), await other.told()]} == {
            Ys[0]: "SPENT",
            Ys[1]: "UNSPENT",
        }
        assert wire.frames.empty()


async def test_what_a_lock_was_opened_with_is_told(open_mint: Desk) -> None:
    desk = open_mint
    [proof] = await desk.buy(4)
    y = bytes.fromhex(y_of(proof))
    row = SpentProof(y, desk.keyring.active().position, 4, 20_000, '{"preimage":"00"}')
    async with wire_to(desk.mint) as wire:
        await wire.subscribe(PROOFS, [y.hex()])
        assert (await wire.told())["state"] == "UNSPENT"
        await desk.database.write(spend_on, [row])
        desk.mint.watch.changed([y])
        assert await wire.told() == {"Y": y.hex(), "state": "SPENT", "witness": '{"preimage":"00"}'}


async def test_a_y_comes_back_as_it_was_written(open_mint: Desk) -> None:
    async with wire_to(open_mint.mint) as wire:
        written = "02" + "AB" * 32
        await wire.subscribe(PROOFS, [written])
        assert await wire.told() == {"Y": written, "state": "UNSPENT", "witness": None}


async def test_a_quote_that_does_not_exist_yet_is_told_when_it_does(
    small_mint: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennypost_mint.minting.secrets.token_hex", lambda _size: "ab" * 16)
    async with wire_to(small_mint.mint) as wire:
        await wire.subscribe(QUOTES, ["ab" * 16])
        quote = await small_mint.quote(1)
        small_mint.mint.watch.changed([quote["quote"]])
        assert await wire.told() == quote


async def test_what_another_process_commits_is_found(looking_round: None, open_mint: Desk) -> None:
    proofs = await open_mint.buy(4, 2)
    quote = await open_mint.quote(8)
    async with (
        desk_on(open_mint.database, open_mint.settings, open_mint.keyring) as other,
        wire_to(open_mint.mint) as wire,
    ):
        await wire.subscribe(PROOFS, [y_of(proofs[0])], "proof")
        await wire.told("proof")
        await wire.subscribe(QUOTES, [quote["quote"]], "quote")
        await wire.told("quote")
        await other.done(SWAP, {"inputs": proofs, "outputs": other.messages([output(4), output(2)])})
        assert (await wire.told("proof"))["state"] == "SPENT"
        await pay_play_invoice(open_mint.database, quote["request"])
        await other.mint.till.reconcile()
        assert (await wire.told("quote"))["state"] == "PAID"


async def test_a_database_that_was_away_delays_what_is_told(
    looking_round: None, small_mint: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, away = small_mint.database.read, asyncio.Event()

    async def reading(work: Any, *arguments: Any) -> Any:
        if work is watch._states_on and not away.is_set():  # pyright: ignore[reportPrivateUsage]
            away.set()
            raise DatabaseUnavailable
        return await read(work, *arguments)

    monkeypatch.setattr(small_mint.database, "read", reading)
    async with wire_to(small_mint.mint) as wire:
        await wire.subscribe(PROOFS, [NEVER])
        assert (await wire.told())["Y"] == NEVER
        assert away.is_set()


async def test_many_objects_take_turns(looking_round: None, small_mint: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SLICE", 3)
    monkeypatch.setattr(watch, "LOOK", 2)
    proofs = await small_mint.buy(*[1] * 10)
    async with (
        desk_on(small_mint.database, small_mint.settings, small_mint.keyring) as other,
        wire_to(small_mint.mint) as wire,
    ):
        await wire.subscribe(PROOFS, [y_of(proof) for proof in proofs])
        assert {(await wire.told())["state"] for _ in proofs} == {"UNSPENT"}
        await other.done(SWAP, {"inputs": proofs, "outputs": other.messages([output(8), output(2)])})
        assert {(await wire.told())["Y"] for _ in proofs} == {y_of(proof) for proof in proofs}
        assert small_mint.mint.watch.size == 0


async def test_nothing_is_told_after_unsubscribing(small_mint: Desk) -> None:
    [proof] = await small_mint.buy(1)
    async with wire_to(small_mint.mint) as wire:
        await wire.subscribe(PROOFS, [y_of(proof)], "one")
        await wire.told("one")
        await wire.subscribe(PROOFS, [y_of(proof)], "two")
        await wire.told("two")
        identifier = wire.request("unsubscribe", subId="one")
        assert await wire.next() == {"jsonrpc": "2.0", "result": {"status": "OK", "subId": "one"}, "id": identifier}
        await small_mint.done(SWAP, {"inputs": [proof], "outputs": small_mint.messages([output(1)])})
        assert (await wire.told("two"))["state"] == "SPENT"
        wire.request("unsubscribe", subId="one")
        await wire.refused(-32602)


async def test_a_name_is_taken_over(small_mint: Desk) -> None:
    async with wire_to(small_mint.mint) as wire:
        await wire.subscribe(PROOFS, [NEVER])
        assert (await wire.told())["Y"] == NEVER
        await wire.subscribe(PROOFS, [NEVER, "03" + NEVER[2:]])
        assert {(await wire.told())["Y"] for _ in range(2)} == {NEVER, "03" + NEVER[2:]}
        assert small_mint.mint.watch.size == 2


async def test_who_leaves_is_forgotten(small_mint: Desk) -> None:
    async with wire_to(small_mint.mint) as wire:
        await wire.subscribe(PROOFS, [NEVER])
        assert (await wire.told())["state"] == "UNSPENT"
        await wire.subscribe(QUOTES, ["ab" * 16], "quotes")
        assert small_mint.mint.watch.size == 2
        assert b"pennypost_mint_websockets 1.0" in small_mint.mint.metrics.text()
    assert small_mint.mint.watch.size == 0
    assert b"pennypost_mint_websockets 0.0" in small_mint.mint.metrics.text()


GARBAGE = ["", "ping", "[" * 100_000, "[]", "{}", '{"id":1}', "\0", "\u2028", '{"jsonrpc":"2.0","id":1,"method":"x"}']


async def test_garbage_is_answered_and_the_connection_goes_on(small_mint: Desk) -> None:
    async with wire_to(small_mint.mint) as wire:
        for text in GARBAGE:
            wire.write(text)
            assert (await wire.next())["error"]["code"] in (-32700, -32600, -32601)
        wire.write_binary(b"\xff\x00")
        await wire.refused(-32700)
        wire.write("x" * (limits.MAX_FRAME + 1))
        await wire.refused(-32000)
        wire.request("subscribe", kind="bolt11_melt_quote", subId="a", filters=["b"])
        await wire.refused(-32602)
        wire.request("subscribe", kind=PROOFS, subId="a", filters=[NEVER] * 1_001)
        await wire.refused(-32602)
        await wire.subscribe(PROOFS, [NEVER])
        assert (await wire.told())["Y"] == NEVER


async def test_a_refusal_names_its_request_and_nothing_that_was_sent(small_mint: Desk) -> None:
    async with wire_to(small_mint.mint) as wire:
        wire.write(
            json.dumps({"jsonrpc": "2.0", "id": "hunter2", "method": "subscribe", "params": {"kind": "hunter3"}})
        )
        refused = await wire.next()
        assert refused["id"] == "hunter2"
        assert "hunter" not in refused["error"]["message"]
        wire.write('{"jsonrpc": "2.0", "id": [1], "method": "subscribe"}')
        assert (await wire.next())["id"] is None


async def test_201_subscriptions(small_mint: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "WALLET_FRAMES_BURST", 1_000)
    async with wire_to(small_mint.mint) as wire:
        for number in range(200):
            await wire.subscribe(PROOFS, [NEVER], str(number))
            await wire.told(str(number))
        wire.request("subscribe", kind=PROOFS, subId="one more", filters=[NEVER])
        assert (await wire.refused(-32000)).endswith("[subscriptions]")
        await wire.subscribe(PROOFS, [NEVER], "7")
        await wire.told("7")


def some_ys(count: int, start: int = 0) -> list[str]:
    return ["02" + f"{number:064x}" for number in range(start, start + count)]


async def test_one_connection_watches_so_much(small_mint: Desk) -> None:
    async with wire_to(small_mint.mint) as wire:
        for number in range(5):
            await wire.subscribe(PROOFS, some_ys(1_000, 1_000 * number), str(number))
            for _ in range(1_000):
                await wire.told(str(number))
        wire.request("subscribe", kind=PROOFS, subId="one more", filters=[NEVER])
        assert (await wire.refused(-32000)).endswith("[subscriptions]")
        wire.request("unsubscribe", subId="0")
        assert "result" in await wire.next()
        await wire.subscribe(PROOFS, [NEVER])


async def test_all_connections_together_watch_so_much(small_mint: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WATCHED", 10)
    async with wire_to(small_mint.mint) as one, wire_to(small_mint.mint) as other:
        await one.subscribe(PROOFS, some_ys(9))
        other.request("subscribe", kind=PROOFS, subId="sub", filters=some_ys(2, 20))
        assert (await other.refused(-32000)).endswith("[subscriptions]")
        await other.subscribe(PROOFS, some_ys(1))
        assert small_mint.mint.watch.size == 10


async def test_who_does_not_read_is_cut_off_and_nobody_else(small_mint: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "WALLET_OUTGOING", 20_000)
    [proof] = await small_mint.buy(1)
    async with wire_to(small_mint.mint) as slow, wire_to(small_mint.mint) as wire:
        await wire.subscribe(PROOFS, [y_of(proof)])
        await wire.told()
        slow.stall()
        slow.request("subscribe", kind=PROOFS, subId="sub", filters=some_ys(1_000))
        assert await asyncio.wait_for(asyncio.shield(slow.closed), SECONDS) is None
        assert b"pennypost_mint_slow_readers_total 1.0" in small_mint.mint.metrics.text()
        await small_mint.done(SWAP, {"inputs": [proof], "outputs": small_mint.messages([output(1)])})
        assert (await wire.told())["state"] == "SPENT"


async def test_who_subscribes_to_nothing_is_closed(small_mint: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "WALLET_IDLE", 0.05)
    async with wire_to(small_mint.mint) as idle, wire_to(small_mint.mint) as wire:
        await wire.subscribe(PROOFS, [NEVER])
        assert await asyncio.wait_for(asyncio.shield(idle.closed), SECONDS) == 1000
        await wire.told()
        assert not wire.closed.done()
        wire.request("unsubscribe", subId="sub")
        assert await asyncio.wait_for(asyncio.shield(wire.closed), SECONDS) == 1000


async def test_a_flood_is_read_more_slowly(small_mint: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "WALLET_FRAMES_BURST", 5)
    monkeypatch.setattr(websocket, "WALLET_FRAMES_RATE", 50)
    async with wire_to(small_mint.mint) as flood:
        began = asyncio.get_running_loop().time()
        for _ in range(25):
            flood.write("x")
        for _ in range(25):
            await flood.refused(-32700)
        assert asyncio.get_running_loop().time() - began > 0.35


@pytest.mark.parametrize(
    ("name", "peers"),
    [("MAX_WEBSOCKETS", ["198.51.100.1", "198.51.100.2"]), ("WEBSOCKETS_OF_SOURCE", ["198.51.100.1"] * 2)],
)
async def test_connections_are_counted(
    small_mint: Desk, monkeypatch: pytest.MonkeyPatch, name: str, peers: list[str]
) -> None:
    monkeypatch.setattr(websocket, name, 1)
    async with wire_to(small_mint.mint, peers[0]) as wire:
        await wire.subscribe(PROOFS, [NEVER])
        async with wire_to(small_mint.mint, peers[1]) as other:
            assert await asyncio.wait_for(asyncio.shield(other.closed), SECONDS) == 1013
    async with wire_to(small_mint.mint, peers[1]) as other:
        await other.subscribe(PROOFS, [NEVER])


async def test_subscribing_costs_its_source(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, rate_limit=0.001, rate_burst=70)
    async with open_desk(settings, listening=True) as desk, wire_to(desk.mint) as wire:
        await wire.subscribe(PROOFS, some_ys(990))
        wire.request("subscribe", kind=PROOFS, subId="more", filters=some_ys(990))
        frame = await wire.next()
        while "error" not in frame:
            frame = await wire.next()
        assert frame["error"]["message"].endswith("[rate-limited]")
        async with wire_to(desk.mint, "198.51.100.2") as other:
            await other.subscribe(PROOFS, some_ys(990))
