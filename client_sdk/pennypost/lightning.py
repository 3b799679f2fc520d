"""The Lightning port: what payments need of somebody's wallet, and how a wallet is named.

    "nostr+walletconnect://…"                               any wallet with Nostr Wallet Connect    nwc.py
    "lnd+https://host:port?macaroon=FILE&cert=FILE"         one's own LND node, by REST             lnd.py
    "play:FILE?NAME"                                        play money in a file                    play.py

    payments.py ─▶ Wallet ─▶ pay, payment, make_invoice, invoice, settle, cancel, keysend, received, balance

A wallet's link is a secret: it is shown nowhere, in no error and in no `repr`. Amounts are millisatoshis (msat).
What holds for every wallet: each call has a time limit; what it makes is read and must be what was asked; a preimage is
believed only when its hash is that of the invoice.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

from pennypost.home import LINK, Home
from pennypost.protocol.bolt11 import Bolt11, parse_invoice
from pennypost.protocol.errors import InvalidInvoice, InvalidWalletLink, KeyExists, WalletError
from pennypost.transport import NetworkTransport, Transport

PAYING: Final = 60.0
"""Seconds to wait for a payment."""
ASKING: Final = 15.0
"""Seconds to wait for any other answer of a wallet."""
MAX_LINK: Final = 4_096


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment of ours that arrived: the preimage (32 bytes) proves it. The fee is in msat."""

    preimage: bytes = field(repr=False)
    fee_msat: int


@dataclass(frozen=True, slots=True)
class Made:
    """An invoice of ours: `request` is its BOLT11, `preimage` what the wallet shows of it, 32 bytes or None.

    One that is `hold` must be settled with its preimage after it was paid.
    """

    request: str
    payment_hash: bytes
    expires_at: int
    preimage: bytes | None = field(repr=False)
    hold: bool = False


class Stage(StrEnum):
    """How an invoice of ours stands."""

    OPEN = "open"
    HELD = "held"
    """Paid, and waiting to be settled."""
    SETTLED = "settled"
    OVER = "over"
    """Expired, cancelled or unknown."""


@dataclass(frozen=True, slots=True)
class Received:
    """A payment that came in: its hash (32 bytes), the payer's comment, its TLV records."""

    payment_hash: bytes
    msat: int
    comment: str = ""
    records: Mapping[int, bytes] = field(default_factory=dict[int, bytes])


class Wallet(Protocol):
    """A Lightning wallet. Everything but `received` ends within its time limit."""

    late: int
    """Seconds after which a payment that it was told of, and knows nothing of, is not made any more."""

    async def pay(self, request: str, *, max_fee_msat: int, timeout: float = PAYING) -> Paid:
        """Pay a BOLT11 invoice that names an amount.

        Raises PaymentUnknown when it may still arrive; after WalletUnreachable, WalletRefuses, WalletCannot and
        PaymentFailed nothing was paid.
        """
        ...

    async def payment(self, payment_hash: bytes) -> Paid | None:
        """What became of a payment of ours; None: this wallet neither paid it nor is about to.

        Raises PaymentUnknown while it is under way, WalletUnreachable.
        """
        ...

    async def make_invoice(
        self,
        msat: int,
        *,
        description: str = "",
        description_hash: bytes | None = None,
        expiry: int = 3600,
        preimage: bytes | None = None,
        hold: bool = False,
    ) -> Made:
        """An invoice that can be paid for `expiry` seconds; with `preimage` (32 bytes), one that its payment reveals.

        `hold` asks for one that does not settle by itself; a wallet that can set a preimage only so makes it so too.
        Raises WalletCannot, WalletRefuses, WalletUnreachable.
        """
        ...

    async def invoice(self, payment_hash: bytes) -> tuple[Stage, int]:
        """How an invoice of ours stands, and the msat received. Raises WalletUnreachable."""
        ...

    async def settle(self, preimage: bytes) -> None:
        """Take the payment of a held invoice; settling twice is harmless. Raises WalletError."""
        ...

    async def cancel(self, payment_hash: bytes) -> None:
        """Give a held payment back, or make an open hold invoice unpayable. Raises WalletError."""
        ...

    async def keysend(self, node: bytes, msat: int, records: Mapping[int, bytes], preimage: bytes) -> Paid:
        """Pay a node (33 bytes) without an invoice, with TLV records; its hash is that of `preimage` (32 bytes).

        Raises as `pay`.
        """
        ...

    def received(self) -> AsyncGenerator[Received]:
        """Payments as they come in. Raises WalletUnreachable when the line breaks."""
        ...

    async def balance(self) -> int:
        """What can be spent, in msat. Raises WalletError."""
        ...

    async def close(self) -> None:
        """Give back connections; closing twice is harmless."""
        ...


