"""The cashu package's backends behind a child process: its FakeWallet, and Blink and Strike by their published shapes.

No Blink and no Strike account is used here: what the package sends and what the stand-in answers is held against
`tests.support.published` in every test. LNbits and LND by gRPC are real, in `test_tills`.
"""

from __future__ import annotations

import ast
import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
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
from tests.support.published import blink, strike


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
        self.orders: list[dict[str, Any]] = []
        """What invoices were asked for with."""
        self.strays: list[str] = []
        """What of any call, or of its answer, does not fit what is published."""

    async def blink(self, request: Request) -> tuple[int, Any]:
        """Blink's GraphQL API (dev.blink.sv)."""
        self.keys.add(request.headers.get("x-api-key", ""))
        if self.broken is not None:
            return self.broken
        wallets = [
            {"__typename": "UsdWallet", "id": "wallet-usd", "walletCurrency": "USD", "balance": 5},
            {"__typename": "BTCWallet", "id": "wallet-btc", "walletCurrency": "BTC", "balance": 7},
        ]
        root = {
            "me": {"id": "me", "defaultAccount": {"__typename": "ConsumerAccount", "id": "a", "wallets": wallets}},
            "lnInvoicePaymentStatus": self._blink_status,
            "lnInvoiceCreateOnBehalfOfRecipient": self._blink_invoice,
        }
        answer, found = blink.execute(root, request.json())
        self.strays += found
        return (200 if "data" in answer else 400), answer

    def _blink_invoice(self, _info: Any, input: dict[str, Any]) -> dict[str, Any]:
        assert input["recipientWalletId"] == "wallet-btc"
        self.orders.append(input)
        made = invoice_for(input["amount"] + self.surplus)
        self.states[made] = "PENDING"
        read = parse_invoice(made)
        invoice = {
            "paymentRequest": made,
            "paymentHash": read.payment_hash.hex(),
            "paymentSecret": "00" * 32,
            "satoshis": input["amount"],
        }
        return {"invoice": invoice, "errors": []}

    def _blink_status(self, _info: Any, input: dict[str, Any]) -> dict[str, Any]:
        status = self.states.get(input["paymentRequest"])
        error = {"__typename": "GraphQLApplicationError", "message": "secret", "path": None, "code": "NOT_FOUND"}
        return {"errors": [] if status else [error], "status": status}

    async def strike(self, request: Request) -> tuple[int, Any]:
        """Strike's API (docs.strike.me): invoices, their quotes, balances."""
        self.keys.add(request.headers.get("authorization", "").removeprefix("Bearer "))
        if self.broken is not None:
            return self.broken
        body = request.json() if request.body else None
        status, answer = self._strike(request.method, request.path.split("/")[2:], body)
        self.strays += strike.judge(request.method, request.path, body, status, answer)
        return status, answer

    def _strike(self, verb: str, path: list[str], body: Any) -> tuple[int, Any]:
        match verb, path:
            case "GET", ["balances"]:
                amounts = ("current", "pending", "outgoing", "reserved", "available", "total")
                return 200, [{"currency": "BTC"} | dict.fromkeys(amounts, "0.1")]
            case "POST", ["invoices"]:
                name = str(uuid.uuid4())
                self.states[name] = "UNPAID"
                self.orders.append(body)
                return 201, self._strike_invoice(name)
            case "POST", ["invoices", _, "quote"]:
                amount = self.orders[-1]["amount"]
                sat = int(Decimal(amount["amount"]) * 10**8)
                return 201, {
                    "quoteId": str(uuid.uuid4()),
                    "description": "x",
                    "lnInvoice": invoice_for(sat + self.surplus),
                    "expiration": "2026-01-01T01:00:00+00:00",
                    "expirationInSec": 3_600,
                    "sourceAmount": amount,
                    "targetAmount": amount,
                    "conversionRate": {"amount": "1", "sourceCurrency": "BTC", "targetCurrency": "BTC"},
                }
            case "GET", ["invoices", name] if name in self.states:
                return 200, self._strike_invoice(name)
            case _:
                return 404, {"data": {"status": 404, "code": "NOT_FOUND", "message": "secret"}}

    def _strike_invoice(self, name: str) -> dict[str, Any]:
        return {
            "invoiceId": name,
            "amount": self.orders[-1]["amount"],
            "state": self.states[name],
            "created": "2026-01-01T00:00:00+00:00",
            "description": self.orders[-1]["description"],
            "correlationId": self.orders[-1]["correlationId"],
            "issuerId": str(uuid.UUID(int=1)),
            "receiverId": str(uuid.UUID(int=1)),
        }


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    assert service.strays == []


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
LONGEST = {"blink": 639, "strike": 200}
KEYS = {"blink": "MINT_BLINK_KEY", "strike": "MINT_STRIKE_KEY"}


