"""The wallet: stamps bought, kept, handed on, checked.

    buy ─▶ quote ─▶ invoice shown ─▶ paid ─▶ exchange ─▶ stamps ─▶ letters (outbox.py)
    receive a token ───────────────────────▶ exchange ─┘   └────▶ send a token

What is about to be asked of the mint is written before it is asked (exchange.py), so a crash at any step loses nothing.
Stamps that somebody saw together with something (on a refused letter, in a check) are swapped before they are used, so
that they link nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from pennypost import ledger, orders
from pennypost.exchange import Exchange, Progress
from pennypost.ledger import Balance
from pennypost.mint_client import BATCH, UNIT, Quote
from pennypost.orders import Keyset, Purchase
from pennypost.payments import Payments
from pennypost.protocol import bdhke, secp
from pennypost.protocol.errors import (
    InvalidInput,
    MintError,
    OfficeUnreachable,
    OtherMint,
    PaymentTimeout,
    PennypostError,
    ServerError,
    StampForged,
    StampLocked,
    StampUnknownKeyset,
    StampWrongUnit,
    TooMany,
)
from pennypost.protocol.proof import MAX_MEMO, utf8_length
from pennypost.protocol.token import (
    Dleq,
    Proof,
    Token,
    encode_token,
    normal_mint,
    parse_token,
    resolve_token,
    spending_condition,
)

VERSIONS: Final[dict[str, Literal["A", "B"]]] = {"cashuA": "A", "cashuB": "B"}
MOST: Final = 10_000_000
"""Stamps of one purchase or token."""
MSAT: Final = 1_000
POLL_FIRST: Final = 0.2
POLL_LAST: Final = 3.0
"""Seconds between two questions whether an invoice is paid: the first pause and the longest."""
GAP: Final = 3
"""Empty batches after which a restore is finished (NUT-13, Restore from seed phrase)."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
TokenFormat = Literal["cashuA", "cashuB"]
"""How a token is written: `cashuB` is CBOR and short, `cashuA` JSON, for wallets that read nothing newer (NUT-00)."""


@dataclass(frozen=True, slots=True)
class PendingToken:
    """A token made here that nobody has taken yet."""

    token: str
    amount: int


@dataclass(frozen=True, slots=True)
class Check:
    """What the mint says of this wallet; all amounts in sat."""

    stamps: int
    """Unspent at the mint, ready to use."""
    recovered: int
    """Came in now: purchases paid late, answers that had been lost."""
    lost: int
    """Spent at the mint although this wallet had not used them; forgotten now."""
    reserved: int
    """On letters that wait for an answer."""
    tokens: tuple[PendingToken, ...]
    """Tokens made here that nobody has taken."""
    problems: tuple[str, ...] = ()
    """Error codes of what could not be settled now; nothing of it is lost."""


