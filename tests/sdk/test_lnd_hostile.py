"""A node that lies, stalls, floods or is another one: nothing counts as paid that is not proved, nothing is paid twice.

What a real node answers is in tests/interop/test_wallet_payments.py.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, lnd
from pennypost.lightning import Stage
from pennypost.lnd import LndWallet
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    PaymentFailed,
    PaymentUnknown,
    PennypostError,
    WalletError,
    WalletRefuses,
    WalletUnreachable,
)
from tests.support.http import HttpServer, Request, certificates

K = b"\7" * 32
HASH = sha256(K).digest()
MACAROON = b"\xaa" * 32


NOW = int(time.time())


def invoice(msat: int = 7_000, payment_hash: bytes = HASH) -> str:
    # The same text at every call, and payable however long after its import the test runs.
    return write_invoice(b"\1" * 32, msat, payment_hash, b"\2" * 32, "", NOW, 30 * 86_400)


class Node:
    """LND's REST interface as a test wants it: answers by the beginning of the path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []
        self.macaroons: set[str] = set()
        self.server = HttpServer(self.answer)

    async def answer(self, request: Request) -> tuple[int, Any]:
        self.asked.append(f"{request.method} {request.path}")
        self.macaroons.add(request.headers.get("grpc-metadata-macaroon", ""))
        return next(
            (found for path, found in self.answers.items() if request.path.startswith(path)), (404, {"code": 5})
        )

    def payments(self) -> int:
        """How often it was told to pay."""
        return self.asked.count("POST /v2/router/send")


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    await made.server.start()
    yield made
    await made.server.stop()


@pytest.fixture
async def wallet(node: Node) -> AsyncIterator[LndWallet]:
    made = LndWallet(node.server.url, MACAROON, None)
    yield made
    await made.close()


def line(**result: Any) -> bytes:
    import json

    return json.dumps({"result": result}).encode() + b"\n"


WRONG = line(status="SUCCEEDED", payment_preimage="08" * 32, fee_msat="0")
RIGHT = line(status="SUCCEEDED", payment_preimage=K.hex(), fee_msat="1")
LIES: dict[str, tuple[tuple[int, Any], type[PennypostError]]] = {
    "the preimage of something else": ((200, WRONG), PaymentUnknown),
    "no preimage": ((200, line(status="SUCCEEDED", payment_preimage="")), PaymentUnknown),
    "a preimage in no hex": ((200, line(status="SUCCEEDED", payment_preimage="zz" * 32)), PaymentUnknown),
    "a fee that is none": ((200, line(status="SUCCEEDED", payment_preimage=K.hex(), fee_msat="-1")), PaymentUnknown),
    "a fee in other digits": ((200, line(status="SUCCEEDED", payment_preimage=K.hex(), fee_msat="١")), PaymentUnknown),
    "stuck": ((200, line(status="IN_FLIGHT") * 3), PaymentUnknown),
    "a status of its own": ((200, line(status="PAID")), PaymentUnknown),
    "an empty line": ((200, b"\n"), PaymentUnknown),
    "garbage": ((200, b"<html>\n"), PaymentUnknown),
    "deep": ((200, b"[" * 100_000 + b"\n"), PaymentUnknown),
    "wrong types": ((200, b'{"result": [1]}\n'), PaymentUnknown),
    "a line without end": ((200, b"x" * (lnd.ANSWER_LIMIT + 1)), PaymentUnknown),
    "packed": ((200, gzip.compress(RIGHT)), PaymentUnknown),
    "failed": ((200, line(status="FAILED")), PaymentFailed),
    "locked": ((503, {"code": 14}), WalletUnreachable),
    "refused": ((403, {"code": 7, "message": "secret words"}), PaymentFailed),
    "a refusal of a megabyte": ((500, b"x" * 2_000_000), PaymentFailed),
}


@pytest.mark.parametrize("how", LIES)
async def test_what_is_not_proved_is_not_paid(
    node: Node, wallet: LndWallet, client: Callable[..., AsyncClient], how: str
) -> None:
    answer, error = LIES[how]
    node.answers["/v2/router/send"] = answer
    payer = client(lightning=wallet).payments
    with pytest.raises(error) as found:
        await payer.pay(invoice(), 7_000)
    assert "secret" not in str(found.value)
    if error is not PaymentUnknown:
        return
    # It may have been paid: the node is asked what became of it, and not told to pay again while it does not say.
    for track in (answer, (500, b"")):
        node.answers["/v2/router/track"] = track
        with pytest.raises(PaymentUnknown):
            await payer.pay(invoice(), 7_000)
    assert node.payments() == 1
    node.answers["/v2/router/track"] = (200, RIGHT)
    assert (await payer.pay(invoice(), 7_000)).preimage == K
    assert node.payments() == 1 and node.macaroons == {MACAROON.hex()}


