"""The mint as one object: opened by the app, asked by the routes with bytes, answering with bytes.

open ▶ start (listen for payments, forget old answers) ▶ requests … ▶ close
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pennypost.protocol import nuts
from pennypost.protocol.errors import DatabaseUnavailable, KeysetUnknown, MintingDisabled, SeedMismatch
from pennypost_mint import answers, batch, info, minting, state
from pennypost_mint.answers import SignedOutput, request_hash
from pennypost_mint.invoices import OpenInvoices
from pennypost_mint.lightning.backends import open_lightning
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.sources import RateLimit, Sources
from pennypost_mint.swap import committer, swap
from pennypost_mint.till import Till
from pennypost_mint.watch import Watch
from pennypost_mint.websocket import Listeners

if TYPE_CHECKING:
    from pennypost_mint.keyring import Keyring
    from pennypost_mint.lightning import Lightning
    from pennypost_mint.runtime.database import Database
    from pennypost_mint.runtime.metrics import Metrics
    from pennypost_mint.runtime.settings import Settings
    from pennypost_mint.workers import Workers

SWAP_PATH = "/v1/swap"
MINT_PATH = f"/v1/mint/{info.METHOD}"
BATCH_PATH = f"{MINT_PATH}/batch"

FORGET_EVERY = 600.0
"""Seconds between two deletions of answered requests whose time is over."""

log = logger("mint")

R = TypeVar("R")


class Mint:
    """A Cashu mint that sells stamps. Every method raises PennypostError and nothing else on bad input."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        keyring: Keyring,
        workers: Workers,
        metrics: Metrics,
        lightning: Lightning,
        used: Callable[[], None],
    ) -> None:
        self.metrics = metrics
        self.lightning = lightning
        self.watch = Watch(database)
        self.till = Till(database, lightning, metrics, self.watch.changed)
        self._sources = Sources(settings.proxies)
        self.limit = RateLimit(settings.rate_limit, settings.rate_burst, self._sources)
        self.websocket = Listeners(self.watch, self.limit, self._sources, metrics)
        """The ASGI application of `/v1/ws`."""
        self._used = used
        self._invoices = OpenInvoices(database, settings.max_open_invoices)
        self._database = database
        self._settings = settings
        self._keyring = keyring
        self._workers = workers
        self._commits = committer(database)
        self._counter = minting.Counter(database)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        database: Database,
        settings: Settings,
        keyring: Keyring,
        workers: Workers,
        metrics: Metrics,
        lightning: Lightning | None = None,
        used: Callable[[], None] = lambda: None,
    ) -> Mint:
        """A mint on a migrated database; `workers` know MINT_JOBS; `used` is told after stamps were taken or made.

        Raises ConfigurationError.
        """
        node = lightning or open_lightning(settings, database)
        return cls(database, settings, keyring, workers, metrics, node, used)

    async def start(self) -> None:
        """Starts listening for payments in the background."""
        self.till.start()
        self._tasks = [asyncio.create_task(self._forget()), asyncio.create_task(self.watch.run())]

    async def close(self) -> None:
        """Stops listening and leaves the node; the database stays the caller's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.till.stop()
        await self.lightning.close()

    def reload(self, settings: Settings) -> None:
        """Takes on what may change while it runs (settings.RELOADED); quotes and connections stay as they are."""
        if (settings.rate_limit, settings.rate_burst) != (self._settings.rate_limit, self._settings.rate_burst):
            self.limit.change(settings.rate_limit, settings.rate_burst)
        self._settings = settings
        self._sources.trust(settings.proxies)
        self._invoices.most = settings.max_open_invoices

    def info(self) -> bytes:
        """GET /v1/info (NUT-06)."""
        play_money = self.lightning.play_money
        return msgspec.json.encode(info.mint_info(self._settings, self._keyring, play_money=play_money, now=_now()))

    async def keys(self) -> bytes:
        """GET /v1/keys (NUT-01)."""
        await self._look_at_keysets()
        return nuts.encode(info.active_keys(self._keyring))

    async def keys_of(self, keyset_id: str) -> bytes:
        """GET /v1/keys/{keyset_id} (NUT-02). Raises KeysetUnknown."""
        await self._look_at_keysets()
        return nuts.encode(info.keys_of(self._keyring, keyset_id))

    async def keysets(self) -> bytes:
        """GET /v1/keysets (NUT-02)."""
        await self._look_at_keysets()
        return nuts.encode(info.all_keysets(self._keyring))

    async def _look_at_keysets(self) -> None:
        """Whoever asks for keysets may have been refused by a process that knew of a rotation before this one."""
        with suppress(DatabaseUnavailable, SeedMismatch):
            await self._keyring.refresh()

    async def _knowing(self, ask: Callable[[bytes, R], Awaitable[bytes]], body: bytes, request: R) -> bytes:
        """The answer of `ask`; asked again when the request names a keyset that another process has just made."""
        try:
            return await ask(body, request)
        except KeysetUnknown:
            if not await self._keyring.refresh():
                raise
            return await ask(body, request)

    async def request_quote(self, body: bytes) -> bytes:
        """POST /v1/mint/quote/bolt11 (NUT-04, NUT-23)."""
        request = nuts.parse_quote(body)
        if self._keyring.sunset is not None:
            raise MintingDisabled
        quote = await minting.request_quote(
            self._counter,
            self.lightning,
            self._invoices,
            request,
            most=self._settings.max_mint,
            expiry_seconds=self._settings.invoice_expiry,
            now=_now(),
        )
        self.metrics.mint_settled_sat.inc(quote.amount_paid)
        return nuts.encode(info.quote_answer(quote))

    async def check_quote(self, quote_id: str) -> bytes:
        """GET /v1/mint/quote/bolt11/{quote_id} (NUT-04)."""
        return nuts.encode(info.quote_answer(await minting.check_quote(self._counter, self.till, quote_id)))

    async def check_quotes(self, body: bytes) -> bytes:
        """POST /v1/mint/quote/bolt11/check (NUT-29)."""
        found = await batch.check_quotes(self._counter, self.till, nuts.parse_batch_check(body))
        return msgspec.json.encode([info.quote_answer(quote) for quote in found])

    async def mint(self, body: bytes) -> bytes:
        """POST /v1/mint/bolt11 (NUT-04, NUT-20)."""
        return await self._knowing(self._mint, body, nuts.parse_mint(body))

    async def _mint(self, body: bytes, request: nuts.MintRequest) -> bytes:
        claim = request_hash("POST", MINT_PATH, body)
        signed, fresh = await minting.mint(
            self._counter, self._keyring, self._workers, self.till, request, claim, _now()
        )
        return self._issued(signed, [request.quote] if fresh else [])

    async def mint_batch(self, body: bytes) -> bytes:
        """POST /v1/mint/bolt11/batch (NUT-29)."""
        return await self._knowing(self._mint_batch, body, nuts.parse_batch_mint(body))

    async def _mint_batch(self, body: bytes, request: nuts.BatchMintRequest) -> bytes:
        claim = request_hash("POST", BATCH_PATH, body)
        signed, fresh = await batch.mint_batch(
            self._counter, self._keyring, self._workers, self.till, request, claim, _now()
        )
        return self._issued(signed, request.quotes if fresh else [])

    def _issued(self, signed: list[SignedOutput], quotes: list[str]) -> bytes:
        """The answer; `quotes` are those against which it was issued now."""
        if quotes:
            self.metrics.mint_issued_sat.inc(sum(amount for _, amount, _ in signed))
            self.watch.changed(quotes)
            self._used()
        return self._signatures(signed)

    async def swap(self, body: bytes) -> bytes:
        """POST /v1/swap (NUT-03)."""
        return await self._knowing(self._swap, body, nuts.parse_swap(body))

    async def _swap(self, body: bytes, request: nuts.SwapRequest) -> bytes:
        claim = request_hash("POST", SWAP_PATH, body)
        signed, spent = await swap(self._database, self._commits, self._keyring, self._workers, request, claim, _now())
        if spent:
            self._used()
            self.watch.changed(spent)
        return self._signatures(signed)

    async def check_state(self, body: bytes) -> bytes:
        """POST /v1/checkstate (NUT-07)."""
        return nuts.encode(await state.check_state(self._database, nuts.parse_check_state(body)))

    async def restore(self, body: bytes) -> bytes:
        """POST /v1/restore (NUT-09)."""
        return await self._knowing(self._restore, body, nuts.parse_restore(body))

    async def _restore(self, _body: bytes, request: nuts.RestoreRequest) -> bytes:
        return nuts.encode(await state.restore(self._database, self._keyring, request))

    def _signatures(self, signed: list[SignedOutput]) -> bytes:
        return nuts.encode(nuts.SignaturesAnswer([state.signature(self._keyring, each) for each in signed]))

    async def _forget(self) -> None:
        while True:
            try:
                more = await self._database.write(answers.forget_on, _now()) == answers.SWEEP
            except DatabaseUnavailable:
                log.warning("old answers wait for the database")
                more = False
            await asyncio.sleep(0.1 if more else FORGET_EVERY)


def _now() -> int:
    return int(time.time())
