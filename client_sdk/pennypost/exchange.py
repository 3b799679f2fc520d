"""The wallet's requests to its mint, each of them safe to be killed at any step.

    begin: outputs and inputs written ─▶ run: asked ─▶ answer checked ─▶ finish: proofs in, inputs out
              ▲                             │ refused
              │                             ├─ answered before (NUT-09 finds it) ─▶ finish
              └── fresh outputs ◀───────────┴─ never ─▶ abandon: inputs given back

After a crash whatever has no answer is run again, with the very same outputs.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from pennypost import ledger, orders
from pennypost.home import SEED, Home
from pennypost.mint_client import BATCH, MintClient, unblind
from pennypost.orders import Keyset, Operation, Purchase
from pennypost.protocol.answers import BlindSignature
from pennypost.protocol.errors import (
    HomeUnusable,
    InvalidInput,
    KeysetInactive,
    KeysetUnknown,
    MintError,
    NotEnoughStamps,
    OutputSigned,
    PennypostError,
    ProofPending,
    ProofSpent,
    QuoteUnpaid,
    StampTooLittle,
)
from pennypost.protocol.token import Proof
from pennypost.store import Store

TRIES: Final = 4
"""How often one swap or purchase is tried with fresh outputs."""
ROUNDS: Final = 200
"""Swaps in a row to make a large amount out of very many small stamps."""
_RENEW = (OutputSigned, KeysetInactive, KeysetUnknown)
"""Refusals that fresh outputs cure."""

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much (0: unknown)."""