async def test_a_node_that_is_slow(
    node: Node, wallet: LndWallet, client: Callable[..., AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    payer = client(lightning=wallet).payments
    node.server.freeze()
    with monkeypatch.context() as impatient:
        impatient.setattr(lnd, "ASKING", 1.0)
        with pytest.raises(PaymentUnknown):
            await payer.pay(invoice(), 7_000, timeout=0.2)
        for work in (wallet.balance(), wallet.invoice(HASH), wallet.settle(K), wallet.make_invoice(1_000)):
            with pytest.raises(WalletUnreachable):
                await work
    node.server.thaw()
    node.answers["/v2/router/track"] = (200, RIGHT)
    assert (await payer.pay(invoice(), 7_000)).preimage == K
    assert node.payments() <= 1


async def test_drops_of_an_answer_have_a_limit(node: Node, wallet: LndWallet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lnd, "ASKING", 1.0)

    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    node.answers["/v1/balance"] = (200, drops())
    # The whole answer, 100,000 drops, would take more than a quarter of an hour.
    async with asyncio.timeout(60):
        with pytest.raises(WalletUnreachable):
            await wallet.balance()


ANSWERS: dict[str, tuple[int, bytes]] = {
    "garbage": (200, b"<html>"),
    "empty": (200, b""),
    "a list": (200, b"[]"),
    "deep": (200, b"[" * 100_000),
    "huge": (200, b" " * (lnd.ANSWER_LIMIT + 1)),
    "packed": (200, gzip.compress(b"{}")),
    "wrong types": (200, b'{"payment_request": 7, "local_balance": "x", "r_hash": 1}'),
    "numbers that are none": (200, b'{"local_balance": {"msat": "1e9"}, "r_hash": "", "state": "SETTLED",'
                                   b' "amt_paid_msat": "-5", "payment_request": "lnbc1x"}'),
    "a redirect": (302, b"{}"),
    "an error": (500, b'{"code": 2, "message": "secret words"}'),
}  # fmt: skip


@pytest.mark.parametrize("how", ANSWERS)
async def test_answers_that_are_none(node: Node, wallet: LndWallet, how: str) -> None:
    node.answers["/"] = ANSWERS[how]
    for work in (wallet.balance(), wallet.invoice(HASH), wallet.make_invoice(1_000), wallet.make_invoice(1, hold=True)):
        with pytest.raises(WalletError) as found:
            await work
        assert "secret" not in str(found.value)
    with pytest.raises((PaymentUnknown, PaymentFailed)):
        await wallet.pay(invoice(), max_fee_msat=0, timeout=1)


async def test_an_invoice_that_was_not_ordered(node: Node, wallet: LndWallet) -> None:
    for request in (invoice(1_001), invoice(1_000, b"\3" * 32)):
        node.answers["/v1/invoices"] = (200, {"payment_request": request})
        with pytest.raises(WalletError):
            await wallet.make_invoice(1_000, preimage=K)
    node.answers["/v1/invoices"] = (200, {"payment_request": invoice(1_000)})
    made = await wallet.make_invoice(1_000, preimage=K)
    assert parse_invoice(made.request).payment_hash == HASH and made.preimage == K


async def test_a_refused_settlement_counts_only_where_it_was_settled(node: Node, wallet: LndWallet) -> None:
    node.answers["/v2/invoices/settle"] = (400, {"code": 2})
    for state, stage in (("ACCEPTED", Stage.HELD), ("OPEN", Stage.OPEN), ("NEW", Stage.OPEN), ("SETTLED", None)):
        node.answers["/v1/invoice/"] = (200, {"r_hash": "", "state": state, "amt_paid_msat": "7000"})
        if stage is None:
            await wallet.settle(K)
        else:
            with pytest.raises(WalletRefuses):
                await wallet.settle(K)
            assert (await wallet.invoice(HASH))[0] is stage


async def test_another_certificate_gets_no_macaroon(node: Node, tmp_path: Path) -> None:
    """The macaroon pays: it is shown to the node whose certificate is in the link, and to nobody else."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours, other = certificates(tmp_path / "a", "localhost"), certificates(tmp_path / "b", "localhost")
    secure = Node()
    secure.server = HttpServer(secure.answer, other.context)
    await secure.server.start()
    for certificate in (ours.server.read_bytes(), None):
        wallet = LndWallet(secure.server.url, MACAROON, certificate)
        for work in (wallet.balance(), wallet.pay(invoice(), max_fee_msat=0, timeout=1)):
            with pytest.raises(WalletUnreachable):
                await work
        await wallet.close()
    assert secure.asked == []
    right = LndWallet(secure.server.url, MACAROON, other.server.read_bytes())
    secure.answers["/v1/balance"] = (200, {"local_balance": {"msat": "5"}})
    assert await right.balance() == 5
    await right.close()
    await secure.server.stop()
    assert isinstance(other.context, ssl.SSLContext)


async def test_a_keysend_is_proved_too(node: Node, wallet: LndWallet, client: Callable[..., AsyncClient]) -> None:
    payer = client(lightning=wallet).payments
    node.answers["/v2/router/send"] = (200, WRONG)
    with pytest.raises(PaymentUnknown):
        await payer.keysend(b"\2" * 33, 1_000, {34349334: b"x"}, K)
    with pytest.raises(PaymentUnknown):
        node.answers["/v2/router/track"] = (200, WRONG)
        await payer.keysend(b"\2" * 33, 1_000, {34349334: b"x"}, K)
    node.answers["/v2/router/track"] = (200, RIGHT)
    assert (await payer.keysend(b"\2" * 33, 1_000, {34349334: b"x"}, K)).fee_msat == 1
    assert node.payments() == 1
