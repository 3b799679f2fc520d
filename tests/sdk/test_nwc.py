"""Nostr Wallet Connect on the client's side: a wallet and a relay that do what a test says.

A wallet of somebody else is in tests/interop/test_wallet_payments.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from pennypost import nwc
from pennypost.lightning import Stage
from pennypost.nwc import NwcWallet
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    PaymentFailed,
    PaymentUnknown,
    WalletCannot,
    WalletError,
    WalletRefuses,
    WalletUnreachable,
)
from pennypost.transport import NetworkTransport
from tests.support.ports import free_port
from tests.support.scripted_wallet import ScriptedWallet, condition

K = b"\5" * 32
HASH = sha256(K).digest()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedWallet]:
    opened = ScriptedWallet()
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
async def wallet(scripted: ScriptedWallet) -> AsyncIterator[NwcWallet]:
    transport = NetworkTransport()
    opened = NwcWallet(scripted.link, transport)
    yield opened
    await opened.close()
    await transport.close()


def invoice(msat: int = 21_000, payment_hash: bytes = HASH) -> str:
    now = int(time.time())
    return write_invoice(b"\7" * 32, msat, payment_hash, b"\1" * 32, "tea", now, 600)


async def test_an_invoice_is_paid_and_found_again(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    scripted.preimages[HASH.hex()] = K
    paid = await wallet.pay(invoice(), max_fee_msat=0)
    assert (paid.preimage, paid.fee_msat) == (K, 7)
    assert await wallet.payment(HASH) == paid
    assert scripted.encryptions == ["nip44_v2", "nip44_v2"]
    assert scripted.requests[0][0] == "pay_invoice" and scripted.opened == 1


async def test_everything_else_a_wallet_does(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    assert await wallet.balance() == 77_000
    assert (await wallet.info()).network == "regtest"
    made = await wallet.make_invoice(1_234, description_hash=b"\6" * 32, expiry=60)
    read = parse_invoice(made.request)
    assert (read.amount_msat, read.description_hash, made.hold, made.preimage) == (1_234, b"\6" * 32, False, None)
    assert await wallet.invoice(made.payment_hash) == (Stage.OPEN, 0)
    scripted.pay(made.payment_hash, 1_234)
    assert await wallet.invoice(made.payment_hash) == (Stage.SETTLED, 1_234)
    assert await wallet.invoice(b"\0" * 32) == (Stage.OVER, 0)
    done = await wallet.keysend(b"\2" * 33, 10_000, {34349334: b"hello"}, bytes([7]) * 32)
    assert (len(done.preimage), done.fee_msat) == (32, 3)
    assert scripted.requests[-1][1]["tlv_records"] == [{"type": 34349334, "value": b"hello".hex()}]


async def test_a_preset_preimage_makes_a_hold_invoice(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    made = await wallet.make_invoice(5_000, preimage=K)
    assert made.hold and made.payment_hash == HASH and parse_invoice(made.request).payment_hash == HASH
    assert scripted.requests[-1][0] == "make_hold_invoice" and K.hex() not in json.dumps(scripted.requests)
    scripted.invoices[HASH.hex()]["state"] = "accepted"
    assert await wallet.invoice(HASH) == (Stage.HELD, 5_000)
    await wallet.settle(K)
    assert (await wallet.invoice(HASH))[0] is Stage.SETTLED
    other = await wallet.make_invoice(5_000, hold=True)
    await wallet.cancel(other.payment_hash)
    assert (await wallet.invoice(other.payment_hash))[0] is Stage.OVER


async def test_a_preimage_that_the_wallet_shows(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    request = invoice(9_000)
    scripted.results["make_invoice"] = {"invoice": request, "payment_hash": HASH.hex(), "preimage": K.hex()}
    assert (await wallet.make_invoice(9_000)).preimage == K
    scripted.results["make_invoice"]["preimage"] = "00" * 32
    assert (await wallet.make_invoice(9_000)).preimage is None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("INSUFFICIENT_BALANCE", PaymentFailed),
        ("QUOTA_EXCEEDED", WalletRefuses),
        ("RESTRICTED", WalletRefuses),
        ("UNAUTHORIZED", WalletRefuses),
        ("NOT_IMPLEMENTED", WalletCannot),
        ("RATE_LIMITED", WalletUnreachable),
        ("PAYMENT_FAILED", PaymentFailed),
        ("INTERNAL", PaymentFailed),
        ("no code at all", PaymentFailed),
    ],
)
async def test_refusals(wallet: NwcWallet, scripted: ScriptedWallet, code: str, error: type[WalletError]) -> None:
    scripted.results["pay_invoice"] = {"error": {"code": code, "message": "secret words"}}
    with pytest.raises(error) as found:
        await wallet.pay(invoice(), max_fee_msat=0)
    assert not isinstance(found.value, PaymentUnknown) and "secret" not in str(found.value)


@pytest.mark.parametrize("state", ["pending", "accepted"])
async def test_failed_by_a_timeout_may_still_be_under_way(
    wallet: NwcWallet, scripted: ScriptedWallet, state: str
) -> None:
    scripted.results["pay_invoice"] = {"error": {"code": "PAYMENT_FAILED", "message": ""}}
    scripted.invoices[HASH.hex()] = {"type": "outgoing", "state": state, "payment_hash": HASH.hex()}
    with pytest.raises(PaymentUnknown):
        await wallet.pay(invoice(), max_fee_msat=0)
    scripted.invoices[HASH.hex()]["state"] = "failed"
    with pytest.raises(PaymentFailed):
        await wallet.pay(invoice(), max_fee_msat=0)


@pytest.mark.parametrize("result", [{}, {"preimage": "00" * 32}, {"preimage": 1}, {"preimage": "zz"}, [], 7])
async def test_an_answer_that_proves_nothing_is_not_a_payment(
    wallet: NwcWallet, scripted: ScriptedWallet, result: Any
) -> None:
    scripted.results["pay_invoice"] = {"result": result}
    with pytest.raises(PaymentUnknown):
        await wallet.pay(invoice(), max_fee_msat=0)


@pytest.mark.parametrize("how", ["silent", "relay dies"])
async def test_silence_is_not_failure(wallet: NwcWallet, scripted: ScriptedWallet, how: str) -> None:
    scripted.silent = True
    paying = asyncio.ensure_future(wallet.pay(invoice(), max_fee_msat=0, timeout=2 if how == "silent" else 30))
    await condition(lambda: scripted.requests)
    if how == "relay dies":
        await scripted.cut()
    with pytest.raises(PaymentUnknown):
        await paying


async def test_a_relay_that_refuses_the_request(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    scripted.refuse = "blocked: no"
    with pytest.raises(WalletUnreachable):
        await wallet.pay(invoice(), max_fee_msat=0)


async def test_what_the_wallet_does_not_offer_is_not_asked(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    info = scripted.event(13194, "make_invoice", [["encryption", "nip44_v2"]])
    scripted.info = lambda: info  # type: ignore[method-assign]
    with pytest.raises(WalletCannot):
        await wallet.pay(invoice(), max_fee_msat=0)
    with pytest.raises(WalletCannot):
        await wallet.make_invoice(1_000, preimage=K)
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("tags", "spoken"),
    [([["encryption", "nip44_v2 nip04"]], "nip44_v2"), ([["encryption", "nip04"]], "nip04"), ([], "nip04")],
)
async def test_encryption_is_negotiated(
    wallet: NwcWallet, scripted: ScriptedWallet, tags: list[list[str]], spoken: str
) -> None:
    scripted.info_tags = tags
    scripted.preimages[HASH.hex()] = K
    assert (await wallet.pay(invoice(), max_fee_msat=0)).preimage == K
    assert scripted.encryptions == [spoken]


async def test_the_next_relay_is_tried(scripted: ScriptedWallet) -> None:
    transport = NetworkTransport()
    link = replace(scripted.link, relays=(f"ws://127.0.0.1:{free_port()}", scripted.url))
    wallet = NwcWallet(link, transport)
    assert await wallet.balance() == 77_000
    await scripted.stop()
    with pytest.raises(WalletUnreachable):
        await wallet.balance()
    await scripted.start()
    assert await wallet.balance() == 77_000
    await wallet.close()
    await transport.close()


async def test_a_relay_that_asks_who_we_are(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    scripted.needs_auth = True
    assert await wallet.balance() == 77_000
    assert [each.pubkey for each in scripted.authenticated] == [wallet._session.public_key]


@pytest.mark.parametrize("kind", [23197, 23196])
async def test_payments_with_what_the_payer_wrote(wallet: NwcWallet, scripted: ScriptedWallet, kind: int) -> None:
    if kind == 23196:
        scripted.info_tags = [["notifications", "payment_received"]]
    stream = wallet.received()
    waiting = asyncio.ensure_future(anext(stream))
    await condition(lambda: wallet._line is not None and wallet._line._listeners)
    metadata = {"comment": "ppn1hello", "tlv_records": [{"type": 34349334, "value": "6869"}, {"type": "x"}, 7]}
    told = {"type": "incoming", "payment_hash": HASH.hex(), "amount": 5_000, "metadata": metadata}
    await scripted.tell({**told, "type": "outgoing"}, kind=kind)
    await scripted.tell(told, kind=kind)
    received = await asyncio.wait_for(waiting, 20)
    assert (received.payment_hash, received.msat) == (HASH, 5_000)
    assert (received.comment, received.records) == ("ppn1hello", {34349334: b"hi"})
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        7,
        "x",
        [],
        {"comment": 7},
        {"comment": "x" * 60_000},
        {"tlv_records": 7},
        {"tlv_records": [{"type": True, "value": "0"}]},
        {"tlv_records": [{"type": 1, "value": "00" * 5_000}]},
    ],
)
async def test_metadata_of_every_shape(wallet: NwcWallet, scripted: ScriptedWallet, metadata: Any) -> None:
    stream = wallet.received()
    waiting = asyncio.ensure_future(anext(stream))
    await condition(lambda: wallet._line is not None and wallet._line._listeners)
    await scripted.tell({"payment_hash": HASH.hex(), "amount": 1, "metadata": metadata})
    received = await asyncio.wait_for(waiting, 20)
    assert len(received.comment) <= 4_096 and received.records == {}
    await stream.aclose()  # type: ignore[attr-defined]


async def test_strangers_noise_changes_nothing(wallet: NwcWallet, scripted: ScriptedWallet) -> None:
    stranger = secrets.token_bytes(31).rjust(32, b"\1")
    forged = scripted.event(23195, "x", [["p", wallet._session.public_key]], key=stranger)
    scripted.noise = ["", "[]", '["OK"]', json.dumps(["EVENT", "answers", {"id": 1}]), "[" * 10_000]
    scripted.noise.append(json.dumps(["EVENT", "answers", {n: getattr(forged, n) for n in forged.__struct_fields__}]))
    assert await wallet.balance() == 77_000


async def test_a_relay_that_sends_only_noise_is_left(
    wallet: NwcWallet, scripted: ScriptedWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nwc, "NONSENSE", 10)
    scripted.noise = ['["NOTICE","x"]'] * 20
    with pytest.raises(WalletUnreachable):
        await wallet.balance()
    scripted.noise = []
    assert await wallet.balance() == 77_000


@pytest.mark.parametrize("result", [{"balance": -1}, {"balance": "7"}, {"balance": 2**70}, [], {}])
async def test_a_balance_that_is_none(wallet: NwcWallet, scripted: ScriptedWallet, result: Any) -> None:
    scripted.results["get_balance"] = {"result": result}
    with pytest.raises(WalletError):
        await wallet.balance()


async def test_the_link_is_shown_nowhere(
    wallet: NwcWallet, scripted: ScriptedWallet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await wallet.balance()
    shown = repr(wallet) + repr(wallet._session.link) + caplog.text
    assert scripted.client.hex() not in shown
