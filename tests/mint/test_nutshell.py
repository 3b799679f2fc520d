"""The cashu package's backends behind a child process: its FakeWallet, and Blink and Strike by their published shapes.

No Blink and no Strike account is used here. LNbits and LND by gRPC are real, in `test_tills`.
"""

from __future__ import annotations

import ast
import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_migrations import upgrade
from pennypost_mint.lightning import Progress, nutshell
from pennypost_mint.lightning.backends import open_lightning
from pennypost_mint.lightning.bolt11 import encode_invoice
from pennypost_mint.lightning.nutshell import SCRIPT, NutshellNode
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.settings import Settings
from tests.mint.places import cashu_python
from tests.support.http import HttpServer, Request


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    await upgrade(database_url("", tmp_path))
    opened = open_database("", tmp_path)
    yield opened
    await opened.close()


def invoice_for(sat: int) -> str:
    preimage = secrets.token_bytes(32)
    return encode_invoice(b"\1" * 32, sat, sha256(preimage).digest(), preimage, "", int(time.time()), 60)


class Service:
    """What Blink and Strike answer: `states` by what they call an invoice; `broken` instead of everything."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.broken: tuple[int, Any] | None = None
        self.surplus = 0
        self.keys: set[str] = set()

    async def blink(self, request: Request) -> tuple[int, Any]:
        """Blink's GraphQL API (dev.blink.sv)."""
        self.keys.add(request.headers.get("x-api-key", ""))
        if self.broken is not None:
            return self.broken
        asked = request.json()
        given = asked["variables"].get("input", {})
        if "lnInvoiceCreateOnBehalfOfRecipient" in asked["query"]:
            assert given["recipientWalletId"] == "wallet-btc"
            made = invoice_for(int(given["amount"]) + self.surplus)
            self.states[made] = "PENDING"
            invoice = {"paymentRequest": made, "paymentHash": "", "paymentSecret": "", "satoshis": int(given["amount"])}
            return 200, {"data": {"lnInvoiceCreateOnBehalfOfRecipient": {"invoice": invoice, "errors": []}}}
        if "lnInvoicePaymentStatus" in asked["query"]:
            status = self.states.get(given["paymentRequest"])
            errors = [] if status else [{"message": "secret", "path": None, "code": "NOT_FOUND"}]
            return 200, {"data": {"lnInvoicePaymentStatus": {"errors": errors, "status": status}}}
        wallets = [
            {"id": "wallet-usd", "walletCurrency": "USD", "balance": 5},
            {"id": "wallet-btc", "walletCurrency": "BTC", "balance": 7},
        ]
        return 200, {"data": {"me": {"defaultAccount": {"wallets": wallets}}}}

    async def strike(self, request: Request) -> tuple[int, Any]:
        """Strike's API (docs.strike.me): invoices, their quotes, balances."""
        self.keys.add(request.headers.get("authorization", "").removeprefix("Bearer "))
        if self.broken is not None:
            return self.broken
        match request.method, request.path.split("/")[2:]:
            case "GET", ["balances"]:
                return 200, [{"currency": "BTC", "current": "0.1", "outgoing": "0", "available": "0.1", "total": "0.1"}]
            case "POST", ["invoices"]:
                name = secrets.token_hex(16)
                self.states[name] = "UNPAID"
                self._amount = request.json()["amount"]
                return 201, {
                    "invoiceId": name,
                    "amount": self._amount,
                    "state": "UNPAID",
                    "created": "2026-01-01T00:00:00+00:00",
                    "description": request.json()["description"],
                    "issuerId": "x",
                    "receiverId": "x",
                }
            case "POST", ["invoices", _, "quote"]:
                sat = round(float(self._amount["amount"]) * 10**8)
                return 201, {
                    "quoteId": "x",
                    "description": "x",
                    "lnInvoice": invoice_for(sat + self.surplus),
                    "expiration": "2026-01-01T01:00:00+00:00",
                    "expirationInSec": 3_600,
                    "sourceAmount": self._amount,
                    "targetAmount": self._amount,
                    "conversionRate": {"amount": "1", "sourceCurrency": "BTC", "targetCurrency": "BTC"},
                }
            case "GET", ["invoices", name] if name in self.states:
                return 200, {"invoiceId": name, "amount": self._amount, "state": self.states[name]}
            case _:
                return 404, {"data": {"status": 404, "code": "NOT_FOUND", "message": "secret"}}


# What each service says of an invoice, and what that is to us.
SAYS = {
    "blink": {"PENDING": Progress.OPEN, "PAID": Progress.SETTLED, "EXPIRED": Progress.LOST},
    "strike": {
        "UNPAID": Progress.OPEN,
        "PENDING": Progress.OPEN,
        "PAID": Progress.SETTLED,
        "CANCELLED": Progress.LOST,
    },
}
KEYS = {"blink": "MINT_BLINK_KEY", "strike": "MINT_STRIKE_KEY"}


