"""A mint elsewhere, as the office speaks to it: every answer is checked before anybody believes it.

    info NUT-06 · keysets NUT-01, 02 · swap NUT-03 · states NUT-07 · restore NUT-09

A keyset counts only when its id follows from its keys. Without state, restore and DLEQ proofs (NUT-07, 09, 12) a mint
is not asked for a swap at all: an answer that got lost, or a wrong one, would cost somebody a stamp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from pennypost.protocol.answers import (
    BlindedMessage,
    BlindSignature,
    CheckStateAnswer,
    KeysAnswer,
    KeysetInfo,
    KeysetKeys,
    KeysetsAnswer,
    MintInfo,
    RestoreAnswer,
    SignaturesAnswer,
    keys_of,
)
from pennypost.protocol.errors import OfficeMisbehaves, StampUnknownKeyset
from pennypost.protocol.keyset import is_keyset_id, resolve_id
from pennypost.protocol.nuts import CheckStateRequest, RestoreRequest, SwapRequest
from pennypost.protocol.proof import Proof
from pennypost_postoffice.foreign.journal import Input
from pennypost_postoffice.foreign.line import Line, Nonsense

UNIT = "sat"
NEEDED = ("7", "9", "12")
BATCH = 100
"""Ys or outputs of one question; every mint takes as many."""

FRESH = 3_600.0
"""Seconds that a mint's list of keysets is believed."""

AGAIN = 10.0
"""Seconds before it is asked again for the sake of an id that it did not list: anyone can write one into a token."""

KEPT = 64
"""Keysets whose keys are kept."""

PPK = 1_000


class Keyset(NamedTuple):
    """A keyset as the mint lists it: `fee` in thousandths of a sat per input."""

    id: str
    unit: str
    active: bool
    fee: int
    final_expiry: int | None

    def expired(self, now: float) -> bool:
        """Whether its proofs are of no use any more (NUT-02)."""
        return self.final_expiry is not None and self.final_expiry <= now


