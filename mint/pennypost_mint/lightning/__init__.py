"""The Lightning port: all the mint knows of a Lightning node.

    create_invoice ─▶ Invoice        an invoice for exactly so many sat, with an expiry
    look_up        ─▶ Receipt        what an invoice has received so far, and whether it still can
    settled        ─▶ Receipt, …     the stream of invoices that were paid, from where it stopped
    check          ─▶                the node answers
    balance        ─▶ sat, or None   what the node holds, where its credential may know

Adapters: `play` (play money, the default), `lnd` and `cln` (REST), `nwc` (any wallet), `nutshell` (the services that
the cashu package knows); `backends` chooses. An adapter never retries and never waits without a limit: `till` does the
retrying, from the position it stored, and reconciles by `look_up`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Table


class Entry(NamedTuple):
    """A row for a book that a node keeps in the mint's own database."""

    table: Table
    columns: tuple[str, ...]
    row: tuple[Any, ...]


class Invoice(NamedTuple):
    """A BOLT11 `request`, its payment hash (32 bytes), and the Unix time until which it can be paid.

    `entry` is written by the transaction that stores the quote, with it or not at all. `received_msat` is what the
    invoice has received as soon as that is committed: nothing, but for play money.
    """

    request: str
    payment_hash: bytes
    expiry: int
    entry: Entry | None = None
    received_msat: int = 0


class Progress(StrEnum):
    """What a node says of an invoice."""

    OPEN = "open"
    """Not paid, or a payment is held and not settled: ask again."""
    SETTLED = "settled"
    LOST = "lost"
    """Expired, cancelled or unknown: it can no longer be paid."""


class Receipt(NamedTuple):
    """`received_msat` is the total that the invoice has received; `position` is its place in the stream."""

    payment_hash: bytes
    progress: Progress
    received_msat: int
    position: int | None = None


class Lightning(Protocol):
    """A node that makes invoices. Every method raises LightningUnavailable when the node does not do its part."""

    @property
    def till(self) -> str:
        """Names this node's stream, at most 32 characters; another node has another name."""
        ...

    @property
    def play_money(self) -> bool:
        """Whether what it receives is worth nothing."""
        ...

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        """A new invoice for `amount` sat that expires after so many seconds; `memo` is shown to the payer."""
        ...

    async def look_up(self, payment_hash: bytes) -> Receipt:
        """What became of an invoice (32-byte payment hash); LOST when the node does not know it."""
        ...

    def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        """Invoices as they are paid, those missed since position `after` first; ends or raises when interrupted."""
        ...

    async def check(self) -> None:
        """Returns when the node answers."""
        ...

    async def balance(self) -> int | None:
        """Sat that the node holds in its channels; None where the credential does not allow to ask, as it need not."""
        ...

    async def close(self) -> None:
        """Gives back connections."""
        ...
