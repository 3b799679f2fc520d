"""Any wallet that speaks Nostr Wallet Connect as the till (NIP-47).

    create_invoice  make_invoice          the invoice is read and must be for exactly the amount asked
    look_up         lookup_invoice
    balance         get_balance           which the connection need not allow
    settled         payment_received      of a wallet that does not send it, new invoices are looked up in turn

The connection string is a secret: whoever has it may do what the wallet allows it. One that may only make and look up
invoices is enough, and the one to use. The stream has no positions; what was paid while the line was down is found by
the till's rounds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

from pennypost.protocol.errors import ConfigurationError, InvalidPayload, InvalidWalletLink, LightningUnavailable
from pennypost.protocol.nip47 import (
    GET_BALANCE,
    LOOKUP_INVOICE,
    MAKE_INVOICE,
    NOT_FOUND,
    PAYMENT_RECEIVED,
    Transaction,
    WalletLink,
    WalletResponse,
    parse_link,
)
from pennypost.protocol.nip47 import Progress as Stage
from pennypost_mint.lightning import Invoice, Progress, Receipt
from pennypost_mint.lightning.lookout import Lookout
from pennypost_mint.lightning.rest import MSAT, check_invoice, fit_memo
from pennypost_mint.lightning.wallet_line import WalletLine
from pennypost_mint.runtime.logs import logger

REFUSALS = frozenset({"UNAUTHORIZED", "RESTRICTED", "NOT_IMPLEMENTED"})
"""With these a wallet says that it will not work for this connection; with any other, that it is there."""

log = logger("lightning")

_UNKNOWN = bytes(32)
_PROGRESS = {Stage.PENDING: Progress.OPEN, Stage.SETTLED: Progress.SETTLED, Stage.OVER: Progress.LOST}


class NwcNode:
    """The wallet of one connection string."""

    play_money = False

    def __init__(self, link: WalletLink) -> None:
        self.till = "nwc:" + sha256(link.wallet + sha256(link.secret).digest()).hexdigest()[:24]
        self._line = WalletLine(link)
        self._lookout = Lookout(self.look_up)

    @classmethod
    def open(cls, uri: str) -> NwcNode:
        """A wallet by its setting; raises ConfigurationError, which repeats none of it."""
        if not uri:
            raise ConfigurationError("PENNYPOST_NWC_URI (or PENNYPOST_NWC_URI_FILE) is not set")
        try:
            return cls(parse_link(uri))
        except InvalidWalletLink as error:
            raise ConfigurationError(f"PENNYPOST_NWC_URI is not a wallet connection: {error.detail}") from None

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        order = {"amount": amount * MSAT, "description": fit_memo(memo), "expiry": expiry_seconds}
        response = await self._line.ask(MAKE_INVOICE, order)
        if response.error is not None:
            raise LightningUnavailable
        made = _transaction(response)
        request = made.invoice or ""
        invoice = check_invoice(request, amount)
        if made.payment_hash is not None and bytes.fromhex(made.payment_hash) != invoice.payment_hash:
            raise LightningUnavailable
        self._lookout.add(invoice.payment_hash)
        return Invoice(request, invoice.payment_hash, invoice.expires_at)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        response = await self._line.ask(LOOKUP_INVOICE, {"payment_hash": payment_hash.hex()})
        if response.error == NOT_FOUND:
            return Receipt(payment_hash, Progress.LOST, 0)
        if response.error is not None:
            raise LightningUnavailable
        found = _transaction(response)
        if found.payment_hash not in (None, payment_hash.hex()):
            raise LightningUnavailable
        return _receipt(payment_hash, found)

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        info = await self._line.info()
        if info is not None and PAYMENT_RECEIVED not in info.notifications:
            async for receipt in self._lookout.settled():
                yield receipt
        async for payment in self._line.payments():
            if payment.payment_hash is None or payment.type == "outgoing":
                continue
            payment_hash = bytes.fromhex(payment.payment_hash)
            if payment.amount is not None:
                yield Receipt(payment_hash, Progress.SETTLED, payment.amount)
            elif (receipt := await self.look_up(payment_hash)).progress is Progress.SETTLED:
                yield receipt

    async def check(self) -> None:
        # A hash nobody has: any answer but a refusal shows that the wallet is there and works for us.
        response = await self._line.ask(LOOKUP_INVOICE, {"payment_hash": _UNKNOWN.hex()})
        if response.error in REFUSALS:
            log.error("the wallet will not work for this connection", code=response.error)
            raise LightningUnavailable

    async def balance(self) -> int | None:
        response = await self._line.ask(GET_BALANCE, {})
        if response.error is not None:
            return None
        try:
            return response.balance() // MSAT
        except InvalidPayload:
            raise LightningUnavailable from None

    async def close(self) -> None:
        await self._line.close()


def _transaction(response: WalletResponse) -> Transaction:
    try:
        return response.transaction()
    except InvalidPayload:
        raise LightningUnavailable from None


def _receipt(payment_hash: bytes, found: Transaction) -> Receipt:
    progress = _PROGRESS[found.progress]
    if progress is not Progress.SETTLED:
        return Receipt(payment_hash, progress, 0)
    if found.amount is None or found.type == "outgoing":
        raise LightningUnavailable
    return Receipt(payment_hash, Progress.SETTLED, found.amount)
