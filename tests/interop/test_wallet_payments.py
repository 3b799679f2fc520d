"""Payments of a client by real wallets: LND itself, and @getalby/sdk's wallet service, before nodes of the bed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path

import pytest

from pennypost import AsyncClient
from pennypost.lightning import Stage, Wallet, open_wallet
from pennypost.lnd import LndWallet
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import PaymentFailed, PaymentUnknown, WalletError, WalletUnreachable
from pennypost.transport import NetworkTransport
from tests.support.lightning import LightningBed
from tests.support.server import Server
from tests.support.wallets import AlbyWallet

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]


def lnd_link(bed: LightningBed, node: str) -> str:
    """A link with every right at one of the bed's nodes."""
    found = bed.nodes[node]
    return f"lnd+{found['rest']}?macaroon={bed.admin_macaroon(node)}&cert={found['tls_cert']}"


@pytest.fixture
async def nodes(lightning_bed: LightningBed) -> AsyncIterator[dict[str, Wallet]]:
    transport = NetworkTransport()
    opened = {name: open_wallet(lnd_link(lightning_bed, name), transport) for name in ("payer", "office")}
    yield opened
    for wallet in opened.values():
        await wallet.close()
    await transport.close()


async def held(wallet: Wallet, payment_hash: bytes) -> None:
    async with asyncio.timeout(30):
        while (await wallet.invoice(payment_hash))[0] is not Stage.HELD:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("payer", "payee"), [("payer", "office"), ("office", "payer")])
async def test_a_preset_preimage_in_both_directions(nodes: dict[str, Wallet], payer: str, payee: str) -> None:
    preimage = secrets.token_bytes(32)
    made = await nodes[payee].make_invoice(21_000, description_hash=b"\6" * 32, preimage=preimage)
    assert parse_invoice(made.request).description_hash == b"\6" * 32 and not made.hold
    assert await nodes[payer].payment(made.payment_hash) is None
    paid = await nodes[payer].pay(made.request, max_fee_msat=10_000)
    assert (paid.preimage, paid.fee_msat) == (preimage, 0)
    assert await nodes[payer].payment(made.payment_hash) == paid
    assert await nodes[payee].invoice(made.payment_hash) == (Stage.SETTLED, 21_000)
    # Told again, the node says that it is paid; its books give the same preimage.
    assert await nodes[payer].pay(made.request, max_fee_msat=10_000) == paid


@pytest.mark.parametrize("end", ["settled", "given back"])
async def test_a_hold_invoice(nodes: dict[str, Wallet], end: str) -> None:
    preimage = secrets.token_bytes(32)
    made = await nodes["office"].make_invoice(5_000, preimage=preimage, hold=True)
    assert made.hold and made.payment_hash == sha256(preimage).digest()
    with pytest.raises(WalletError):
        await nodes["office"].settle(preimage)
    paying = asyncio.ensure_future(nodes["payer"].pay(made.request, max_fee_msat=10_000))
    await held(nodes["office"], made.payment_hash)
    with pytest.raises(PaymentUnknown):
        await nodes["payer"].payment(made.payment_hash)
    if end == "settled":
        await nodes["office"].settle(preimage)
        await nodes["office"].settle(preimage)
        assert (await paying).preimage == preimage
    else:
        await nodes["office"].cancel(made.payment_hash)
        with pytest.raises(PaymentFailed):
            await paying
        assert (await nodes["office"].invoice(made.payment_hash))[0] is Stage.OVER


async def test_a_hold_that_nobody_takes_is_not_a_failure(nodes: dict[str, Wallet]) -> None:
    made = await nodes["office"].make_invoice(5_000, hold=True)
    with pytest.raises((PaymentUnknown, PaymentFailed)):
        async with asyncio.timeout(60):
            paying = asyncio.ensure_future(nodes["payer"].pay(made.request, max_fee_msat=10_000, timeout=10))
            await held(nodes["office"], made.payment_hash)
            with pytest.raises(PaymentUnknown):
                await nodes["payer"].payment(made.payment_hash)
            await nodes["office"].cancel(made.payment_hash)
            await paying


async def test_keysend_brings_its_records(nodes: dict[str, Wallet], lightning_bed: LightningBed) -> None:
    stream = nodes["office"].received()
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    key = bytes.fromhex(lightning_bed.nodes["office"]["pubkey"])
    async with asyncio.timeout(60):
        while not waiting.done():
            # Until the stream is open, LND tells it nothing.
            await nodes["payer"].keysend(key, 2_000, {34349334: b"hello"}, secrets.token_bytes(32))
            await asyncio.wait({waiting}, timeout=1)
    received = waiting.result()
    assert received.msat == 2_000 and received.records[34349334] == b"hello"
    await stream.aclose()  # type: ignore[attr-defined]


async def test_balances_and_what_is_not_there(nodes: dict[str, Wallet], lightning_bed: LightningBed) -> None:
    assert await nodes["payer"].balance() > 1_000_000
    assert await nodes["office"].invoice(b"\1" * 32) == (Stage.OVER, 0)
    assert await nodes["office"].payment(b"\1" * 32) is None
    node = lightning_bed.nodes["office"]
    stranger = LndWallet(node["rest"], b"\0", Path(node["tls_cert"]).read_bytes())
    nobody = LndWallet("https://127.0.0.1:1", b"\0", None)
    for wallet, error in ((stranger, WalletError), (nobody, WalletUnreachable)):
        with pytest.raises(error):
            await wallet.balance()
        await wallet.close()


async def test_stamps_bought_by_a_wallet_of_somebody_else(
    serve: Callable[..., Server], lightning_bed: LightningBed, tmp_path: Path
) -> None:
    """The mint is paid at LND; the buyer's wallet is @getalby/sdk's, reached over the post office itself."""
    server = await asyncio.to_thread(serve, settings=lightning_bed.settings)
    relay = server.url.replace("http", "ws")
    payer = lightning_bed.nodes["payer"]
    alby = AlbyWallet(relay, payer, log=tmp_path / "alby.log", macaroon=lightning_bed.admin_macaroon("payer"))
    await asyncio.to_thread(alby.start)
    try:
        async with AsyncClient(server.url, tmp_path / "alice", lightning=alby.uri) as alice:
            assert (await alice.payments.wallet.balance()) > 0
            await alice.stamps.buy(5, pay=True)
            assert await alice.stamps.balance() == 5
        async with AsyncClient(server.url, tmp_path / "alice", lightning=alby.uri) as again:
            await again.stamps.buy(3, pay=True)
            assert await again.stamps.balance() == 8
    finally:
        alby.kill()
    assert alby.uri.partition("secret=")[2][:64] not in server.log.read_text()