class Stamps:
    """The stamps of one home at one mint. All coroutines may run side by side."""

    def __init__(self, exchange: Exchange, payments: Payments) -> None:
        self._exchange, self._payments = exchange, payments
        self._store = exchange.store
        self.mint = exchange.mint
        """The mint itself, below the wallet: what it says of itself, its keysets."""
        self._mine: set[str] = set()

    async def buy(
        self,
        amount: int,
        *,
        on_invoice: Callable[[Purchase], None] | None = None,
        on_progress: Progress | None = None,
        timeout: float | None = None,
        pay: bool = False,
    ) -> Purchase:
        """Buy stamps of 1 sat each: shows the invoice, waits until it is paid, fetches the stamps.

        An invoice of the same amount that an earlier run left open is taken up again. `timeout` in seconds, by default
        until the invoice expires. Raises PaymentTimeout: the purchase is kept, and had by `check` or by the same call.
        With `pay` our Lightning wallet pays it, once; raises WalletError then, as Payments.pay.
        """
        purchase = await self.order(amount)
        if purchase.state == "issued":
            return purchase
        self._mine.add(purchase.quote)
        try:
            if on_invoice is not None:
                on_invoice(purchase)
            if pay:
                await self._payments.pay(purchase.request, amount * MSAT)
            await self._until_paid(purchase, on_progress, timeout)
            await self._exchange.issue(purchase)
        finally:
            self._mine.discard(purchase.quote)
        return replace(purchase, state="issued")

    async def order(self, amount: int) -> Purchase:
        """An invoice for `amount` stamps, remembered: that of an earlier run where one of this amount was left open.

        Its state is "issued" when only the answer of the mint had been missing and the stamps came in just now.
        """
        if not 0 < amount <= MOST:
            raise InvalidInput("a purchase is of 1 stamp or more")
        self._exchange.seed()
        opened = await self._store.run(orders.open_purchases_on, self.mint.url)
        await self._exchange.settle()
        for each in opened:
            if each.amount == amount and each.quote not in self._mine:
                purchase = await self._store.run(orders.purchase_on, each.mint, each.quote)
                if purchase.state == "issued" or await self._usable(purchase):
                    return purchase
        while not secp.valid_secret(key := secrets.token_bytes(32)):
            pass
        quote = await self.mint.quote(amount, key)
        expiry = quote.expiry or self._exchange.now() + 3600
        purchase = Purchase(self.mint.url, quote.quote, amount, quote.request, "unpaid", expiry, key)
        await self._store.run(orders.add_purchase_on, purchase, self._exchange.now())
        return purchase

    async def balance(self) -> int:
        """Stamps ready to use, in sat; asks nobody."""
        return (await self.summary()).stamps

    async def summary(self) -> Balance:
        """Stamps by where they are; asks nobody."""
        return await self._store.run(ledger.balance_on, self.mint.url)

    async def send(self, amount: int, *, memo: str | None = None, format: TokenFormat = "cashuB") -> str:
        """A token worth `amount` sat for somebody else; whoever has its text has the stamps.

        `format` is "cashuB", or "cashuA" for wallets that read nothing newer; `memo` is text of at most 4,096 bytes. It
        carries no DLEQ, whose `r` would show the mint which sale the stamps came from. Raises NotEnoughStamps, and
        InvalidInput for an amount, a memo or a format that no token has.
        """
        if not 0 < amount <= MOST:
            raise InvalidInput("a token is of 1 stamp or more")
        if memo is not None and utf8_length(memo) > MAX_MEMO:
            raise InvalidInput("a token's memo is text of at most 4,096 bytes")
        version = VERSIONS.get(format)
        if version is None:
            raise InvalidInput("a token is written as cashuA or as cashuB")
        name = await self.mint.name()

        def take_on(connection: sqlite3.Connection) -> str | None:
            proofs = ledger.choose_on(connection, self.mint.url, amount)
            if proofs is None:
                return None
            token = encode_token(Token(name, UNIT, proofs, memo), version)
            ledger.add_token_on(connection, self.mint.url, token, proofs, self._exchange.now())
            return token

        return await self._exchange.take(amount, take_on)

    async def receive(self, token: str) -> int:
        """Make somebody's token ours by a swap: how many sat came in.

        Raises StampMalformed, OtherMint for a mint that is not ours (nothing is asked of it), StampWrongUnit,
        StampLocked, StampForged, ProofSpent when somebody was faster.
        """
        found = parse_token(token.strip(), keep_dleq=True)
        name = normal_mint(found.mint)
        if not means(self.mint.url, name) and not means(await self.mint.address(), name):
            raise OtherMint
        found = await self._usable_token(found)
        await self._exchange.settle()
        async with self._exchange.turn:
            return await self._exchange.swap(found.proofs, orders.begin_receive_on)

    async def check(self, *, on_progress: Progress | None = None) -> Check:
        """Hold the wallet against the mint (NUT-07): finish what was left open, forget what is spent.

        Asking about stamps together shows the mint that they are one person's; so they are swapped afterwards.
        """
        await self.mint.keysets(refresh=True)
        before = await self.balance()
        async with self._exchange.turn:
            problems = await self._exchange.recover()
        problems += await self._claim(on_progress)
        recovered = await self.balance() - before
        async with self._exchange.turn:
            lost = await self._drop_spent(on_progress)
            try:
                await self._exchange.refresh(on_progress)
            except PennypostError as error:
                problems.append(error.code)
            tokens = await self._pending_tokens()
        balance = await self.summary()
        return Check(balance.stamps, recovered, lost, balance.reserved, tokens, tuple(problems))

    async def restore(self, seed: str | None = None, *, on_progress: Progress | None = None) -> int:
        """Find the stamps of the wallet's seed at the mint again (NUT-13, NUT-09), across keysets: how many sat.

        `seed` (128 hex digits) is taken into a home that has none. What is found is swapped at once, so that old
        outputs and later stamps are not seen together.
        """
        if seed is not None:
            self._exchange.adopt(seed)
        await self._exchange.settle()
        found = 0
        async with self._exchange.turn:
            for keyset in (await self.mint.keysets(refresh=True)).values():
                if keyset.unit == UNIT:
                    found += await self._restore_keyset(keyset, on_progress)
            await self._exchange.refresh(on_progress)
        return found

    # Purchases

    async def _usable(self, purchase: Purchase) -> bool:
        """Whether the stamps of an open purchase can be had, or its invoice still be paid."""
        try:
            quote = await self._look(purchase)
        except MintError:
            return False
        # An expired invoice may have been paid at the last moment, and then its stamps are ours.
        return quote.paid or (not quote.issued and purchase.expiry > self._exchange.now() + 60)

    async def _look(self, purchase: Purchase) -> Quote:
        quote = await self.mint.quote_state(purchase.quote)
        if quote.paid and purchase.state != "paid":
            await self._store.run(orders.set_purchase_on, purchase.mint, purchase.quote, "paid")
        return quote

    async def _until_paid(self, purchase: Purchase, on_progress: Progress | None, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        wait = max(60.0, purchase.expiry - self._exchange.now()) if timeout is None else timeout
        pause = POLL_FIRST
        while True:
            # A mint that is down or busy for a while has not lost the payment.
            with suppress(OfficeUnreachable, ServerError, TooMany):
                quote = await self._look(purchase)
                if quote.paid or quote.issued:
                    return
            waited = loop.time() - start
            if on_progress is not None:
                on_progress("waiting for the payment", int(waited), int(wait))
            if waited >= wait:
                raise PaymentTimeout
            await asyncio.sleep(min(pause, max(0.05, wait - waited)))
            pause = min(POLL_LAST, pause * 1.5)

    async def _claim(self, on_progress: Progress | None) -> list[str]:
        """Have the stamps of every purchase that was paid meanwhile; codes of what could not be had."""
        problems: list[str] = []
        purchases = await self._store.run(orders.open_purchases_on, self.mint.url)
        for done, purchase in enumerate(purchases):
            if on_progress is not None:
                on_progress("asking for purchases", done, len(purchases))
            if purchase.quote in self._mine:
                continue
            try:
                quote = await self._look(purchase)
                if quote.paid:
                    await self._exchange.issue(purchase)
                elif quote.issued:
                    await self._store.run(orders.set_purchase_on, purchase.mint, purchase.quote, "issued")
            except PennypostError as error:
                problems.append(error.code)
        return problems

    # Against the mint

    async def _drop_spent(self, on_progress: Progress | None) -> int:
        """Forget unused proofs that the mint calls spent; the rest has been seen together now. Needs the turn."""
        lost = 0
        for state in ("exposed", "unspent"):
            proofs = await self._store.run(ledger.proofs_on, self.mint.url, state)
            for start in range(0, len(proofs), BATCH):
                part = proofs[start : start + BATCH]
                spent, rest = await self._sorted(part)
                await self._store.run(ledger.expose_on, rest)
                lost += await self._store.run(ledger.drop_unused_on, spent)
                if on_progress is not None:
                    on_progress("checking stamps", start + len(part), len(proofs))
        return lost

    async def _pending_tokens(self) -> tuple[PendingToken, ...]:
        """Forget the proofs of tokens that somebody took; the tokens that are left."""
        for id, _, _ in await self._store.run(ledger.tokens_on, self.mint.url):
            spent, _ = await self._sorted(await self._store.run(ledger.held_on, id))
            await self._store.run(ledger.drop_proofs_on, spent)
        await self._store.run(ledger.drop_empty_tokens_on)
        left = await self._store.run(ledger.tokens_on, self.mint.url)
        return tuple(PendingToken(token, amount) for _, token, amount in left)

    async def _restore_keyset(self, keyset: Keyset, on_progress: Progress | None) -> int:
        first, empty, found = 0, 0, 0
        while empty < GAP:
            signed = await self._exchange.signed_from(keyset, first)
            empty = 0 if signed else empty + 1
            if signed:
                await self._store.run(orders.advance_on, keyset.id, max(signed) + 1)
                _, unspent = await self._sorted(list(signed.values()))
                found += await self._store.run(ledger.add_proofs_on, self.mint.url, unspent, "exposed")
            first += BATCH
            if on_progress is not None:
                on_progress("looking for stamps", first, 0)
        return found

    async def _sorted(self, proofs: list[Proof]) -> tuple[list[Proof], list[Proof]]:
        """The spent ones and the others."""
        states = await self.mint.states(proofs)
        marked = list(zip(proofs, states, strict=True))
        return [p for p, state in marked if state == "SPENT"], [p for p, state in marked if state != "SPENT"]

    # Tokens

    async def _usable_token(self, token: Token) -> Token:
        """The token with full keyset ids, when its stamps are of a kind that this wallet may take."""
        try:
            token = resolve_token(token, await self.mint.keysets())
        except StampUnknownKeyset:
            token = resolve_token(token, await self.mint.keysets(refresh=True))
        keysets = await self.mint.keysets()
        for proof in token.proofs:
            keyset = keysets[proof.id]
            if token.unit != UNIT or keyset.unit != UNIT:
                raise StampWrongUnit
            if spending_condition(proof.secret) is not None:
                raise StampLocked
            if proof.dleq is not None and not _genuine(keyset, proof, proof.dleq):
                raise StampForged
        return token


def means(url: str, name: str) -> bool:
    """Whether `name`, as `normal_mint` gives it, in a token means the mint at this address."""
    return name in _names(url)


def _names(url: str) -> set[str]:
    """Addresses in tokens that mean our mint: the configured one alone, and each name of this machine for another.

    What the mint calls itself is not asked: it could name another mint, whose stamps would then be shown to it.
    """
    own = normal_mint(url)
    scheme, _, rest = own.partition("://")
    for host in LOOPBACK:
        if rest == host or rest.startswith((f"{host}:", f"{host}/")):
            return {f"{scheme}://{each}{rest.removeprefix(host)}" for each in LOOPBACK}
    return {own}


def _genuine(keyset: Keyset, proof: Proof, dleq: Dleq) -> bool:
    """Carol's check of a proof's DLEQ where its `r` came along (NUT-12); without `r` there is nothing to check."""
    if dleq.r is None:
        return True
    key = keyset.keys.get(proof.amount)
    if key is None:
        return False
    C, e, s, r = (bytes.fromhex(each) for each in (proof.C, dleq.e, dleq.s, dleq.r))
    return bdhke.dleq_verify_carol(key, proof.secret.encode(), C, e, s, r)
