"""Places where stamps can be paid, each with what a test may do to it: pay, kill, start again, freeze.

LND (REST), LND by gRPC, LNbits, @getalby/sdk's wallet     all before the bed's node, which is really paid
Core Lightning                                              its published schema alone
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Protocol

from pennypost.protocol.bolt11 import parse_invoice
from pennypost_mint.lightning import Lightning
from tests.support.cln import ClnRest
from tests.support.foreign import PROJECT
from tests.support.http import HttpServer
from tests.support.lightning import LightningBed
from tests.support.lnbits import Lnbits
from tests.support.require import require
from tests.support.server import Server
from tests.support.wallets import AlbyWallet


def cashu_python() -> Path:
    """The interpreter with the cashu package. Skips where there is none."""
    python = Path(os.environ.get("PENNYPOST_CASHU_PYTHON") or PROJECT / ".cache" / "cashu" / "bin" / "python")
    require(python.exists(), "the cashu package is not installed (make cashu)")
    return python


class Place(Protocol):
    """`settings` lead a mint there."""

    settings: dict[str, Any]
    tells_amount: bool
    """Whether it says how much arrived, when that is more than the invoice's amount."""
    payable_while_away: bool
    """Whether invoices can be paid while what the mint talks to is away."""

    async def pay(self, request: str) -> bool: ...
    async def pay_amount(self, request: str, sat: int) -> bool: ...
    async def kill(self, lightning: Lightning) -> None: ...
    async def start(self) -> None: ...
    async def freeze(self, lightning: Lightning) -> None: ...
    async def thaw(self) -> None: ...


class _AtTheBed:
    """What is paid at the bed's office node."""

    tells_amount = True
    payable_while_away = True

    def __init__(self, bed: LightningBed) -> None:
        self._bed = bed

    async def pay(self, request: str) -> bool:
        return await asyncio.to_thread(self._bed.pay, request)

    async def pay_amount(self, request: str, sat: int) -> bool:
        return await asyncio.to_thread(self._bed.pay_amount, request, sat)

    async def _command(self, *words: str) -> None:
        await asyncio.to_thread(self._bed.command, *words)


class LndPlace(_AtTheBed):
    payable_while_away = False

    def __init__(self, bed: LightningBed) -> None:
        super().__init__(bed)
        self.settings = {name.lower(): value for name, value in bed.settings.items()}

    async def kill(self, lightning: Lightning) -> None:
        await self._command("stop-mint-node", "kill")

    async def start(self) -> None:
        await self._command("restart-mint-node")

    async def freeze(self, lightning: Lightning) -> None:
        await self._command("freeze", "office")

    async def thaw(self) -> None:
        await self._command("thaw", "office")


class LndRpcPlace(_AtTheBed):
    """LND by the cashu package: what dies or freezes is the child process."""

    def __init__(self, bed: LightningBed) -> None:
        super().__init__(bed)
        office = bed.nodes["office"]
        self.settings = {
            "lightning": "lndrpc",
            "cashu_python": cashu_python(),
            "lnd_rpc_address": office["grpc"],
            "lnd_macaroon_file": office["macaroon"],
            "lnd_cert_file": office["tls_cert"],
        }

    async def kill(self, lightning: Any) -> None:
        self._signal(lightning, signal.SIGKILL)

    async def start(self) -> None:
        """The mint does it."""

    async def freeze(self, lightning: Any) -> None:
        self._signal(lightning, signal.SIGSTOP)

    async def thaw(self) -> None:
        """The mint kills what is frozen."""

    @staticmethod
    def _signal(lightning: Any, number: int) -> None:
        running = lightning._child._running
        if running is not None and running.alive:
            os.kill(running._process.pid, number)


class LnbitsPlace(_AtTheBed):
    tells_amount = False

    def __init__(self, bed: LightningBed, lnbits: Lnbits) -> None:
        super().__init__(bed)
        self._lnbits = lnbits
        self.settings = {
            "lightning": "lnbits",
            "cashu_python": cashu_python(),
            "lnbits_url": lnbits.url,
            "lnbits_key": lnbits.account(),
        }

    async def kill(self, lightning: Lightning) -> None:
        self._lnbits.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self._lnbits.start)

    async def freeze(self, lightning: Lightning) -> None:
        self._lnbits.freeze()

    async def thaw(self) -> None:
        self._lnbits.thaw()


class WalletPlace(_AtTheBed):
    """A wallet by Nostr Wallet Connect, over a post office of ours as its relay."""

    def __init__(self, bed: LightningBed, relay: Server, wallet: AlbyWallet) -> None:
        super().__init__(bed)
        self.relay, self.wallet = relay, wallet
        self.settings = {"lightning": "nwc", "nwc_uri": wallet.uri}

    async def kill(self, lightning: Lightning) -> None:
        self.wallet.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self.wallet.start)

    async def freeze(self, lightning: Lightning) -> None:
        self.wallet.freeze()

    async def thaw(self) -> None:
        self.wallet.thaw()


class ClnPlace:
    tells_amount = True
    payable_while_away = True

    def __init__(self, book: ClnRest, server: HttpServer, settings: dict[str, Any]) -> None:
        self._book, self._server, self.settings = book, server, settings

    async def pay(self, request: str) -> bool:
        invoice = parse_invoice(request)
        assert invoice.amount_msat is not None
        return await self.pay_amount(request, invoice.amount_msat // 1_000)

    async def pay_amount(self, request: str, sat: int) -> bool:
        invoice = parse_invoice(request)
        found = self._book.invoices[invoice.payment_hash.hex()]
        if self._book.status(found) != "unpaid" or sat * 1_000 < found["amount_msat"]:
            return False
        self._book.pay(found["payment_hash"], sat * 1_000)
        return True

    async def kill(self, lightning: Lightning) -> None:
        await self._server.stop()

    async def start(self) -> None:
        await self._server.start()

    async def freeze(self, lightning: Lightning) -> None:
        self._server.freeze()

    async def thaw(self) -> None:
        self._server.thaw()
