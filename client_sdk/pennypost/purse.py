"""The wallet over all its mints: each mint's stamps in books of their own, all from one seed.

    known mints   the office's own (or the one named for it), those that were added, those whose stamps are here
    at(mint)      the Stamps of one of them: buy, send, receive, check, restore          stamps.py
    receive       a token of a known mint; of any other nothing is asked, and nothing is taken
    exchange_for  whose stamps a letter takes: the office's own mint first, then another that the office accepts

A stamp is worth what its mint's word is worth, so a mint is known only when its owner named it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from pennypost import ledger
from pennypost.exchange import Exchange, Progress
from pennypost.home import Home
from pennypost.ledger import Balance
from pennypost.mint_client import MintClient
from pennypost.office import Office
from pennypost.payments import Payments
from pennypost.protocol.errors import InvalidInput, OtherMint, PennypostError
from pennypost.protocol.relay_info import read_postage
from pennypost.protocol.token import normal_mint, parse_token
from pennypost.stamps import Check, Stamps, means
from pennypost.store import Store
from pennypost.transport import Transport, parse_address

MOST_MINTS: Final = 50
T = TypeVar("T")


class Purse:
    """All mints of one home."""

    def __init__(
        self,
        home: Home,
        store: Store,
        transport: Transport,
        payments: Payments,
        own: MintClient,
        *,
        notice: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`own` is the mint of the client's office; `notice` is told when a new wallet was made."""
        self._home, self._store, self._transport, self._payments = home, store, transport, payments
        self._notice, self._clock = notice, clock
        self._exchanges: dict[str, Exchange] = {}
        self._stamps: dict[str, Stamps] = {}
        self._own = own.url
        self.use(own)

    def use(self, mint: MintClient) -> Exchange:
        """The exchange with a mint that its owner configured: that of an office."""
        if mint.url not in self._exchanges:
            self._exchanges[mint.url] = Exchange(self._home, self._store, mint, notice=self._notice, clock=self._clock)
        return self._exchanges[mint.url]

    async def mints(self) -> list[str]:
        """Addresses of the known mints, the office's own first."""
        rows = await self._store.run(mints_on)
        return list(dict.fromkeys((*self._exchanges, *rows)))

    async def add(self, mint: str) -> str:
        """Know a mint from now on: its address. Raises InvalidInput, OfficeUnreachable, OfficeMisbehaves, MintError.

        It must answer, with an active keyset for sat whose ids fit its keys.
        """
        url = parse_address(mint)
        known = await self.mints()
        if url not in known:
            if len(known) >= MOST_MINTS:
                raise InvalidInput(f"a wallet has at most {MOST_MINTS} mints")
            await MintClient(url, self._transport, self._store).active(int(self._clock()))
        await self._store.run(add_mint_on, url, int(self._clock()))
        return url

    async def remove(self, mint: str) -> None:
        """Forget a mint that was added and has no stamps of ours. Raises InvalidInput, OtherMint."""
        url = parse_address(mint)
        if url not in await self.mints():
            raise OtherMint
        held = await self.at(url)
        if await held.summary() != Balance():
            raise InvalidInput("there are stamps of this mint; use them first, or send them to somebody")
        if url == self._own:
            raise InvalidInput("this is the mint of your office")
        await self._store.run(remove_mint_on, url)
        self._stamps.pop(url, None)
        self._exchanges.pop(url, None)

    async def at(self, mint: str | None = None) -> Stamps:
        """The stamps of one known mint, by default the office's own. Raises OtherMint, InvalidInput."""
        url = self._own if mint is None else parse_address(mint)
        if url not in self._stamps and url not in await self.mints():
            raise OtherMint
        return self.stamps_of(self._exchange(url))

    def stamps_of(self, exchange: Exchange) -> Stamps:
        """The one Stamps of an exchange: two would take up each other's open purchases."""
        url = exchange.mint.url
        if url not in self._stamps:
            self._stamps[url] = Stamps(exchange, self._payments)
        return self._stamps[url]

    async def balances(self) -> dict[str, Balance]:
        """Stamps by where they are, of each known mint; asks nobody."""
        return {url: await (await self.at(url)).summary() for url in await self.mints()}

    async def receive(self, token: str) -> int:
        """Make somebody's token ours by a swap at its mint: how many sat came in.

        Raises OtherMint for a mint that is not known (nothing is asked of it), and as Stamps.receive.
        """
        name = normal_mint(parse_token(token.strip(), keep_dleq=True).mint)
        for url in await self.mints():
            if means(url, name):
                return await (await self.at(url)).receive(token)
        # An office apart from its mint is known by its own address, and says itself what its mint is called.
        return await (await self.at()).receive(token)

    async def check(self, *, on_progress: Progress | None = None) -> dict[str, Check | PennypostError]:
        """Hold the wallet against each known mint, as Stamps.check; the error of one that does not answer."""
        return {url: await _tried((await self.at(url)).check(on_progress=on_progress)) for url in await self.mints()}

    async def restore(
        self, seed: str | None = None, *, on_progress: Progress | None = None
    ) -> dict[str, int | PennypostError]:
        """Find the stamps of the wallet's seed at each known mint, as Stamps.restore: how many sat, or the error.

        A mint that is not known any more after its home was lost must be added first. Raises InvalidInput for `seed`.
        """
        if seed is not None:
            self._exchanges[self._own].adopt(seed)
        return {url: await _tried((await self.at(url)).restore(on_progress=on_progress)) for url in await self.mints()}

    async def exchange_for(self, accepted: Sequence[str], sat: int, own: Exchange, office: str) -> tuple[Exchange, str]:
        """Whose stamps pay `sat` at an office that takes those of `accepted`, and how to name that mint there.

        The office's `own` mint where it has enough; else another known one that does; else the first that is accepted:
        what it lacks is said when it is asked. Raises OtherMint where none is accepted.
        """
        candidates: list[tuple[Exchange, str]] = []
        name = await own.mint.name(accepted)
        if name in accepted or (own.mint.url == office and accepted):
            candidates.append((own, name if name in accepted else accepted[0]))
        if not candidates or await self._ready(own) < sat:
            for url in await self.mints():
                fitting = [each for each in accepted if url != own.mint.url and means(url, normal_mint(each))]
                candidates += [(self._exchange(url), each) for each in fitting[:1]]
        for exchange, named in candidates:
            if await self._ready(exchange) >= sat:
                return exchange, named
        if not candidates:
            raise OtherMint("this office takes stamps of other mints")
        return candidates[0]

    async def _ready(self, exchange: Exchange) -> int:
        return (await self._store.run(ledger.balance_on, exchange.mint.url)).stamps

    def exchange_of(self, mint: str) -> Exchange:
        """The exchange that a letter of before was stamped from."""
        return self._exchange(mint)

    def _exchange(self, url: str) -> Exchange:
        if url not in self._exchanges:
            self.use(MintClient(url, self._transport, self._store, lambda: self._named(url)))
        return self._exchanges[url]

    async def _named(self, url: str) -> tuple[str, ...]:
        """The mints of the office at this address, where an office was meant when its stamps were bought."""
        office = Office(url, self._transport, self._store)
        return read_postage(await office.information(int(self._clock()))).mints


async def _tried(work: Awaitable[T]) -> T | PennypostError:
    try:
        return await work
    except PennypostError as error:
        return error


# Rows


def mints_on(connection: sqlite3.Connection) -> list[str]:
    """Mints that were added, the first one first, and those whose stamps or purchases are here."""
    rows = connection.execute(
        "SELECT url FROM (SELECT url, added_at FROM mints"
        " UNION ALL SELECT DISTINCT mint, 1 << 62 FROM proofs"
        " UNION ALL SELECT DISTINCT mint, 1 << 62 FROM purchases WHERE state <> 'issued')"
        " ORDER BY added_at, url"
    )
    return list(dict.fromkeys(url for (url,) in rows))


def add_mint_on(connection: sqlite3.Connection, url: str, now: int) -> None:
    """Know a mint."""
    connection.execute("INSERT INTO mints (url, added_at) VALUES (?, ?) ON CONFLICT (url) DO NOTHING", (url, now))


def remove_mint_on(connection: sqlite3.Connection, url: str) -> None:
    """Forget a mint."""
    connection.execute("DELETE FROM mints WHERE url = ?", (url,))
