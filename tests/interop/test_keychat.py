"""A client with Keychat's habits, over a line that loses answers and breaks, to an office that stops and starts.

It reads its price from `fees.publication[0].method.Cashu`, sends a bare `ping`, asks for 120 keys in one `#p`, takes no
OK of other than four elements, and sends the same frame with the same stamp again 3, 6, 12 and 24 seconds later (here
hundredths), and once more on every new connection, until any OK comes.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from pennypost.protocol.event import Event
from pennypost.protocol.token import Proof
from tests.postoffice.house import Author, House, open_house, wrap
from tests.support.ports import free_port
from tests.support.relay import plain

AGAIN = [0.03, 0.06, 0.12, 0.24]
PATIENCE = 120
URL = "https://office.example"


class Line:
    """Between client and office: answers get lost, connections break, and the office is not always there."""

    def __init__(self, chance: random.Random) -> None:
        self.port: int | None = None
        self.lost = self.cut = 0
        self._chance = chance

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        own = free_port()
        async with serve(self._pass_on, "127.0.0.1", own, max_size=None):
            yield f"ws://127.0.0.1:{own}"

    async def _pass_on(self, client: ServerConnection) -> None:
        if self.port is None:
            return
        with suppress(OSError, websockets.WebSocketException):
            async with connect(f"ws://127.0.0.1:{self.port}", proxy=None, max_size=None) as office:
                tasks = [
                    asyncio.create_task(self._forth(client, office)),
                    asyncio.create_task(self._back(client, office)),
                ]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                    with suppress(asyncio.CancelledError, websockets.ConnectionClosed):
                        await task

    async def _forth(self, client: ServerConnection, office: ClientConnection) -> None:
        async for text in client:
            await office.send(text)

    async def _back(self, client: ServerConnection, office: ClientConnection) -> None:
        async for text in office:
            if str(text).startswith('["OK"'):
                fate = self._chance.random()
                if fate < 0.4:
                    self.lost += 1
                    continue
                if fate < 0.5:
                    self.cut += 1
                    return
            await client.send(text)


class Keychat:
    """One client. `answers` are the OKs it believed, `mail` the ids it received."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: ClientConnection | None = None
        self._open: dict[str, str] = {}
        self._heard = asyncio.Event()
        self._queries: dict[str, str] = {}
        self.answers: dict[str, list[Any]] = {}
        self.mail: list[str] = []
        self.connections = 0

    async def run(self) -> None:
        """Connects again whenever it is cut off: subscriptions first, then every frame that waits for its OK."""
        while True:
            with suppress(OSError, websockets.WebSocketException):
                async with connect(self._url, proxy=None, max_size=None, ping_interval=None) as socket:
                    self.connections += 1
                    await socket.send("ping")
                    for text in [*self._queries.values(), *self._open.values()]:
                        await socket.send(text)
                    self._socket = socket
                    await self._read(socket)
            self._socket = None
            await asyncio.sleep(0.01)

    async def _read(self, socket: ClientConnection) -> None:
        ponged = False
        async for text in socket:
            frame = json.loads(text)
            if frame[0] == "NOTICE" and re.search("unparseable message|command", frame[1]):
                ponged = True
            elif frame[0] == "OK" and len(frame) == 4 and isinstance(frame[3], str):
                if self._open.pop(frame[1], None) is not None:
                    self.answers[frame[1]] = frame
                    self._heard.set()
            elif frame[0] == "EVENT":
                assert ponged, "no answer to ping before the first event"
                self.mail.append(frame[2]["id"])

    async def subscribe(self, name: str, *filters: dict[str, Any]) -> None:
        self._queries[name] = json.dumps(["REQ", name, *filters])
        await self._send(self._queries[name])

    async def _send(self, text: str) -> None:
        if self._socket is not None:
            with suppress(websockets.WebSocketException):
                await self._socket.send(text)

    async def post(self, event: Event, token: str | None) -> None:
        """Sends until any OK is heard; gives up sending after the fourth repeat, but for new connections."""
        text = json.dumps(["EVENT", plain(event)] + ([token] if token else []))
        self._open[event.id] = text
        await self._send(text)
        for pause in AGAIN:
            await asyncio.sleep(pause)
            if event.id not in self._open:
                return
            await self._send(text)
        while event.id in self._open:
            self._heard.clear()
            before = self._socket
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), 0.3)
            # One that has opened meanwhile gets its own time: else a slow machine would never hear anything.
            if event.id in self._open and self._socket is not None and self._socket is before:
                # Keychat's user opens the app again
                await self._socket.close()


async def price(house: House) -> tuple[int, str]:
    """What Keychat reads of the information document: a whole number of sat, and a mint."""
    headers = {"accept": "application/nostr+json"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.settings.port}", trust_env=False) as http:
        answer = await http.get("/", headers=headers)
    assert "json" in answer.headers["content-type"]
    document = answer.json()
    assert document["limitation"]["payment_required"] is True
    fee = document["fees"]["publication"][0]
    assert type(fee["amount"]) is int and fee["unit"] == "sat"
    return fee["amount"], fee["method"]["Cashu"]["mints"][0]


@pytest.mark.timeout(400)
async def test_never_loses_a_stamp_or_a_message(tmp_path: Path) -> None:
    """Every letter is stored once, for one stamp, whatever the line does; the receiver finds all of them."""
    chance = random.Random(7)
    line = Line(chance)
    receivers = [Author().pubkey for _ in range(120)]
    key_package = Author().sign(10_443)
    letters = [wrap(chance.choice(receivers), vt=False) for _ in range(40)]
    proofs: dict[str, Proof] = {}
    spent: list[bool] = []
    async with line.laid() as url:
        sender, reader = Keychat(url), Keychat(url)
        running = [asyncio.create_task(client.run()) for client in (sender, reader)]
        posting: list[asyncio.Task[None]] = []
        for last, part in enumerate((letters[:20], letters[20:])):
            async with open_house(tmp_path, public_url=URL) as house:
                line.port = house.settings.port
                amount, mint = await price(house)
                assert (amount, mint) == (1, URL)
                if not posting:
                    for number in range(25):
                        await reader.subscribe(str(number), {"kinds": [1059], "#p": receivers[number : number + 2]})
                    await reader.subscribe("all", {"kinds": [1059], "#p": receivers, "limit": 500})
                for event in part:
                    proofs[event.id] = house.purse.proof(amount)
                    token = house.purse.token(proofs[event.id], url=mint, version="A")
                    posting.append(asyncio.create_task(sender.post(event, token)))
                async with asyncio.timeout(PATIENCE):
                    while len(sender.answers) < len(posting) - 5:
                        await asyncio.sleep(0.01)
                if last:
                    async with asyncio.timeout(PATIENCE):
                        await asyncio.gather(*posting)
                        await sender.post(key_package, None)
                        while not set(reader.mail) >= proofs.keys():
                            await asyncio.sleep(0.01)
                    spent = await house.spent(*proofs.values())
            line.port = None
        for task in running:
            task.cancel()
    assert all(sender.answers[event.id][2] is True for event in [*letters, key_package]), sender.answers
    assert spent == [True] * len(letters)
    assert line.lost > 10 and line.cut > 1 and sender.connections > 2
