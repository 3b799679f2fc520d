"""Subscriptions at real servers: a change is told whichever process made it, a stamp taken by the post office too."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pennypost_mint.api import pay_play_invoice
from pennypost_mint.runtime.database import open_database
from pennypost_mint.runtime.limits import MAX_FRAME
from pennypost_postoffice import serve as serving
from tests.support.relay import Relay, letter
from tests.support.server import Server
from tests.support.stamps import MintClient, output

SECONDS = 30


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[ClientConnection]:
    async with connect(f"{server.websocket_url}v1/ws", proxy=None, open_timeout=SECONDS, max_size=None) as socket:
        yield socket


async def following(socket: ClientConnection) -> Any:
    """The next frame."""
    return json.loads(await asyncio.wait_for(socket.recv(), SECONDS))


async def subscribe(socket: ClientConnection, kind: str, *filters: str) -> None:
    """The next frame must be the OK."""
    params = {"kind": kind, "subId": "sub", "filters": filters}
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "subscribe", "params": params}))
    assert (await following(socket))["result"] == {"status": "OK", "subId": "sub"}


async def told(socket: ClientConnection) -> Any:
    """The payload of the next frame."""
    frame = await following(socket)
    assert frame["params"]["subId"] == "sub", frame
    return frame["params"]["payload"]


async def pay(address: str, server: Server, request: str) -> None:
    """What `pennypost play pay` does."""
    database = open_database(address, server.folder / "data")
    try:
        assert await pay_play_invoice(database, request) == 1
    finally:
        await database.close()


@pytest.fixture(params=["one process", "two processes on PostgreSQL", "mint and post office apart"])
def servers(request: pytest.FixtureRequest, serve: Callable[..., Server]) -> tuple[Server, Server, str]:
    """Where a wallet listens, where things happen, and their database."""
    settings = {"PLAY_SETTLE_AFTER": "never", "PUBLIC_URL": "http://mint.example", "PLAY_PUBLIC": "true"}
    if request.param == "one process":
        return (server := serve(settings=settings)), server, ""
    address = request.getfixturevalue("postgres_url")
    role = "mint" if request.param == "mint and post office apart" else "all"
    first = serve(database_url=address, settings=settings | {"ROLE": role})
    return first, serve(database_url=address, settings=settings), address


async def test_a_purchase_and_a_letter_are_told(servers: tuple[Server, Server, str]) -> None:
    near, far, database_url = servers
    async with MintClient(far.url) as mint, listening(near) as socket:
        quote = await mint.post("/v1/mint/quote/bolt11", {"amount": 1, "unit": "sat"})
        await subscribe(socket, "bolt11_mint_quote", str(quote["quote"]))
        assert (await told(socket))["state"] == "UNPAID"
        await pay(database_url, far, str(quote["request"]))
        assert (await told(socket))["state"] == "PAID"
        made = output()
        answer = await mint.post(
            "/v1/mint/bolt11", {"quote": quote["quote"], "outputs": [made.message(await mint.keyset())]}
        )
        assert (await told(socket))["state"] == "ISSUED"

        [signature] = answer["signatures"]  # type: ignore[misc]
        stamp = mint.open(await mint.keyset(), made, bytes.fromhex(signature["C_"]))
        stamp = type(stamp)("http://mint.example", stamp.proof)
        await subscribe(socket, "proof_state", stamp.y.hex())
        assert await told(socket) == {"Y": stamp.y.hex(), "state": "UNSPENT", "witness": None}
        async with Relay(far.websocket_url) as relay:
            assert (await relay.post(letter(), stamp.token)).accepted
        assert await told(socket) == {"Y": stamp.y.hex(), "state": "SPENT", "witness": None}


async def test_bounds_hold_on_a_real_socket(server: Server) -> None:
    ys = ["02" + f"{number:064x}" for number in range(1_000)]
    async with listening(server) as socket, listening(server) as other:
        await socket.send("ping")
        assert (await following(socket))["error"]["code"] == -32700
        await socket.send(b"\xff\xfe")
        assert (await following(socket))["error"]["code"] == -32700
        await subscribe(socket, "proof_state", *ys)
        assert {(await told(socket))["Y"] for _ in ys} == set(ys)
        params = {"kind": "proof_state", "subId": "x", "filters": [*ys, ys[0]]}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 8, "method": "subscribe", "params": params}))
        assert (await following(socket))["error"]["code"] == -32602
        with pytest.raises(ConnectionClosed) as closed:
            await other.send("x" * (MAX_FRAME + 1))
            await following(other)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        await subscribe(socket, "proof_state", ys[0])
        assert (await told(socket))["Y"] == ys[0]


async def test_a_stopping_server_ends_subscriptions_at_once(server: Server) -> None:
    async with listening(server) as socket:
        await subscribe(socket, "proof_state", "02" + "ab" * 32)
        await told(socket)
        assert await asyncio.to_thread(server.stop) in (0, -signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await following(socket)


async def test_a_post_office_alone_serves_no_subscriptions(serve: Callable[..., Server]) -> None:
    server = serve(settings={"ROLE": "postoffice", "MINT_URLS": "https://mint.example"})
    with pytest.raises(InvalidStatus):
        async with listening(server):
            pass
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{server.url}/v1/ws")).status_code == 404


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option")
def test_a_peer_that_never_reads_does_not_keep_its_socket() -> None:
    """Measured: without it a connection that was cut off stayed open for as long as the peer liked."""
    with serving._listen("127.0.0.1", 0) as listener:  # pyright: ignore[reportPrivateUsage]
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
