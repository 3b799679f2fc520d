"""Core Lightning: against its published schema, since no such node runs here; and what a broken one could answer.

What every adapter must hold, this one too, is in `test_tills`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import Progress
from pennypost_mint.lightning import cln as clns
from pennypost_mint.lightning.bolt11 import encode_invoice
from pennypost_mint.lightning.cln import ClnNode
from tests.support.cln import RUNE, ClnRest
from tests.support.http import Certificates, HttpServer, Request, certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """As clnrest makes them: for localhost, not for the address they are used at."""
    return certificates(tmp_path_factory.mktemp("cln"), "cln", "localhost")


@pytest.fixture
async def book() -> ClnRest:
    return ClnRest()


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


async def test_the_balance_is_what_lies_in_open_channels(
    node: ClnNode, book: ClnRest, server: HttpServer, files: Certificates
) -> None:
    book.channels = [
        {"our_amount_msat": 5_000, "state": "CHANNELD_NORMAL"},
        {"our_amount_msat": "2000msat", "state": "CHANNELD_NORMAL"},
        {"our_amount_msat": 9_000, "state": "ONCHAIN"},
    ]
    assert await node.balance() == 7
    refused = ClnNode.open(server.url, "another-rune", files.ca)
    assert await refused.balance() is None
    await refused.close()