class Mint:
    """One mint of PENNYPOST_MINT_URLS. Raises Unanswered, Nonsense and Refusal, as `Line` does. Close it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._line = Line(url)
        self._listed: dict[str, Keyset] = {}
        self._keys: dict[str, dict[int, bytes]] = {}
        self._asked_at = float("-inf")
        self._one = asyncio.Lock()

    async def close(self) -> None:
        """Closes the connections."""
        await self._line.close()

    async def keysets(self, *, within: float = FRESH) -> dict[str, Keyset]:
        """What the mint lists, by full id, at most `within` seconds old."""
        async with self._one:
            if monotonic() - self._asked_at > within or not self._listed:
                await self._refresh()
            return self._listed

    async def find(self, written: str) -> Keyset:
        """The keyset of a full or short id. Raises StampUnknownKeyset."""
        try:
            listed = await self.keysets()
            return listed[resolve_id(written, listed)]
        except StampUnknownKeyset:
            listed = await self.keysets(within=AGAIN)
            return listed[resolve_id(written, listed)]

    async def active(self, now: float) -> Keyset:
        """The keyset for our outputs: sat, active, not expired, the lowest fee, version 2 before version 1."""
        listed = (await self.keysets()).values()
        found = [each for each in listed if each.unit == UNIT and each.active and not each.expired(now)]
        if not found:
            raise Nonsense("no active keyset for sat")
        return min(found, key=lambda each: (each.fee, each.id[:2] != "01", each.id))

    async def keys(self, keyset_id: str) -> dict[int, bytes]:
        """Points (33 bytes) by amount, once the id is the one that follows from them (NUT-02)."""
        if keyset_id not in self._keys:
            answer = await self._line.get(f"/v1/keys/{keyset_id}", KeysAnswer)
            fitting = [each for each in answer.keysets if each.id == keyset_id]
            listed = (await self.keysets()).get(keyset_id)
            if len(fitting) != 1 or listed is None:
                raise Nonsense("it does not give the keys of a keyset")
            if len(self._keys) >= KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[keyset_id] = _checked(fitting[0], listed)
        return self._keys[keyset_id]

    async def swap(self, inputs: Sequence[Input], outputs: Sequence[BlindedMessage]) -> list[BlindSignature]:
        """NUT-03: a signature for each output, for the amount and keyset that were asked; DLEQ is not looked at yet."""
        proofs = [Proof(each.amount, each.keyset, each.secret, each.c.hex()) for each in inputs]
        answer = await self._line.post("/v1/swap", SwapRequest(proofs, list(outputs)), SignaturesAnswer)
        _check_fit(outputs, answer.signatures)
        return answer.signatures

    async def states(self, ys: Sequence[bytes]) -> list[str]:
        """NUT-07: UNSPENT, PENDING or SPENT of each Y, in order."""
        found: list[str] = []
        for start in range(0, len(ys), BATCH):
            asked = [y.hex() for y in ys[start : start + BATCH]]
            answer = await self._line.post("/v1/checkstate", CheckStateRequest(asked), CheckStateAnswer)
            if [each.Y.lower() for each in answer.states] != asked:
                raise Nonsense("the states of other proofs than were asked")
            found += [each.state for each in answer.states]
        return found

    async def restore(self, outputs: Sequence[BlindedMessage]) -> dict[str, BlindSignature]:
        """NUT-09: the signatures that the mint once made, by B_ in hex; the amounts are the mint's."""
        found: dict[str, BlindSignature] = {}
        for start in range(0, len(outputs), BATCH):
            part = {each.B_: each for each in outputs[start : start + BATCH]}
            answer = await self._line.post("/v1/restore", RestoreRequest(list(part.values())), RestoreAnswer)
            if len(answer.outputs) != len(answer.signatures):
                raise Nonsense("a restore whose parts do not match")
            for output, signature in zip(answer.outputs, answer.signatures, strict=True):
                if output.B_ not in part or signature.id != part[output.B_].id:
                    raise Nonsense("a restore of outputs that were not asked")
                found[output.B_] = signature
        return found

    async def _refresh(self) -> None:
        nuts = (await self._line.get("/v1/info", MintInfo)).nuts
        for number in NEEDED:
            said = nuts.get(number)
            if not isinstance(said, dict) or said.get("supported") is not True:
                raise Nonsense(f"it does not support NUT-{number.zfill(2)}")
        answer = await self._line.get("/v1/keysets", KeysetsAnswer)
        # ids of the first mints are of a form that no NUT describes any more: not for us, and no reason to refuse
        self._listed = {each.id: _listed(each) for each in answer.keysets if is_keyset_id(each.id)}
        self._asked_at = monotonic()


def fee(keysets: Sequence[Keyset]) -> int:
    """The fee in sat of inputs of these keysets, rounded up (NUT-02, Fees)."""
    return -(-sum(keyset.fee for keyset in keysets) // PPK)


def split(amount: int, keys: dict[int, bytes]) -> list[int]:
    """The fewest amounts of a keyset that add up to `amount`, rising. Raises Nonsense where there are none."""
    found = [each for each in sorted(keys) if amount & each and not each & (each - 1)]
    if not found or sum(found) != amount:
        raise Nonsense("a keyset without keys for an amount")
    return found


def _listed(each: KeysetInfo) -> Keyset:
    return Keyset(each.id, each.unit, each.active, each.input_fee_ppk or 0, each.final_expiry)


def _checked(keys: KeysetKeys, listed: Keyset) -> dict[int, bytes]:
    # With the listed fee and expiry: in an id of version 2 they are part of what must fit.
    try:
        return keys_of(KeysetKeys(listed.id, listed.unit, keys.keys, True, listed.fee, listed.final_expiry))
    except OfficeMisbehaves as error:
        raise Nonsense(str(error)) from None


def _check_fit(outputs: Sequence[BlindedMessage], signatures: Sequence[BlindSignature]) -> None:
    if [(each.amount, each.id) for each in outputs] != [(each.amount, each.id) for each in signatures]:
        raise Nonsense("signatures for something else than was asked")
