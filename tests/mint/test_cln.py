"""Core Lightning: against its published schema, since no such node runs here; and what a broken one could answer.

What the adapter sends and what the stand-in answers is held against `tests.support.published.cln` in every test.

What every adapter must hold, this one too, is in `test_tills`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import Progress
from pennypost_mint.lightning import cln as clns
from pennypost_mint.lightning.bolt11 import encode_invoice
from pennypost_mint.lightning.cln import ClnNode
from tests.support.cln import RUNE, ClnRest
from tests.support.http import Certificates, HttpServer, Request, certificates
from tests.support.published.cln import METHODS, judge


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """As clnrest makes them: for localhost, not for the address they are used at."""
    return certificates(tmp_path_factory.mktemp("cln"), "cln", "localhost")


@pytest.fixture
async def book() -> AsyncIterator[ClnRest]:
    book = ClnRest()
    yield book
    assert book.strays == []


@pytest.fixture
async def server(book: ClnRest, files: Certificates) -> AsyncIterator[HttpServer]:
    opened = HttpServer(book.answer, files.context)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
async def node(server: HttpServer, files: Certificates) -> AsyncIterator[ClnNode]:
    opened = ClnNode.open(server.url, RUNE, files.ca)
    yield opened
    await opened.close()


async def test_an_invoice_is_made_looked_up_and_paid(node: ClnNode, book: ClnRest) -> None:
    invoice = await node.create_invoice(10, "stamps\n\x00 for Bob", 600)
    read = parse_invoice(invoice.request)
    assert (read.amount_msat, read.payment_hash, read.expires_at) == (10_000, invoice.payment_hash, invoice.expiry)
    assert read.description == "stamps   for Bob"
    assert (await node.look_up(invoice.payment_hash)).progress is Progress.OPEN
    book.pay(invoice.payment_hash.hex(), 10_500)
    assert await node.look_up(invoice.payment_hash) == (invoice.payment_hash, Progress.SETTLED, 10_500, 1)
    _, order = book.calls[0]
    assert (order["amount_msat"], order["expiry"]) == (10_000, 600)


async def test_an_invoice_that_the_node_never_made(node: ClnNode) -> None:
    assert (await node.look_up(bytes(32))).progress is Progress.LOST
    await node.check()


async def test_an_expired_invoice_is_lost(node: ClnNode, book: ClnRest) -> None:
    invoice = await node.create_invoice(1, "", 3_600)
    book.invoices[invoice.payment_hash.hex()]["expires_at"] = 1
    assert (await node.look_up(invoice.payment_hash)).progress is Progress.LOST


async def test_the_stream_begins_where_it_stopped_and_waits(
    node: ClnNode, book: ClnRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clns, "WAIT", 1)
    made = [await node.create_invoice(amount, "", 600) for amount in (1, 2, 3, 4)]
    for invoice in made[:3]:
        book.pay(invoice.payment_hash.hex(), 1_000)
    stream = node.settled(1)
    assert [(await anext(stream)).position for _ in range(2)] == [2, 3]
    waiting = asyncio.ensure_future(anext(stream))
    async with asyncio.timeout(20):
        # asked again after the node has let it wait for a second without a payment
        while sum(name == "waitanyinvoice" for name, _ in book.calls) < 4:
            await asyncio.sleep(0.01)
    book.pay(made[3].payment_hash.hex(), 4_000)
    assert await waiting == (made[3].payment_hash, Progress.SETTLED, 4_000, 4)
    beginning = node.settled(None)
    assert (await anext(beginning)).position == 1
    await beginning.aclose()  # type: ignore[attr-defined]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_the_stream_says_that_it_broke(node: ClnNode, server: HttpServer) -> None:
    waiting = asyncio.ensure_future(anext(node.settled(None)))
    await asyncio.sleep(0)
    await server.stop()
    with pytest.raises(LightningUnavailable):
        await waiting


async def test_a_wrong_rune_sells_nothing_and_tells_nothing(server: HttpServer, files: Certificates) -> None:
    stranger = ClnNode(server.url, "another", files.ca.read_bytes())
    for ask in (stranger.create_invoice(1, "", 60), stranger.look_up(bytes(32)), anext(stranger.settled(None))):
        with pytest.raises(LightningUnavailable) as refused:
            await ask
        assert "words" not in str(refused.value)
    await stranger.close()


@pytest.mark.parametrize(("pinned", "good"), [("server", True), ("other", False), (None, False)])
async def test_only_the_pinned_certificate_is_trusted(
    server: HttpServer, files: Certificates, tmp_path: Path, pinned: str | None, good: bool
) -> None:
    other = certificates(tmp_path, "cln", "localhost").ca
    chosen = {"server": files.server, "other": other, None: None}[pinned]
    node = ClnNode.open(server.url, RUNE, chosen)
    if good:
        await node.check()
    else:
        with pytest.raises(LightningUnavailable):
            await node.check()
    await node.close()


# What a broken or hostile node could answer. None of it may become a credit, an exception or text for a stranger.

HASH = bytes(32).hex()
GOOD = {
    "label": "x",
    "payment_hash": HASH,
    "status": "paid",
    "expires_at": 2_000_000_000,
    "created_index": 1,
    "pay_index": 3,
    "amount_received_msat": 10_000,
    "paid_at": 1_700_000_000,
    "payment_preimage": HASH,
}


def listed(*invoices: object) -> tuple[int, Any]:
    return 201, {"invoices": list(invoices)}


BROKEN: list[tuple[str, tuple[int, Any]]] = [
    ("an error", (500, {"code": -32602, "message": "secret"})),
    ("an error without a code", (500, {"message": "secret"})),
    ("a redirect", (302, {})),
    ("no JSON", (201, b"<html>")),
    ("no UTF-8", (201, b'{"invoices": "\xff"}')),
    ("endless brackets", (201, b"[" * 100_000)),
    ("a list", (201, [])),
    ("no list", (201, {})),
    ("two invoices", listed(GOOD, GOOD)),
    ("no hash", listed({"status": "paid"})),
    ("a hash that is none", listed(GOOD | {"payment_hash": "zz"})),
    ("another invoice", listed(GOOD | {"payment_hash": "11" * 32})),
    ("upper case", listed(GOOD | {"payment_hash": "AA" * 32})),
    ("an amount in other digits", listed(GOOD | {"amount_received_msat": "١٠"})),
    ("an amount with a sign", listed(GOOD | {"amount_received_msat": -5})),
    ("an amount with a point", listed(GOOD | {"amount_received_msat": 1.5})),
    ("an endless amount", listed(GOOD | {"amount_received_msat": "9" * 5_000})),
    ("no amount that is a number", listed(GOOD | {"amount_received_msat": None})),
    ("no index", listed(GOOD | {"pay_index": 0})),
    ("an index past all numbers", listed(GOOD | {"pay_index": 2**63})),
    ("two megabytes", (201, b" " * 2_000_000)),
]


async def scripted(answer: tuple[int, Any]) -> tuple[ClnNode, HttpServer]:
    async def say(_request: Request) -> tuple[int, Any]:
        return answer

    server = HttpServer(say)
    await server.start()
    return ClnNode.open(server.url, RUNE, None), server


@pytest.mark.parametrize("answer", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_broken_answer_is_no_answer(answer: tuple[int, Any]) -> None:
    node, server = await scripted(answer)
    for ask in (node.look_up(bytes(32)), node.create_invoice(1, "", 60), anext(node.settled(None))):
        with pytest.raises(LightningUnavailable) as failed:
            await ask
        assert "secret" not in str(failed.value)
    await node.close()
    await server.stop()


async def test_amounts_of_older_nodes_are_read() -> None:
    node, server = await scripted(listed(GOOD | {"amount_received_msat": "10000msat"}))
    assert (await node.look_up(bytes(32))).received_msat == 10_000
    await node.close()
    await server.stop()


INVOICE = encode_invoice(b"\1" * 32, 10, bytes(32), bytes(32), "", 1_700_000_000, 60)
MADE = [
    ("another amount", {"bolt11": INVOICE, "payment_hash": HASH}, 9),
    ("another hash", {"bolt11": INVOICE, "payment_hash": "11" * 32}, 10),
    ("no invoice", {"bolt11": "lnbc1", "payment_hash": HASH}, 10),
    ("no text", {"bolt11": 5, "payment_hash": HASH}, 10),
]


@pytest.mark.parametrize(("made", "amount"), [row[1:] for row in MADE], ids=[row[0] for row in MADE])
async def test_an_invoice_that_is_not_what_was_asked_for_is_not_sold(made: dict[str, Any], amount: int) -> None:
    node, server = await scripted((201, made))
    with pytest.raises(LightningUnavailable):
        await node.create_invoice(amount, "", 60)
    await node.close()
    await server.stop()


async def test_the_same_payment_again_ends_the_stream() -> None:
    node, server = await scripted((201, GOOD))
    stream = node.settled(2)
    assert (await anext(stream)).position == 3
    with pytest.raises(LightningUnavailable):
        await anext(stream)
    await node.close()
    await server.stop()


FILES: list[tuple[str, str, str | None]] = [
    ("", RUNE, None),
    ("https://x", "", None),
    ("https://x", "two words", None),
    ("https://x", "rüne", None),
    ("http://x", RUNE, "cert"),
    ("https://x", RUNE, "absent"),
    ("https://x", RUNE, "empty"),
    ("https://x", RUNE, "rune"),
]


@pytest.mark.parametrize(("url", "rune", "certificate"), FILES)
def test_settings_that_cannot_work_refuse_to_start(
    tmp_path: Path, url: str, rune: str, certificate: str | None
) -> None:
    (tmp_path / "rune").write_text(RUNE)
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationError) as refused:
        ClnNode.open(url, rune, certificate and tmp_path / certificate)  # type: ignore[arg-type]
    assert "PENNYPOST_CLN_" in str(refused.value)
    assert str(tmp_path) not in str(refused.value) and (not rune or rune not in str(refused.value))


def test_another_node_has_another_till() -> None:
    first, second = ClnNode("https://a", RUNE, None), ClnNode("https://b", RUNE, None)
    assert first.till != second.till
    assert len(first.till) <= 32


def channel(msat: int, state: str, **more: str) -> dict[str, Any]:
    return {
        "peer_id": "02" + HASH,
        "our_amount_msat": msat,
        "amount_msat": 10_000_000,
        "funding_txid": HASH,
        "funding_output": 0,
        "connected": True,
        "state": state,
        "channel_id": HASH,
    } | more


async def test_the_balance_is_what_lies_in_open_channels(
    node: ClnNode, book: ClnRest, server: HttpServer, files: Certificates
) -> None:
    book.channels = [
        channel(5_000, "CHANNELD_NORMAL", short_channel_id="103x1x0"),
        channel(2_000, "CHANNELD_NORMAL", short_channel_id="104x1x0"),
        channel(8_000, "CHANNELD_AWAITING_LOCKIN"),
        channel(9_000, "ONCHAIN", short_channel_id="105x1x0"),
    ]
    assert await node.balance() == 7
    refused = ClnNode.open(server.url, "another-rune", files.ca)
    assert await refused.balance() is None
    await refused.close()


# What the stand-in is held against: it must be able to tell.

UNPAID = {"label": "x", "payment_hash": HASH, "status": "unpaid", "expires_at": 1, "created_index": 1, "bolt11": "ln"}
ORDER = {"amount_msat": 1_000, "label": "x", "description": "d", "expiry": 60}
JUDGED: list[tuple[str, str, dict[str, Any], int, Any, bool]] = [
    ("paid", "listinvoices", {"payment_hash": HASH}, 201, {"invoices": [GOOD]}, True),
    ("unpaid", "listinvoices", {"payment_hash": HASH}, 201, {"invoices": [UNPAID]}, True),
    ("waited for", "waitanyinvoice", {"lastpay_index": 0, "timeout": 60}, 201, GOOD, True),
    ("timed out", "waitanyinvoice", {"timeout": 60}, 500, {"code": 904, "message": ""}, True),
    ("a parameter nobody knows", "invoice", ORDER | {"amount": 1}, 500, {"code": -32602, "message": ""}, False),
    ("no label", "invoice", {"amount_msat": 1, "description": ""}, 500, {"code": -32602, "message": ""}, False),
    ("an amount as text", "invoice", ORDER | {"amount_msat": "1sat"}, 500, {"code": -32602, "message": ""}, False),
    ("unpaid, with an amount received", "listinvoices", {}, 201, {"invoices": [GOOD | {"status": "unpaid"}]}, False),
    ("paid, without an index", "waitanyinvoice", {}, 201, UNPAID | {"status": "paid"}, False),
    ("unpaid, waited for", "waitanyinvoice", {}, 201, UNPAID, False),
    ("a hash in upper case", "listinvoices", {}, 201, {"invoices": [UNPAID | {"payment_hash": "AA" * 32}]}, False),
    ("another status", "listinvoices", {}, 200, {"invoices": []}, False),
    ("a code of another method", "listinvoices", {}, 500, {"code": 904, "message": ""}, False),
    ("another method", "pay", {}, 201, {}, False),
]


@pytest.mark.parametrize(
    ("name", "parameters", "status", "answer", "fits"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED]
)
def test_what_is_published_tells_right_from_wrong(
    name: str, parameters: dict[str, Any], status: int, answer: Any, fits: bool
) -> None:
    assert (judge("POST", f"/v1/{name}", parameters, status, answer) == []) is fits


READ = [
    ("invoice", clns._Made),
    ("listinvoices", clns._List),
    ("waitanyinvoice", clns._Found),
    ("listfunds", clns._Funds),
]


@pytest.mark.parametrize(("name", "read"), READ, ids=[row[0] for row in READ])
def test_the_adapter_needs_nothing_that_is_not_published(name: str, read: type[msgspec.Struct]) -> None:
    needed = {field.name for field in msgspec.structs.fields(read) if field.required}
    response = METHODS[name].response
    for each in response.get("oneOf", [response]):
        assert needed <= set(each["required"])
