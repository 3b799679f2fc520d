"""What worker processes calculate for mints elsewhere: our outputs from the seed, our proofs from signatures.

    seed, keyset, counter ─ NUT-13 ─▶ secret, r ─▶ B_            C_, e, s ─ NUT-12 ─▶ checked ─▶ C, Y

Pure functions over plain tuples, so that they cross a pipe; nothing of database or web is imported here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pennypost.protocol import bdhke, nut13
from pennypost.protocol.errors import InvalidKey
from pennypost_mint.api import Job


class Output(NamedTuple):
    """A blinded message (33 bytes) and what opens its signature."""

    b: bytes
    secret: str
    r: bytes

    def __repr__(self) -> str:
        return f"Output(b={self.b.hex()})"


Wanted = tuple[bytes, str, int, int]
"""Seed, keyset id, first counter, how many."""

Signed = tuple[bytes, Output, bytes, bytes, bytes]
"""K (33 bytes), our output, C_ (33 bytes), e and s (32 bytes each, or both empty)."""

Opened = tuple[bytes, bytes] | None
"""Y and C (33 bytes each) of a proof; None for a signature that is wrong."""


def make_outputs(_state: object, items: list[Wanted]) -> list[list[Output]]:
    """Job: outputs number `counter` and on of each."""
    return [[_output(seed, keyset, first + place) for place in range(count)] for seed, keyset, first, count in items]


def _output(seed: bytes, keyset: str, counter: int) -> Output:
    secret, r = nut13.derive(seed, keyset, counter)
    return Output(bdhke.blind(secret.encode(), r), secret, r)


def open_signatures(_state: object, items: list[Signed]) -> list[Opened]:
    """Job: proofs of signatures whose DLEQ proof holds.

    A restore may come without one (empty): the stamp is gone already then, and an unchecked proof is better than none.
    """
    return [_opened(*item) for item in items]


def _opened(key: bytes, output: Output, c_: bytes, e: bytes, s: bytes) -> Opened:
    if e and not bdhke.dleq_verify(key, output.b, c_, e, s):
        return None
    try:
        return bdhke.hash_to_curve(output.secret.encode()), bdhke.unblind(c_, output.r, key)
    except InvalidKey:
        return None


FOREIGN_JOBS: dict[str, Job] = {"foreign.outputs": make_outputs, "foreign.open": open_signatures}
"""What this package asks of `Workers`."""


async def run_here(job: str, items: list[Any]) -> list[Any]:
    """`Workers.run` of a command, which has no processes beside it."""
    return FOREIGN_JOBS[job](None, items)
