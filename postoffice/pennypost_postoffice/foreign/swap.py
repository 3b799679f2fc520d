"""What became of one row of the journal: asked of its mint, and decided here and nowhere else.

    swap (NUT-03) ─┬─ good signatures ▶ Swapped            the same request, byte for byte, each time (NUT-19)
                   └─ a refusal, or nothing to rely on
                          ▼
    state (NUT-07) ─┬─ SPENT ▶ restore (NUT-09) ─┬─ all of our outputs ▶ Swapped
                    │                            └─ none ▶ Refused: spent elsewhere
                    ├─ UNSPENT ▶ Refused, Outdated (other outputs are needed) or Untouched
                    └─ PENDING ▶ Unknown

UNSPENT and "spent elsewhere" count only when no request of ours can still be under way: each was answered by the mint
itself, or the last one is QUIET seconds old. Until then the answer is Unknown, and the row stays. The state is asked
before the restore: a request that is done between the two shows in the second.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from pennypost.protocol.answers import BlindedMessage, BlindSignature
from pennypost.protocol.errors import PennypostError, StampForged, StampRefused, StampSpent, StampUnknownKeyset
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice.foreign.journal import MS, Earned, Entry, is_there_on, touch_on
from pennypost_postoffice.foreign.line import Nonsense, Refusal, Unanswered
from pennypost_postoffice.foreign.mint import Mint
from pennypost_postoffice.foreign.outputs import Opened, Output

QUIET = 600.0
"""Seconds after which a request without an answer is not under way any more."""

PENDING = frozenset({11002, 11004})
"""Proofs, or outputs, that another request has in hand."""

OUTDATED = frozenset({11003, 11005, 12001, 12002, 12003})
"""Outputs signed before (our book is from a backup), another fee than we counted with, a keyset that does not sign any
more: ask for the keysets again, and for other outputs."""

_STAMP_ERRORS: dict[int, type[PennypostError]] = {
    10001: StampForged,
    10003: StampForged,
    11001: StampSpent,
    12001: StampUnknownKeyset,
}

Run = Callable[[str, list[Any]], Awaitable[list[Any]]]
"""`Workers.run`: the cryptography, wherever it is done."""

log = logger("foreign")


class Swapped(NamedTuple):
    """The stamps are ours now."""

    earned: tuple[Earned, ...]


class Refused(NamedTuple):
    """They never will be: untouched, or spent elsewhere, as the error says."""

    error: PennypostError


class Outdated(NamedTuple):
    """Untouched, and good, but not for these outputs."""


class Untouched(NamedTuple):
    """Not swapped, and not asked for it now."""


class Unknown(NamedTuple):
    """Nobody can say yet. `away`: the mint could not be reached."""

    away: bool = False


class Gone(NamedTuple):
    """Another process, or the operator, ended the row."""


Outcome = Swapped | Refused | Outdated | Untouched | Unknown | Gone


class Swap:
    """One row of the journal in this process. `fresh`: just written here, so nobody has asked for it yet."""

    def __init__(self, entry: Entry, mint: Mint, database: Database, run: Run, seed: bytes, *, fresh: bool) -> None:
        self.entry = entry
        self._mint, self._database, self._run, self._seed = mint, database, run, seed
        self._fresh = fresh
        self._open_since = 0.0 if fresh else entry.asked_at / MS
        """When the last request was sent that the mint did not answer itself (Unix seconds)."""

    async def attempt(self, *, forward: bool) -> Outcome:
        """Asks the mint; with `forward` for the swap, without it only what became of earlier requests.

        Raises DatabaseUnavailable, Overloaded, WorkerFailed: repeat it.
        """
        try:
            return await self._attempt(forward)
        except Unanswered:
            return Unknown(away=True)
        except Nonsense as error:
            log.warning("a mint elsewhere misbehaves", mint=self._mint.url, reason=str(error))
            return Unknown()
        except Refusal as error:
            log.warning("a mint elsewhere refuses a question", mint=self._mint.url, number=error.number)
            return Unknown()

    async def restored(self) -> tuple[Earned, ...]:
        """What the mint signed for the row's outputs, empty where it did not. Raises Unanswered, Nonsense, Refusal."""
        entry = self.entry
        keys = await self._mint.keys(entry.keyset)
        return await self._restored(keys, await self._ours())

    async def _ours(self) -> list[Output]:
        entry = self.entry
        (ours,) = await self._run("foreign.outputs", [(self._seed, entry.keyset, entry.counter, len(entry.amounts))])
        return ours

    async def _restored(self, keys: dict[int, bytes], ours: Sequence[Output]) -> tuple[Earned, ...]:
        found = await self._mint.restore(_messages(self.entry, ours))
        return await self._opened(keys, ours, _in_order(ours, found), restored=True) if found else ()

    async def _attempt(self, forward: bool) -> Outcome:
        entry = self.entry
        if not forward and not await self._database.read(is_there_on, entry):
            return Gone()
        keys = await self._mint.keys(entry.keyset)
        ours = await self._ours()
        refused: int | None = None
        if forward:
            if not await self._touch():
                return Gone()
            before, self._open_since = self._open_since, time.time()
            try:
                signatures = await self._mint.swap(entry.inputs, _messages(entry, ours))
                earned = await self._opened(keys, ours, signatures, restored=False)
                return Swapped(earned)
            except Refusal as error:
                self._open_since, refused = before, error.number
            except Unanswered as error:
                if not error.sent:
                    self._open_since = before
                    raise
            except Nonsense as error:
                log.warning("a mint elsewhere misbehaves", mint=self._mint.url, reason=str(error))
        states = await self._mint.states([each.y for each in entry.inputs])
        if "SPENT" in states:
            if earned := await self._restored(keys, ours):
                return Swapped(earned)
            return Unknown() if self._is_open() else Refused(StampSpent())
        if "PENDING" in states or self._is_open() or refused in PENDING:
            return Unknown()
        if refused is None:
            return Untouched()
        return Outdated() if refused in OUTDATED else Refused(_STAMP_ERRORS.get(refused, StampRefused)())

    async def _touch(self) -> bool:
        if self._fresh:
            self._fresh = False
            return True
        touched = await self._database.write(touch_on, self.entry, int(time.time() * MS))
        if touched is not None:
            self.entry = touched
        return touched is not None

    def _is_open(self) -> bool:
        return time.time() - self._open_since < QUIET

    async def _opened(
        self, keys: dict[int, bytes], ours: Sequence[Output], signatures: Sequence[BlindSignature], *, restored: bool
    ) -> tuple[Earned, ...]:
        """Our proofs. Raises Nonsense for a signature by another key, or without the proof that it is not."""
        entry = self.entry
        items: list[Any] = []
        for output, signature in zip(ours, signatures, strict=True):
            key = keys.get(signature.amount)
            if key is None or (signature.dleq is None and not restored):
                raise Nonsense("a signature without the proof of its key (DLEQ)")
            e, s = (signature.dleq.e, signature.dleq.s) if signature.dleq else ("", "")
            items.append((key, output, bytes.fromhex(signature.C_), bytes.fromhex(e), bytes.fromhex(s)))
        opened: list[Opened] = await self._run("foreign.open", items)
        earned: list[Earned] = []
        for place, (made, signature) in enumerate(zip(opened, signatures, strict=True)):
            if made is None:
                raise Nonsense("a signature by another key than it published (DLEQ)")
            earned.append(Earned(made[0], entry.keyset, entry.counter + place, signature.amount, made[1]))
        return tuple(earned)


def _messages(entry: Entry, ours: Sequence[Output]) -> list[BlindedMessage]:
    return [
        BlindedMessage(amount, entry.keyset, output.b.hex()) for amount, output in zip(entry.amounts, ours, strict=True)
    ]


def _in_order(ours: Sequence[Output], found: dict[str, BlindSignature]) -> list[BlindSignature]:
    """The signatures of all of our outputs; a mint that made only some of them did what no mint does."""
    signatures = [found.get(output.b.hex()) for output in ours]
    if None in signatures:
        raise Nonsense("a restore of a part of one swap")
    return [each for each in signatures if each is not None]