@pytest.mark.parametrize("name", SAYS)
async def test_a_service_by_its_published_shapes(
    database: Database, service: Service, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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

        # as long as a service takes, whatever a buyer's wallet asks for
        for memo, longest in (("m" * 700, LONGEST[name]), ("é" * 700, min(LONGEST[name], 319))):
            await node.create_invoice(1, memo, 600)
            assert service.orders[-1]["memo" if name == "blink" else "description"] == memo[:longest]

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


BTC: dict[str, Any] = {"amount": "0.00000010", "currency": "BTC"}
INVOICE = {
    "invoiceId": str(uuid.UUID(int=1)),
    "amount": BTC,
    "state": "UNPAID",
    "created": "2026-01-01T00:00:00Z",
    "issuerId": str(uuid.UUID(int=1)),
    "receiverId": str(uuid.UUID(int=1)),
}
ORDER = {"amount": BTC, "description": "d" * 200, "correlationId": "c" * 40}
ERROR = {"data": {"status": 404, "code": "NOT_FOUND", "message": ""}}
JUDGED: list[tuple[str, str, str, Any, int, Any, bool]] = [
    ("an invoice", "POST", "/v1/invoices", ORDER, 201, INVOICE, True),
    ("looked up", "GET", "/v1/invoices/x", None, 200, INVOICE, True),
    ("an error", "GET", "/v1/invoices/x", None, 404, ERROR, True),
    ("a description too long", "POST", "/v1/invoices", ORDER | {"description": "d" * 201}, 201, INVOICE, False),
    (
        "an amount as a number",
        "POST",
        "/v1/invoices",
        {"amount": {"amount": 1, "currency": "BTC"}},
        201,
        INVOICE,
        False,
    ),
    ("sat", "POST", "/v1/invoices", {"amount": {"amount": "1", "currency": "SAT"}}, 201, INVOICE, False),
    ("a field nobody knows", "POST", "/v1/invoices", ORDER | {"memo": ""}, 201, INVOICE, False),
    ("a state nobody knows", "GET", "/v1/invoices/x", None, 200, INVOICE | {"state": "SETTLED"}, False),
    ("no state", "GET", "/v1/invoices/x", None, 200, {**INVOICE, "state": None}, False),
    ("another status", "POST", "/v1/invoices", ORDER, 200, INVOICE, False),
    ("an error without a code", "GET", "/v1/invoices/x", None, 404, {"data": {"status": 404}}, False),
    ("a route nobody knows", "GET", "/v1/invoice/x", None, 200, INVOICE, False),
]


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "answer", "fits"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED]
)
def test_what_strike_publishes_tells_right_from_wrong(
    verb: str, path: str, body: Any, status: int, answer: Any, fits: bool
) -> None:
    assert (strike.judge(verb, path, body, status, answer) == []) is fits


MADE = """mutation x($input: LnInvoiceCreateOnBehalfOfRecipientInput!) {
    lnInvoiceCreateOnBehalfOfRecipient(input: $input) { invoice { paymentRequest satoshis } errors { message } }
}"""
BLINK: list[tuple[str, str, dict[str, Any], bool]] = [
    ("an amount as text", MADE, {"amount": "10", "recipientWalletId": "w", "memo": "m" * 639}, True),
    ("a memo too long", MADE, {"amount": 10, "recipientWalletId": "w", "memo": "m" * 640}, False),
    ("an amount below zero", MADE, {"amount": -1, "recipientWalletId": "w"}, False),
    ("an amount with a point", MADE, {"amount": "1.5", "recipientWalletId": "w"}, False),
    ("no wallet", MADE, {"amount": 10}, False),
    ("an argument nobody knows", MADE, {"amount": 10, "recipientWalletId": "w", "expiry": 5}, False),
    ("a field nobody knows", MADE.replace("satoshis", "sats"), {"amount": 10, "recipientWalletId": "w"}, False),
    ("an answer without its errors", MADE, {"amount": 11, "recipientWalletId": "w"}, False),
]


@pytest.mark.parametrize(("query", "given", "fits"), [row[1:] for row in BLINK], ids=[row[0] for row in BLINK])
def test_what_blink_publishes_tells_right_from_wrong(query: str, given: dict[str, Any], fits: bool) -> None:
    def made(_info: Any, input: dict[str, Any]) -> dict[str, Any]:
        invoice = {"paymentRequest": "ln", "satoshis": input["amount"]}
        return {"invoice": invoice} if input["amount"] == 11 else {"invoice": invoice, "errors": []}

    root = {"lnInvoiceCreateOnBehalfOfRecipient": made}
    _, found = blink.execute(root, {"query": query, "variables": {"input": given}})
    assert (found == []) is fits


async def test_nothing_is_lost_when_either_process_ends(database: Database, service: Service) -> None:
    server = HttpServer(service.strike)
    await server.start()
    settings: Any = (database, cashu_python(), "strike", {"MINT_STRIKE_KEY": "k"})
    node = NutshellNode(*settings, endpoint=server.url)
    invoices = [await node.create_invoice(amount, "", 600) for amount in (1, 2)]
    running: Any = node._child._running
    running._process.kill()
    service.states = dict.fromkeys(service.states, "PAID")
    await running._process.wait()
    await asyncio.wait({running._reader})
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


async def test_a_service_that_hangs_keeps_nobody_waiting(
    database: Database, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's HTTP clients have no time limit; the child has, and around it we have another."""
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


async def test_new_invoices_are_looked_up_in_turn(
    database: Database, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennypost_mint.lightning.lookout.EVERY", 0.01)
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
