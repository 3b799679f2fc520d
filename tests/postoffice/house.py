"""A whole service in the test's own event loop behind a real socket, and stamps of its mint made without buying."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from pennypost.protocol import bdhke, secp
from pennypost.protocol.event import Event, sign_event
from pennypost.protocol.token import Proof, Token, encode_token
from pennypost_mint.api import Keyring, spent_on
from pennypost_mint.runtime.settings import Settings, load_settings
from pennypost_postoffice.app import Service
from pennypost_postoffice.office import Office
from pennypost_postoffice.serve import uvicorn_config
from tests.support.ports import free_port
from tests.support.relay import Relay
from tests.support.schema import lay_out

DAY = 86_400


def secret_key() -> bytes:
    """A fresh secret key."""
    return secrets.token_bytes(31).rjust(32, b"\1")


class Author:
    """Somebody who signs events."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.secret = secret or secret_key()
        self.pubkey = secp.xonly(self.secret).hex()

    def sign(
        self,
        kind: int = 1,
        *tags: list[str],
        content: str = "",
        at: int | None = None,
        age: int = 0,
        expires_in: int | None = None,
    ) -> Event:
        """A signed event, now or `age` seconds ago, with an expiration where given."""
        now = int(time.time())
        extra = [] if expires_in is None else [["expiration", str(now + expires_in)]]
        return sign_event(
            self.secret,
            created_at=now - age if at is None else at,
            kind=kind,
            tags=[*tags, *extra],
            content=content or secrets.token_hex(8),
            aux=secrets.token_bytes(32),
        )


def wrap(receiver: str | None = None, *, vt: bool = True, expires_in: int = DAY, content: str = "") -> Event:
    """A gift wrap by a fresh key; with `vt` it is a stealth wrap and stands in the header feed."""
    tags = [["p", receiver or secrets.token_hex(32)]] + ([["vt", secrets.token_hex(4)]] if vt else [])
    return Author().sign(1059, *tags, expires_in=expires_in, content=content)


class Purse:
    """Makes proofs with the mint's own keys: good ones, and bad ones of every kind."""

    def __init__(self, keyring: Keyring, url: str) -> None:
        self.keyring = keyring
        self.url = url

    def proof(
        self, amount: int = 1, *, secret: str | None = None, keyset: str | None = None, key_of: int | None = None
    ) -> Proof:
        """One proof; `key_of`: signed with the key of another amount."""
        chosen = self.keyring.get(keyset) if keyset else self.keyring.active()
        secret = secrets.token_hex(32) if secret is None else secret
        C = bdhke.sign(chosen.secrets[key_of or amount], bdhke.hash_to_curve(secret.encode()))
        return Proof(amount, chosen.id, secret, C.hex())

    def token(self, *proofs: Proof, url: str | None = None, unit: str = "sat", version: Any = "B") -> str:
        """A token of these proofs, of one good stamp without any."""
        return encode_token(Token(url or self.url, unit, list(proofs) or [self.proof()], None), version)


def y_of(proof: Proof) -> bytes:
    """What stands in the table of spent proofs."""
    return bdhke.hash_to_curve(proof.secret.encode())


@dataclass
class House:
    """A running service: its parts, its address, and whoever connects to it."""

    service: Service
    office: Office
    settings: Settings
    purse: Purse

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/"

    def relay(self) -> Relay:
        """A connection: use it in `async with`."""
        return Relay(self.websocket_url)

    async def spent(self, *proofs: Proof) -> list[bool]:
        """Which of these proofs are spent, as the database has it."""
        ys = [y_of(proof) for proof in proofs]
        found = await self.office.database.read(spent_on, ys)
        return [y in found for y in ys]

    def pass_time(self, seconds: int) -> None:
        """From now on the office's clock is ahead by that much."""
        self.office.now = lambda: int(time.time()) + seconds  # type: ignore[method-assign]

    async def pay(self, relay: Relay, events: Sequence[Event]) -> None:
        """Posts each with a stamp of its own; all must be stored."""
        for event in events:
            answer = await relay.post(event, self.purse.token())
            assert answer.accepted and not answer.duplicate, answer


class Serving(uvicorn.Server):
    """Ends at once, where uvicorn looks every tenth of a second whether it should and then waits for another."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()
        # signals belong to the test runner
        self.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(20):
            if not (self.server_state.connections or self.server_state.tasks):
                return
            await asyncio.sleep(0.005)
        await super().shutdown(sockets)


@asynccontextmanager
async def open_house(folder: Path, database: str = "", **settings: Any) -> AsyncIterator[House]:
    """The service on a free port; the cryptography runs in the test's process."""
    chosen = load_settings(
        {}, data_dir=str(folder), database_url=database, port=free_port(), play_settle_after="0", **settings
    )
    await lay_out(chosen)
    service = await Service.open(chosen, in_process=True)
    server = Serving(uvicorn_config(service, chosen))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        office = service.office
        assert office is not None
        yield House(service, office, chosen, Purse(office.keyring, chosen.url))
    finally:
        server.end()
        await serving
        await service.close()