@pytest.mark.parametrize("name", SAYS)
async def test_a_service_by_its_published_shapes(
    database: Database, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    server = HttpServer(getattr(service, name))
    await server.start()
    path = "/graphql" if name == "blink" else ""
    node = NutshellNode(database, cashu_python(), name, {KEYS[name]: "the key"}, endpoint=server.url + path)
    try:
        # the first thing asked: Blink must learn which wallet is ours before it can make an invoice
        invoice = await node.create_invoice(10, "stamps\nfor Bob", 600)
        assert parse_invoice(invoice.request).amount_msat == 10_000
        assert parse_invoice(invoice.request).expires_at == invoice.expiry
        assert service.keys == {"the key"}
        (reference,) = service.states
        for says, progress in SAYS[name].items():
            service.states[reference] = says
            received = 10_000 if progress is Progress.SETTLED else 0
            assert await node.look_up(invoice.payment_hash) == (invoice.payment_hash, progress, received, None)
        await node.check()

        # not ours, and not to be found
        assert (await node.look_up(bytes(32))).progress is Progress.LOST
        service.states.clear()
        with pytest.raises(LightningUnavailable):
            await node.look_up(invoice.payment_hash)
        monkeypatch.setattr(nutshell, "GIVE_UP", -600)
        assert (await node.look_up(invoice.payment_hash)).progress is Progress.LOST

        # an invoice for another amount is not sold
        service.surplus = 1
        with pytest.raises(LightningUnavailable):
            await node.create_invoice(10, "", 600)
        service.surplus = 0

        for broken in ((500, {"message": "secret"}), (200, b"<html>"), (200, []), (401, {"detail": "secret"})):
            service.broken = broken
            for ask in (node.create_invoice(1, "", 60), node.check()):
                with pytest.raises(LightningUnavailable) as failed:
                    await ask
                assert "secret" not in str(failed.value)
        service.broken = None
        assert (await node.create_invoice(3, "", 600)).request
    finally:
        await node.close()
        await server.stop()


async def test_nothing_is_lost_when_either_process_ends(database: Database) -> None:
    service = Service()
    server = HttpServer(service.strike)
    await server.start()
    settings: Any = (database, cashu_python(), "strike", {"MINT_STRIKE_KEY": "k"})
    node = NutshellNode(*settings, endpoint=server.url)
    invoices = [await node.create_invoice(amount, "", 600) for amount in (1, 2)]
    running: Any = node._child._running
    running._process.kill()
    service.states = dict.fromkeys(service.states, "PAID")
    await running._process.wait()
    assert (await node.look_up(invoices[0].payment_hash)).received_msat == 1_000
    await node.close()
    again = NutshellNode(*settings, endpoint=server.url)
    assert (await again.look_up(invoices[1].payment_hash)).received_msat == 2_000
    await again.close()
    # another account cannot know this one's invoices
    other = NutshellNode(database, cashu_python(), "strike", {"MINT_STRIKE_KEY": "another"}, endpoint=server.url)
    assert other.till != node.till
    assert (await other.look_up(invoices[0].payment_hash)).progress is Progress.LOST
    await other.close()
    await server.stop()


async def test_a_child_whose_mint_is_gone_ends_and_leaves_nothing(database: Database) -> None:
    node = NutshellNode(database, cashu_python(), "fake", {})
    await node.check()
    running: Any = node._child._running
    folder = Path(running._folder)
    assert list(folder.iterdir()) == []
    running._process.stdin.close()
    assert await asyncio.wait_for(running._process.wait(), 20) == 0
    assert not folder.exists()
    await node.close()


async def test_a_service_that_hangs_keeps_nobody_waiting(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's HTTP clients have no time limit; the child has, and around it we have another."""
    service = Service()
    server = HttpServer(service.strike)
    await server.start()
    node = NutshellNode(database, cashu_python(), "strike", {"MINT_STRIKE_KEY": "k"}, endpoint=server.url)
    await node.check()
    monkeypatch.setattr("pennypost_mint.lightning.child.ANSWER_SECONDS", 0.5)
    server.freeze()
    started = time.monotonic()
    with pytest.raises(LightningUnavailable):
        await node.create_invoice(1, "", 60)
    assert time.monotonic() - started < 10
    server.thaw()
    await node.close()
    await server.stop()


async def test_new_invoices_are_looked_up_in_turn(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pennypost_mint.lightning.lookout.EVERY", 0.01)
    service = Service()
    server = HttpServer(service.strike)
    await server.start()
    node = NutshellNode(database, cashu_python(), "strike", {"MINT_STRIKE_KEY": "k"}, endpoint=server.url)
    invoice = await node.create_invoice(5, "", 600)
    waiting = asyncio.ensure_future(anext(node.settled(None)))
    service.states = dict.fromkeys(service.states, "PAID")
    assert await waiting == (invoice.payment_hash, Progress.SETTLED, 5_000, None)
    await node.close()
    await server.stop()


ANSWERS = [
    ({"state": "SETTLED", "received_msat": 12_500}, (Progress.SETTLED, 12_500)),
    ({"state": "SETTLED"}, (Progress.SETTLED, 10_000)),
    ({"state": "SETTLED", "received_msat": -1}, None),
    ({"state": "SETTLED", "received_msat": "10"}, None),
    ({"state": "SETTLED", "received_msat": True}, None),
    ({"state": "SETTLED", "received_msat": 2**63}, None),
    ({"state": "UNKNOWN"}, None),
    ({"state": ["SETTLED"]}, None),
    ({}, None),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
async def test_what_the_child_says_is_not_believed_blindly(
    database: Database, answer: dict[str, Any], expected: tuple[Progress, int] | None
) -> None:
    node = NutshellNode(database, Path("python"), "strike", {})
    request = invoice_for(10)

    async def made(_order: Any) -> dict[str, Any]:
        return {"request": request, "reference": "r"}

    async def said(_order: Any) -> dict[str, Any]:
        return answer

    node._child.ask = made  # type: ignore[method-assign,assignment]
    invoice = await node.create_invoice(10, "", 60)
    node._child.ask = said  # type: ignore[method-assign,assignment]
    if expected is None:
        with pytest.raises(LightningUnavailable):
            await node.look_up(invoice.payment_hash)
    else:
        receipt = await node.look_up(invoice.payment_hash)
        assert (receipt.progress, receipt.received_msat) == expected


REFERENCES: list[Any] = [None, "", 5, ["r"], "ü", "r" * (nutshell.MAX_REFERENCE + 1)]


@pytest.mark.parametrize("reference", REFERENCES)
async def test_an_invoice_that_could_not_be_asked_about_is_not_sold(database: Database, reference: Any) -> None:
    node = NutshellNode(database, Path("python"), "strike", {})

    async def made(_order: Any) -> dict[str, Any]:
        return {"request": invoice_for(10), "reference": reference}

    node._child.ask = made  # type: ignore[method-assign,assignment]
    with pytest.raises(LightningUnavailable):
        await node.create_invoice(10, "", 60)


def test_the_script_is_data_and_imports_nothing_of_ours() -> None:
    assert SCRIPT.suffix == ".txt"
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 11))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.startswith("pennypost")]


SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("lnbits", {}, "PENNYPOST_CASHU_PYTHON"),
    ("lnbits", {"cashu_python": "/nowhere"}, "PENNYPOST_CASHU_PYTHON"),
    ("lnbits", {"cashu_python": __file__}, "PENNYPOST_LNBITS_URL"),
    ("lnbits", {"cashu_python": __file__, "lnbits_url": "http://x"}, "PENNYPOST_LNBITS_KEY"),
    ("blink", {"cashu_python": __file__}, "PENNYPOST_BLINK_KEY"),
    ("strike", {"cashu_python": __file__}, "PENNYPOST_STRIKE_KEY"),
    ("lndrpc", {"cashu_python": __file__}, "PENNYPOST_LND_RPC_ADDRESS"),
    ("lndrpc", {"cashu_python": __file__, "lnd_rpc_address": "x:1"}, "PENNYPOST_LND_MACAROON_FILE"),
    (
        "lndrpc",
        {"cashu_python": __file__, "lnd_rpc_address": "x:1", "lnd_macaroon_file": __file__, "lnd_cert_file": "/no"},
        "PENNYPOST_LND_CERT_FILE",
    ),
]


