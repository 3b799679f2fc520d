"""A mint in memory, on a real database, with a play-money node whose invoices are paid when a test says so."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware

from pennypost.protocol import bdhke
from pennypost.protocol.errors import NotFound
from pennypost_migrations import upgrade
from pennypost_mint.api import MINT_JOBS, Keyring, Lightning, Mint, Workers, mint_router, pay_play_invoice
from pennypost_mint.routes import refusal
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.runtime.settings import Settings
from tests.support.schema import lay_out
from tests.support.stamps import Output, output

QUOTE = "/v1/mint/quote/bolt11"
MINT = "/v1/mint/bolt11"
SWAP = "/v1/swap"

Body = dict[str, Any]


async def _nothing_here(_request: Request, _error: Exception) -> Response:
    return refusal(NotFound())


def settings_for(folder: Path, address: str = "", **more: Any) -> Settings:
    """Settings of a mint whose play-money invoices wait to be paid."""
    return Settings.model_validate({"data_dir": folder, "database_url": address, "play_settle_after": "never"} | more)


def locked_output(amount: int, secret: str) -> Output:
    """An output with a chosen secret."""
    r = secrets.token_bytes(32)
    return Output(amount, secret, r, bdhke.blind(secret.encode(), r))


@dataclass
class Desk:
    """What a test sees of a mint: its routes as a wallet does, and its inside."""

    http: httpx.AsyncClient
    mint: Mint
    keyring: Keyring
    database: Database
    settings: Settings

    @property
    def keyset(self) -> str:
        return self.keyring.active().id

    async def ask(self, path: str, body: object) -> tuple[int, Any]:
        """POST; status and decoded answer. Bytes are sent as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        response = await self.http.post(path, **content)  # type: ignore[arg-type]
        return response.status_code, response.json()

    async def done(self, path: str, body: object) -> Any:
        """POST that must succeed."""
        status, answer = await self.ask(path, body)
        assert status == 200, answer
        return answer

    async def refused(self, path: str, body: object) -> int:
        """POST that must be refused with HTTP 400: the code."""
        status, answer = await self.ask(path, body)
        assert status == 400, answer
        assert set(answer) == {"detail", "code"}
        return answer["code"]

    async def quote(self, amount: int, **more: Any) -> Any:
        """A quote that nobody has paid."""
        return await self.done(QUOTE, {"amount": amount, "unit": "sat"} | more)

    async def paid_quote(self, amount: int, **more: Any) -> Any:
        """A quote that is paid and credited."""
        quote = await self.quote(amount, **more)
        await pay_play_invoice(self.database, quote["request"])
        await self.mint.till.reconcile()
        return await self.state_of(quote)

    async def state_of(self, quote: Any) -> Any:
        return (await self.http.get(f"{QUOTE}/{quote['quote']}")).json()

    def message(self, made: Output, keyset: str | None = None) -> Body:
        return made.message(keyset or self.keyset)

    def messages(self, outputs: Sequence[Output]) -> list[Body]:
        return [self.message(made) for made in outputs]

    def proofs(self, outputs: Sequence[Output], signatures: Sequence[Any]) -> list[Body]:
        """The proofs in an answer; each signature is checked as NUT-12 tells a wallet to."""
        opened: list[Body] = []
        for made, signature in zip(outputs, signatures, strict=True):
            key = self.keyring.get(signature["id"]).keys[signature["amount"]]
            point = bytes.fromhex(signature["C_"])
            e, s = (bytes.fromhex(signature["dleq"][name]) for name in "es")
            assert signature["amount"] == made.amount
            assert bdhke.dleq_verify(key, made.B_, point, e, s)
            C = bdhke.unblind(point, made.r, key)
            opened.append({"amount": made.amount, "id": signature["id"], "secret": made.secret, "C": C.hex()})
        return opened

    async def buy(self, *amounts: int) -> list[Body]:
        """Proofs of these amounts."""
        return await self.buy_outputs([output(amount) for amount in amounts])

    async def buy_outputs(self, outputs: Sequence[Output]) -> list[Body]:
        quote = await self.paid_quote(sum(made.amount for made in outputs))
        answer = await self.done(MINT, {"quote": quote["quote"], "outputs": self.messages(outputs)})
        return self.proofs(outputs, answer["signatures"])

    async def states(self, proofs: Sequence[Body]) -> list[str]:
        Ys = [bdhke.hash_to_curve(proof["secret"].encode()).hex() for proof in proofs]
        answer = await self.done("/v1/checkstate", {"Ys": Ys})
        assert [state["Y"] for state in answer["states"]] == Ys
        return [state["state"] for state in answer["states"]]

    async def signed(self, outputs: Sequence[Body]) -> int:
        """How many of these outputs were ever signed."""
        return len((await self.done("/v1/restore", {"outputs": list(outputs)}))["signatures"])


@asynccontextmanager
async def open_desk(
    settings: Settings, *, lightning: Lightning | None = None, listening: bool = False, processes: int = 0
) -> AsyncIterator[Desk]:
    """Opens a mint on the settings' database and closes it again; `listening` starts its background tasks."""
    await lay_out(settings)
    await upgrade(database_url(settings.database_url, settings.data_dir))
    database = open_database(settings.database_url, settings.data_dir)
    try:
        keyring = await Keyring.open(database, settings)
        async with desk_on(database, settings, keyring, lightning, listening, processes) as desk:
            yield desk
    finally:
        await database.close()


@asynccontextmanager
async def desk_on(
    database: Database,
    settings: Settings,
    keyring: Keyring,
    lightning: Lightning | None = None,
    listening: bool = False,
    processes: int = 0,
) -> AsyncIterator[Desk]:
    """A mint on an open database with these keysets."""
    workers = Workers(MINT_JOBS, keyring.secrets(), processes=processes)
    await workers.start()
    keyring.before_change.append(workers.update)
    mint = await Mint.open(database, settings, keyring, workers, Metrics(), lightning)
    if listening:
        await mint.start()
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
    app.include_router(mint_router(mint))
    app.add_exception_handler(404, _nothing_here)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mint")
    try:
        yield Desk(http, mint, keyring, database, settings)
    finally:
        await http.aclose()
        await mint.close()
        await workers.stop()
