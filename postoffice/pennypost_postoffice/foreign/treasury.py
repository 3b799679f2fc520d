"""What the office earned at mints elsewhere: proofs whose secrets follow from its own seed.

    list      sat by mint                                            nobody is asked
    sweep     many small proofs ▶ few large ones ▶ marked ▶ a token  the same token again until its mint calls it spent
    check     what somebody took, or what was lost, is forgotten     NUT-07
    backup    counters and proofs in a file, without secrets         restore: from it, or from the seed alone (NUT-09)

A sweep swaps through the journal, as a letter does: after a crash the next one, or the server, finishes it. The token
is made of rows that were marked before it is shown, and rows go only when the mint says that the token was taken.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, update

from pennypost.protocol import nut13
from pennypost.protocol.answers import BlindedMessage
from pennypost.protocol.errors import InvalidInput, MintAway, MintMisbehaves, Overloaded
from pennypost.protocol.token import Proof, Token, encode_token
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.sets import delete_in, insert_ignore, select_in
from pennypost_postoffice.foreign.journal import (
    DAY,
    MS,
    Entry,
    Input,
    Order,
    Paid,
    StampInUse,
    add_on,
    drop_on,
    end_on,
    entries_on,
)
from pennypost_postoffice.foreign.line import Refusal
from pennypost_postoffice.foreign.mint import BATCH, UNIT, Mint, fee, split
from pennypost_postoffice.foreign.outputs import Opened, Output, run_here
from pennypost_postoffice.foreign.swap import Gone, Refused, Swap, Swapped, Unknown
from pennypost_postoffice.tables import foreign_inputs, foreign_journal, treasury, treasury_counters

TOKEN_PROOFS = 40
"""Proofs of a token without a swap before it; a token of more is long, and some wallets refuse it."""

INPUTS = 100
"""Proofs swapped at once."""

TRIES = 4
GAP = 10
"""Batches of numbers never signed after which a restore is finished (NUT-13 says 3; refused stamps use up numbers)."""

Progress = Callable[[int, int], None]
"""Told how many of how many are done; of 0 when that is not known."""

COLUMNS = ("y", "mint", "keyset", "counter", "amount", "c", "day", "sweep")


class Row(NamedTuple):
    """A proof of the treasury; `sweep` is the number of the token it is in (Unix seconds when it was made)."""

    y: bytes
    mint: str
    keyset: str
    counter: int
    amount: int
    c: bytes
    day: int
    sweep: int | None


class Balance(NamedTuple):
    """What is had at one mint: sat and proofs to sweep, sat in tokens not taken yet, letters whose swap is not over."""

    mint: str
    sat: int
    proofs: int
    in_tokens: int
    under_way: int
    oldest: int | None
    """Unix seconds when the oldest of those letters came."""


class Swept(NamedTuple):
    """A token; `again`: it was made before, and nobody took it yet. None where there is nothing to sweep."""

    mint: str
    token: str | None
    sat: int
    again: bool


class Found(NamedTuple):
    """What a mint says of the treasury, in sat: good, taken out of tokens, and spent by nobody knows whom."""

    mint: str
    good: int
    taken: int
    lost: int


class Treasury:
    """The operator's side; `urls` are the mints of the settings, and only these are asked. Close it."""

    def __init__(self, database: Database, urls: Sequence[str], seed: bytes) -> None:
        self._database, self._seed = database, seed
        self._mints = {url: Mint(url) for url in urls}

    async def close(self) -> None:
        """Leaves the mints."""
        for mint in self._mints.values():
            await mint.close()

    @property
    def urls(self) -> list[str]:
        """The mints that can be asked."""
        return list(self._mints)

    async def sweep(self, url: str, progress: Progress) -> Swept:
        """A token of all that is had at a mint, or the last one again when it was not taken.

        Raises InvalidInput for a mint that is not in the settings, MintAway, MintMisbehaves, Overloaded.
        """
        await self._finish(url)
        await self._forget_taken(url)
        open_rows = await self._database.read(rows_on, url, True)
        if open_rows:
            return self._token(url, open_rows, again=True)
        while await self._merge(url, progress):
            pass
        rows = await self._database.write(_mark_on, url, int(time.time()))
        return self._token(url, rows, again=False)

    async def check(self, url: str, progress: Progress) -> Found:
        """Asks the mint for every proof, and forgets those that are spent. Raises as `sweep`."""
        await self._finish(url)
        taken = await self._forget_taken(url)
        rows = await self._database.read(rows_on, url, False)
        spent = await self._spent(url, rows, progress)
        await self._database.write(delete_in, treasury, "y", sorted(row.y for row in spent))
        lost = sum(row.amount for row in spent)
        return Found(url, sum(row.amount for row in rows) - lost, taken, lost)

    async def restore(self, url: str, progress: Progress) -> int:
        """Proofs that the mint signed for this seed behind the numbers that are known; returns the sat that came in.

        Raises as `sweep`.
        """
        mint = self._mint(url)
        came = 0
        for keyset in [each for each in (await _asked(mint.keysets(within=0.0))).values() if each.unit == UNIT]:
            first = await self._database.read(_next_on, keyset.id)
            empty = 0
            while empty < GAP:
                rows = await self._restored(mint, keyset.id, first)
                spent = {row.y for row in await self._spent(url, rows, lambda done, total: None)}
                fresh = [row for row in rows if row.y not in spent]
                if rows:
                    last = max(row.counter for row in rows)
                    came += await self._database.write(take_in_on, fresh, keyset.id, url, last + 1)
                empty = 0 if rows else empty + 1
                first += BATCH
                progress(first, 0)
        return came

    def proof(self, row: Row) -> Proof:
        """The proof itself, which is money."""
        secret, _ = nut13.derive(self._seed, row.keyset, row.counter)
        return Proof(row.amount, row.keyset, secret, row.c.hex())

    def _mint(self, url: str) -> Mint:
        if url not in self._mints:
            raise InvalidInput("PENNYPOST_MINT_URLS does not name this mint")
        return self._mints[url]

    def _token(self, url: str, rows: Sequence[Row], *, again: bool) -> Swept:
        if not rows:
            return Swept(url, None, 0, again)
        proofs = [self.proof(row) for row in sorted(rows, key=lambda row: (-row.amount, row.keyset, row.counter))]
        return Swept(url, encode_token(Token(url, UNIT, proofs)), sum(row.amount for row in rows), again)

    async def _merge(self, url: str, progress: Progress) -> bool:
        """Swaps the smallest proofs for fewer; whether there may be more to do."""
        mint = self._mint(url)
        rows = await self._database.read(rows_on, url, False)
        progress(0, len(rows))
        if len(rows) <= TOKEN_PROOFS:
            return False
        part = sorted(rows, key=lambda row: (row.amount, row.keyset, row.counter))[:INPUTS]
        listed = await _asked(mint.keysets())
        if any(row.keyset not in listed for row in part):
            return False
        active = await _asked(mint.active(time.time()))
        amount = sum(row.amount for row in part) - fee([listed[row.keyset] for row in part])
        if amount <= 0:
            return False
        amounts = tuple(split(amount, await _asked(mint.keys(active.id))))
        if len(amounts) >= len(part):
            return False
        proofs = [self.proof(row) for row in part]
        inputs = tuple(
            Input(row.y, row.keyset, row.amount, proof.secret, row.c) for row, proof in zip(part, proofs, strict=True)
        )
        order = Order(url, active.id, amounts, inputs)
        now_ms = int(time.time() * MS)
        try:
            entry = await self._database.write(add_on, secrets.token_bytes(32), None, order, now_ms)
        except StampInUse:
            raise Overloaded("another sweep is under way") from None
        return await self._settle(entry, fresh=True)

    async def _finish(self, url: str) -> None:
        """What an earlier sweep left in the journal."""
        for entry in await self._database.read(entries_on, self._mint(url).url):
            if entry.body is None:
                await self._settle(entry, fresh=False)

    async def _settle(self, entry: Entry, *, fresh: bool) -> bool:
        """Whether the swap was done. Raises MintAway while nobody can say."""
        swap = Swap(entry, self._mint(entry.mint), self._database, run_here, self._seed, fresh=fresh)
        for attempt in range(TRIES):
            outcome = await swap.attempt(forward=True)
            if isinstance(outcome, Swapped):
                await self._database.write(end_on, [Paid(swap.entry, outcome.earned)], int(time.time()))
                return True
            if isinstance(outcome, Gone):
                return True
            if not isinstance(outcome, Unknown):
                # untouched, or spent behind our back, which `check` tells
                await self._database.write(drop_on, swap.entry)
                if isinstance(outcome, Refused):
                    raise outcome.error
                return False
            await asyncio.sleep(0.5 * 2**attempt)
        raise MintAway

    async def _forget_taken(self, url: str) -> int:
        rows = await self._database.read(rows_on, url, True)
        taken = await self._spent(url, rows, lambda done, total: None)
        await self._database.write(delete_in, treasury, "y", sorted(row.y for row in taken))
        return sum(row.amount for row in taken)

    async def _spent(self, url: str, rows: Sequence[Row], progress: Progress) -> list[Row]:
        mint, spent = self._mint(url), list[Row]()
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            states = await _asked(mint.states([row.y for row in part]))
            spent += [row for row, state in zip(part, states, strict=True) if state == "SPENT"]
            progress(start + len(part), len(rows))
        return spent

    async def _restored(self, mint: Mint, keyset: str, first: int) -> list[Row]:
        (ours,) = await run_here("foreign.outputs", [(self._seed, keyset, first, BATCH)])
        outputs: list[Output] = ours
        messages = [BlindedMessage(1, keyset, each.b.hex()) for each in outputs]
        signed = await _asked(mint.restore(messages))
        if not signed:
            return []
        keys = await _asked(mint.keys(keyset))
        items: list[Any] = []
        places: list[tuple[int, int]] = []
        for place, output in enumerate(outputs):
            signature = signed.get(output.b.hex())
            if signature is not None and signature.amount in keys:
                e, s = (signature.dleq.e, signature.dleq.s) if signature.dleq else ("", "")
                made = (bytes.fromhex(signature.C_), bytes.fromhex(e), bytes.fromhex(s))
                items.append((keys[signature.amount], output, *made))
                places.append((first + place, signature.amount))
        opened: list[Opened] = await run_here("foreign.open", items)
        today = int(time.time()) // DAY
        return [
            Row(made[0], mint.url, keyset, counter, amount, made[1], today, None)
            for made, (counter, amount) in zip(opened, places, strict=True)
            if made is not None
        ]


