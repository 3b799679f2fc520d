"""Logs and metrics name nobody and carry nothing: a purchase, a swap, letters and refusals, then both are searched."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from pennypost.protocol import bdhke
from pennypost.protocol.bolt11 import parse_invoice
from tests.support.relay import Relay, letter
from tests.support.server import Server
from tests.support.stamps import MintClient, Stamp, output

PEER = "127.0.0.9"
"""Where the wallet connects from. The server's own address is in its first line, and says nothing of anybody."""

FORWARDED = "203.0.113.77"


class Marks:
    """What must be found nowhere."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {"peer": PEER, "forwarded address": FORWARDED}

    def add(self, name: str, text: object) -> None:
        assert len(str(text)) >= 8, name
        self._marks[name] = str(text)

    def add_stamp(self, name: str, stamp: Stamp) -> None:
        self.add(f"{name}: secret", stamp.proof.secret)
        self.add(f"{name}: C", stamp.proof.C)
        self.add(f"{name}: Y", stamp.y.hex())
        self.add(f"{name}: token", stamp.token)
        # A token is base64 of its parts, so its beginning is that of every other.
        self.add(f"{name}: end of the token", stamp.token[-40:])

    def found_in(self, text: str) -> list[str]:
        lowered = text.lower()
        return [name for name, mark in self._marks.items() if mark.lower() in lowered]


async def bought(http: httpx.AsyncClient, marks: Marks) -> list[Stamp]:
    """Three stamps; every part of the purchase is a mark."""
    async with MintClient(str(http.base_url)) as mint:
        keyset = await mint.keyset()
        quote = (await http.post("/v1/mint/quote/bolt11", json={"amount": 3, "unit": "sat"})).json()
        invoice = parse_invoice(quote["request"])
        marks.add("quote", quote["quote"])
        marks.add("invoice", quote["request"])
        marks.add("payment hash", invoice.payment_hash.hex())
        while (await http.get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] != "PAID":
            continue
        outputs = [output() for _ in range(3)]
        for number, made in enumerate(outputs):
            marks.add(f"B_ {number}", made.B_.hex())
        body = {"quote": quote["quote"], "outputs": [made.message(keyset) for made in outputs]}
        answer = (await http.post("/v1/mint/bolt11", json=body)).json()
        opened: list[Stamp] = []
        for number, (made, signature) in enumerate(zip(outputs, answer["signatures"], strict=True)):
            marks.add(f"C_ {number}", signature["C_"])
            opened.append(mint.open(keyset, made, bytes.fromhex(signature["C_"])))
            marks.add_stamp(f"stamp {number}", opened[-1])
        return opened


def as_input(stamp: Stamp, **changes: Any) -> dict[str, Any]:
    proof = stamp.proof
    return {"amount": proof.amount, "id": proof.id, "secret": proof.secret, "C": proof.C} | changes


async def refused(http: httpx.AsyncClient, stamps: list[Stamp], marks: Marks) -> None:
    """Requests that fail in many ways, each with something that must not be repeated."""
    keyset = stamps[0].proof.id
    made = output()
    swap = {"inputs": [as_input(stamps[0])], "outputs": [made.message(keyset)]}
    assert (await http.post("/v1/swap", json=swap)).status_code == 200
    guess = secrets.token_hex(16)
    marks.add("guessed quote", guess)
    forged = bdhke.hash_to_curve(secrets.token_bytes(32)).hex()
    marks.add("forged C", forged)
    attempts: list[tuple[str, Any]] = [
        ("/v1/swap", swap | {"outputs": [output().message(keyset)]}),
        ("/v1/swap", {"inputs": [as_input(stamps[1], C=forged)], "outputs": [output().message(keyset)]}),
        ("/v1/swap", {"inputs": [as_input(stamps[1], id="01" + "ab" * 32)], "outputs": [made.message(keyset)]}),
        ("/v1/swap", {"inputs": [as_input(stamps[1], amount="x")], "outputs": [made.message(keyset)]}),
        ("/v1/mint/bolt11", {"quote": guess, "outputs": [output().message(keyset)]}),
        ("/v1/mint/bolt11/batch", {"quotes": [guess], "outputs": [output().message(keyset)]}),
        ("/v1/mint/quote/bolt11/check", {"quotes": [guess]}),
        ("/v1/mint/quote/bolt11", {"amount": 1, "unit": "sat", "pubkey": forged[:-2]}),
        ("/v1/checkstate", {"Ys": [stamps[0].y.hex() + "x"]}),
        ("/v1/restore", {"outputs": [{"id": keyset, "B_": made.B_.hex() + "x"}]}),
    ]
    for path, body in attempts:
        response = await http.post(path, json=body)
        assert response.status_code == 400, path
        assert not marks.found_in(response.text), path
    assert (await http.get(f"/v1/mint/quote/bolt11/{guess}")).status_code == 400
    assert (await http.post("/v1/swap", content=stamps[1].token.encode())).status_code == 400
    assert (await http.post(f"/v1/melt/{guess}", json={})).status_code == 404
    assert (await http.get(f"/{stamps[1].token}")).status_code == 404
    assert (await http.get(f"/v1/keys/{guess}", headers={"x-cashu": stamps[1].token})).status_code == 400


async def subscribed(server: Server, stamp: Stamp) -> None:
    url = f"{server.websocket_url}v1/ws"
    async with connect(url, proxy=None, additional_headers={"X-Forwarded-For": FORWARDED}) as socket:
        params = {"kind": "proof_state", "subId": "x", "filters": [stamp.y.hex()]}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))
        assert "OK" in await socket.recv(decode=True)
        assert stamp.y.hex() in await socket.recv(decode=True)
        await socket.send(stamp.token)
        assert "-32700" in await socket.recv(decode=True)


async def posted(server: Server, stamps: list[Stamp], marks: Marks) -> None:
    """A stamped letter, the same again, a spent and an unreadable stamp, and what is no frame at all."""
    async with Relay(server.websocket_url) as relay:
        first, second = letter(), letter()
        for name, event in (("first", first), ("second", second)):
            marks.add(f"{name} letter: id", event.id)
            marks.add(f"{name} letter: author", event.pubkey)
            marks.add(f"{name} letter: content", event.content)
            marks.add(f"{name} letter: receiver", event.tags[0][1])
        assert (await relay.post(first, stamps[2].token)).accepted
        assert (await relay.post(first, stamps[2].token)).duplicate
        assert (await relay.post(second, stamps[2].token)).code == "stamp-spent"
        assert (await relay.post(second, stamps[2].token[:-6])).code.startswith("stamp")
        assert (await relay.post(second)).code == "stamp-required"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_logs_and_metrics_carry_nothing(serve: Callable[..., Server], form: str) -> None:
    server = serve(settings={"LOG": form, "TRUSTED_PROXIES": "127.0.0.0/8"})
    marks = Marks()
    transport = httpx.AsyncHTTPTransport(local_address=PEER)
    async with httpx.AsyncClient(
        base_url=server.url, transport=transport, headers={"X-Forwarded-For": FORWARDED}, timeout=30
    ) as http:
        stamps = await bought(http, marks)
        await refused(http, stamps, marks)
        await subscribed(server, stamps[1])
        await posted(server, stamps, marks)
        metrics = (await http.get("/metrics")).text
    server.stop()
    assert 'pennypost_mint_requests_total{code="proof-spent",route="swap"} 1.0' in metrics
    assert not marks.found_in(metrics)
    assert not marks.found_in(server.tail(10_000_000))


async def test_the_search_finds_what_is_there() -> None:
    """The test above would be worth nothing with marks that match nothing."""
    marks = Marks()
    marks.add("secret", "hunter2hunter2")
    assert marks.found_in('{"event": "x HUNTER2hunter2"}') == ["secret"]
    assert marks.found_in(f"{PEER}:1234 - GET") == ["peer"]