class Exchange:
    """Operations of one wallet at one mint. Those that ask for something run one after the other."""

    def __init__(
        self,
        home: Home,
        store: Store,
        mint: MintClient,
        *,
        notice: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`notice` is told, in a sentence, when a new wallet was made."""
        self._home, self.store, self.mint = home, store, mint
        self._notice, self._clock = notice, clock
        self.turn = asyncio.Lock()
        self._settled = False

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    def seed(self) -> bytes:
        """The 64 bytes that every secret of this wallet derives from, made on first need. Raises HomeUnusable."""
        text = self._home.read(SEED)
        if text is None:
            self._home.create(SEED, secrets.token_hex(64))
            text = self._home.read(SEED)
            if self._notice is not None and self._home.path is not None:
                self._notice(f"Made a new wallet in {self._home.path}; keep a copy of its file {SEED}.")
        seed = _read_seed(text or "")
        if seed is None:
            raise HomeUnusable("the wallet seed is not 128 hex digits")
        return seed

    def adopt(self, seed: str) -> None:
        """Make 128 hex digits the seed of a home that has none. Raises InvalidInput."""
        text = seed.strip().lower()
        if _read_seed(text) is None:
            raise InvalidInput("a wallet seed is 128 hex digits")
        if not self._home.create(SEED, text) and self._home.read(SEED) != text:
            raise InvalidInput("this home has another wallet seed already; use an empty home")

    # What was left open

    async def settle(self) -> None:
        """Before the first request of a run: finish what an earlier run left open."""
        if not self._settled:
            async with self.turn:
                if not self._settled:
                    await self.recover()
                    self._settled = True

    async def recover(self) -> list[str]:
        """Run again whatever has no answer; the codes of what could not be settled now. Needs the turn."""
        problems: list[str] = []
        for operation in await self.store.run(orders.open_operations_on, self.mint.url):
            try:
                await self._run(operation)
            except PennypostError as error:
                # It stays open, or was given back: either way nothing is lost and the next one has its turn.
                problems.append(error.code)
        return problems

    # What is asked of the mint

    async def issue(self, purchase: Purchase) -> None:
        """The stamps of a paid purchase (NUT-04). Raises MintError."""
        async with self.turn:
            refusal: MintError = OutputSigned()
            for _ in range(TRIES):
                keyset = await self.mint.active(self.now())
                amounts = _sizes(keyset, purchase.amount, ledger.READY)
                operation = await self.store.run(
                    orders.begin_mint_on, self.seed(), purchase, keyset.id, amounts, self.now()
                )
                if operation is None:
                    return
                try:
                    return await self._run(operation)
                except _RENEW as error:
                    refusal = error
                    await self._move_on(keyset)
            raise refusal

    async def swap(self, inputs: Sequence[Proof], begin_on: Callable[..., Operation | None], want: int = 0) -> int:
        """Swap `inputs` for new proofs, `want` sat of them in as few as can be: the sat that came in. Needs the turn.

        `begin_on` is `orders.begin_swap_on` or `orders.begin_receive_on`. 0 where another process has taken one of the
        inputs meanwhile. Raises MintError, StampTooLittle.
        """
        refusal: MintError = OutputSigned()
        for _ in range(TRIES):
            keyset = await self.mint.active(self.now())
            worth = after_fee(inputs, await self.mint.keysets())
            if worth < max(1, want):
                raise StampTooLittle("the mint's fee takes it all")
            amounts = sorted(_sizes(keyset, want, 0) + _sizes(keyset, worth - want, ledger.READY))
            operation = await self.store.run(
                begin_on, self.seed(), self.mint.url, inputs, keyset.id, amounts, self.now()
            )
            if operation is None:
                return 0
            try:
                await self._run(operation)
                return worth
            except _RENEW as error:
                refusal = error
                await self._move_on(keyset)
        raise refusal

    async def take(self, amount: int, take_on: Callable[[sqlite3.Connection], T | None]) -> T:
        """Run `take_on` until it finds proofs worth `amount`: None asks for change. Raises NotEnoughStamps."""

        def current_on(connection: sqlite3.Connection) -> T | None:
            ledger.follow_expiry_on(connection, self.mint.url, self.now())
            return take_on(connection)

        for _ in range(ROUNDS):
            taken = await self.store.run(current_on)
            if taken is not None:
                return taken
            await self.settle()
            async with self.turn:
                # Another task may have made change while this one waited for its turn.
                if await self.store.run(ledger.choose_on, self.mint.url, amount) is None:
                    await self._make_change(amount)
        raise NotEnoughStamps

    async def settle_holder(self, holder: str) -> int | None:
        """Ask the mint about the stamps of a letter that had its answer: the sat it took; the rest is given back.

        None where the letter holds none: they were settled before.
        """
        proofs = await self.store.run(ledger.held_on, holder)
        if not proofs:
            return None
        states = await self.mint.states(proofs)
        spent = [proof for proof, state in zip(proofs, states, strict=True) if state == "SPENT"]
        await self.store.run(ledger.settle_holder_on, holder, spent)
        return sum(proof.amount for proof in spent)

    async def refresh(self, on_progress: Progress | None = None) -> None:
        """Swap all exposed stamps for new ones that nobody has seen. Needs the turn."""
        await self.store.run(ledger.follow_expiry_on, self.mint.url, self.now())
        done = 0
        while proofs := await self.store.run(ledger.proofs_on, self.mint.url, "exposed", ledger.MOST_PROOFS):
            with suppress(ProofSpent):
                await self.swap(proofs, orders.begin_swap_on)
            done += len(proofs)
            if on_progress is not None:
                on_progress("swapping for fresh stamps", done, 0)

    async def signed_from(self, keyset: Keyset, first: int) -> dict[int, Proof]:
        """Counter and proof of whatever the mint has signed of one batch of counters (NUT-13, NUT-09)."""
        seed = self.seed()
        outputs = [orders.derived_output(seed, keyset.id, first + place, 1) for place in range(BATCH)]
        return {
            first + place: unblind(keyset, output, signature)
            for place, (output, signature) in enumerate(zip(outputs, await self.mint.restore(outputs), strict=True))
            if signature is not None
        }

    # Steps

    async def _run(self, operation: Operation) -> None:
        """Ask the mint for what was written, and put the answer into the books.

        Raises MintError when the mint refuses for good (the operation is abandoned); after any other error it stays.
        """
        try:
            try:
                await self._finish(operation, await self._ask(operation))
            except (QuoteUnpaid, ProofPending):
                raise
            except MintError as refusal:
                if not await self._restored(operation):
                    await self._abandon(operation)
                    raise refusal from None
        except PennypostError:
            # Before the next request it is looked at again.
            self._settled = False
            raise

    async def _ask(self, operation: Operation) -> Sequence[BlindSignature]:
        if operation.quote is None:
            return await self.mint.swap(operation.inputs, operation.outputs)
        purchase = await self.store.run(orders.purchase_on, self.mint.url, operation.quote)
        return await self.mint.mint(operation.quote, purchase.key, operation.outputs)

    async def _finish(self, operation: Operation, signatures: Sequence[BlindSignature]) -> None:
        keysets = await self.mint.keysets()
        proofs = [
            unblind(keysets[output.keyset], output, signature)
            for output, signature in zip(operation.outputs, signatures, strict=True)
        ]
        await self.store.run(orders.finish_on, operation, proofs)

    async def _restored(self, operation: Operation) -> bool:
        """Whether the mint had answered this very operation before; its answer is taken then (NUT-09)."""
        found = await self.mint.restore(operation.outputs)
        signatures = [each for each in found if each is not None]
        if [each.amount for each in signatures] != [each.amount for each in operation.outputs]:
            return False
        # Another device with the same seed may have had these outputs signed for stamps of its own.
        if operation.quote is not None:
            if not (await self.mint.quote_state(operation.quote)).issued:
                return False
        elif set(await self.mint.states(operation.inputs)) != {"SPENT"}:
            return False
        await self._finish(operation, signatures)
        return True

    async def _abandon(self, operation: Operation) -> None:
        states = await self.mint.states(operation.inputs)
        spent = [proof for proof, state in zip(operation.inputs, states, strict=True) if state == "SPENT"]
        await self.store.run(orders.abandon_on, operation, spent)

    async def _move_on(self, keyset: Keyset) -> None:
        """Follow the mint to its keysets, and past what it signed for another device with the same seed (NUT-13)."""
        await self.mint.keysets(refresh=True)
        while found := await self.signed_from(keyset, await self.store.run(orders.counter_on, keyset.id)):
            await self.store.run(orders.advance_on, keyset.id, max(found) + 1)

    async def _make_change(self, amount: int) -> None:
        """Swap towards being able to take `amount` exactly: what was exposed first, then the largest.

        Where that takes more proofs than one swap does, they become fewer and larger, and the next round goes on.
        """
        if (await self.store.run(ledger.balance_on, self.mint.url)).stamps < amount:
            raise NotEnoughStamps
        keysets = await self.mint.keysets()
        inputs: list[Proof] = []
        for state in ("exposed", "unspent"):
            for proof in await self.store.run(ledger.proofs_on, self.mint.url, state, ledger.MOST_PROOFS):
                if proof.id in keysets and after_fee(inputs, keysets) < amount:
                    inputs.append(proof)
        worth = after_fee(inputs, keysets)
        if worth < min(amount, 2):
            raise NotEnoughStamps
        with suppress(ProofSpent):
            await self.swap(inputs, orders.begin_swap_on, min(amount, worth))


def after_fee(inputs: Sequence[Proof], keysets: Mapping[str, Keyset]) -> int:
    """What is left of `inputs` after a swap, in sat (NUT-02, Fees)."""
    fee = sum(keysets[proof.id].fee for proof in inputs)
    return sum(proof.amount for proof in inputs) - (fee + 999) // 1000


def _sizes(keyset: Keyset, amount: int, singles: int) -> list[int]:
    """`amount` in sizes that the keyset has."""
    largest = max(keyset.keys)
    sizes: list[int] = []
    for size in ledger.denominations(amount, singles):
        sizes += [size] if size <= largest else [largest] * (size // largest)
    return sizes


def _read_seed(text: str) -> bytes | None:
    if len(text) != 128 or not all(digit in "0123456789abcdef" for digit in text):
        return None
    return bytes.fromhex(text)