def balances_on(connection: Connection) -> list[Balance]:
    """What is had at each mint, by its address."""
    columns = treasury.c
    had = connection.execute(
        select(columns.mint, columns.sweep.is_(None), func.count(), func.sum(columns.amount)).group_by(
            columns.mint, columns.sweep.is_(None)
        )
    )
    found: dict[str, Balance] = {}
    for mint, held, proofs, sat in had:
        known = found.get(mint, Balance(mint, 0, 0, 0, 0, None))
        found[mint] = known._replace(sat=int(sat), proofs=proofs) if held else known._replace(in_tokens=int(sat))
    journal = foreign_journal.c
    waiting = select(journal.mint, func.count(), func.min(journal.began_at)).group_by(journal.mint)
    for mint, count, oldest in connection.execute(waiting):
        known = found.get(mint, Balance(mint, 0, 0, 0, 0, None))
        found[mint] = known._replace(under_way=count, oldest=oldest // MS)
    return [found[mint] for mint in sorted(found)]


def rows_on(connection: Connection, mint: str, in_token: bool) -> list[Row]:
    """Proofs in the last token, or those to sweep; not what a swap has in hand."""
    columns = treasury.c
    chosen = select(*(columns[name] for name in COLUMNS)).where(columns.mint == mint)
    if in_token:
        chosen = chosen.where(columns.sweep.is_not(None))
    else:
        chosen = chosen.where(columns.sweep.is_(None), columns.y.not_in(select(foreign_inputs.c.y)))
    return [Row(*row) for row in connection.execute(chosen.order_by(columns.keyset, columns.counter))]


def _mark_on(connection: Connection, mint: str, number: int) -> list[Row]:
    """Puts everything that is there into a token; the rows of the one that another command made first."""
    rows = rows_on(connection, mint, True)
    if rows:
        return rows
    columns = treasury.c
    busy = select(foreign_inputs.c.y)
    free = (columns.mint == mint, columns.sweep.is_(None), columns.y.not_in(busy))
    connection.execute(update(treasury).where(*free).values(sweep=number))
    return rows_on(connection, mint, True)


def _next_on(connection: Connection, keyset: str) -> int:
    rows = select_in(connection, treasury_counters, ("next",), "keyset", [keyset])
    return rows[0][0] if rows else 0


def take_in_on(connection: Connection, rows: Sequence[Row], keyset: str, mint: str, beyond: int) -> int:
    """Takes in proofs, and never uses a number below `beyond` again; returns the sat that were not there."""
    columns = treasury_counters.c
    insert_ignore(connection, treasury_counters, ("keyset", "mint", "next"), [(keyset, mint, 0)], "keyset")
    connection.execute(
        update(treasury_counters).where(columns.keyset == keyset, columns.next < beyond).values(next=beyond)
    )
    fresh = insert_ignore(connection, treasury, COLUMNS, sorted(rows), "y")
    return sum(row.amount for row in rows if row.y in fresh)


async def _asked(question: Any) -> Any:
    """The answer of a mint; a refusal of a question that every mint answers is misbehaviour."""
    try:
        return await question
    except Refusal as error:
        raise MintMisbehaves(f"code {error.number}") from None