@pytest.mark.parametrize(("name", "given", "missing"), SETTINGS)
def test_settings_that_cannot_work_refuse_to_start(name: str, given: dict[str, Any], missing: str) -> None:
    database: Any = None
    with pytest.raises(ConfigurationError) as refused:
        open_lightning(Settings.model_validate({"lightning": name} | given), database)
    assert missing in str(refused.value)
    assert __file__ not in str(refused.value)


def test_another_account_has_another_till() -> None:
    database: Any = None
    nodes = [
        open_lightning(Settings.model_validate({"lightning": name, "cashu_python": __file__} | given), database)
        for name, given in (
            ("blink", {"blink_key": "a"}),
            ("blink", {"blink_key": "b"}),
            ("strike", {"strike_key": "a"}),
            ("lnbits", {"lnbits_url": "https://x", "lnbits_key": "a"}),
            ("lnbits", {"lnbits_url": "https://y", "lnbits_key": "a"}),
        )
    ]
    assert len({node.till for node in nodes}) == len(nodes)
    assert all(len(node.till) <= 32 and not node.play_money for node in nodes)


async def test_the_balance_as_the_service_tells_it(database: Database) -> None:
    node = NutshellNode(database, cashu_python(), "fake", {})
    try:
        assert await node.balance() == 1_337
    finally:
        await node.close()