def fee_limit(msat: int) -> int:
    """The most that a payment of `msat` may cost in routing fees: 1 %, and up to 10 sat for small ones."""
    return max(10_000, msat // 100)


def check_made(request: str, msat: int, payment_hash: bytes | None, description_hash: bytes | None) -> Bolt11:
    """The invoice that a wallet made, which must be the one asked for. Raises WalletError."""
    try:
        made = parse_invoice(request)
    except InvalidInvoice:
        raise WalletError("it made an invoice that cannot be read") from None
    if made.amount_msat != msat:
        raise WalletError("it made an invoice over another amount")
    if payment_hash is not None and made.payment_hash != payment_hash:
        raise WalletError("it made an invoice with another payment hash")
    if description_hash is not None and made.description_hash != description_hash:
        raise WalletError("it made an invoice with another description")
    return made


def proves(preimage: bytes, payment_hash: bytes) -> bool:
    """Whether this preimage is that of the payment hash."""
    return sha256(preimage).digest() == payment_hash


def read_link(named: str | None = None, home: Home | None = None) -> str | None:
    """A wallet's link: the text itself, the content of a file, `PENNYPOST_WALLET`, `PENNYPOST_WALLET_FILE`, the home's.

    None where none is named. A link on a command line can be seen by every user of the machine; a file cannot.
    Raises InvalidWalletLink; HomeLocked and HomeUnusable for the home's.
    """
    given = named or os.environ.get("PENNYPOST_WALLET")
    if given and ":" in given and not Path(given).is_file():
        return given.strip()
    file = given or os.environ.get("PENNYPOST_WALLET_FILE")
    if not file:
        return None if home is None else home.read(LINK)
    try:
        with open(file, encoding="ascii") as opened:
            return opened.read(MAX_LINK + 1).strip()
    except (OSError, UnicodeDecodeError):
        raise InvalidWalletLink("its file cannot be read") from None


def keep_link(home: Home, link: str) -> None:
    """Keep a wallet's link in a home that has none. Raises InvalidWalletLink, KeyExists, HomeLocked, HomeUnusable."""
    link = link.strip()
    if not link.isascii() or not link.isprintable():
        raise InvalidWalletLink
    open_wallet(link, NetworkTransport())
    if not home.create(LINK, link):
        raise KeyExists("a wallet is connected to this home already; `pennypost wallet disconnect` it first")


def open_wallet(link: str, transport: Transport) -> Wallet:
    """The wallet of a link; nothing is dialled yet. Raises InvalidWalletLink, which repeats nothing of it."""
    if len(link) > MAX_LINK:
        raise InvalidWalletLink
    if link.startswith("play:"):
        from pennypost.play import PlayBook

        path, _, name = link.removeprefix("play:").partition("?")
        if not path or not name.isalnum():
            raise InvalidWalletLink("play money is named play:FILE?NAME")
        return PlayBook(path).wallet(name)
    if link.startswith(("lnd+https://", "lnd+http://")):
        from pennypost.lnd import LndWallet

        return LndWallet.open(*_node(link.removeprefix("lnd+")))
    from pennypost.nwc import NwcWallet
    from pennypost.protocol.nip47 import parse_link

    return NwcWallet(parse_link(link), transport)


def _node(link: str) -> tuple[str, Path, Path | None]:
    try:
        parts = urlsplit(link)
        _ = parts.port
        given = parse_qs(parts.query, strict_parsing=True, max_num_fields=4)
    except ValueError:
        raise InvalidWalletLink("it looks like lnd+https://host:port?macaroon=FILE&cert=FILE") from None
    if not parts.hostname or "@" in parts.netloc or "macaroon" not in given or not set(given) <= {"macaroon", "cert"}:
        raise InvalidWalletLink("it looks like lnd+https://host:port?macaroon=FILE&cert=FILE")
    cert = given.get("cert")
    return f"{parts.scheme}://{parts.netloc}", Path(given["macaroon"][0]), Path(cert[0]) if cert else None
