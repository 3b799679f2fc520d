"""The Lightning port: play money, links, and what every wallet must do."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Sandbox
from pennypost.lightning import Made, Stage, check_made, fee_limit, open_wallet, read_link
from pennypost.lnd import LndWallet
from pennypost.nwc import NwcWallet
from pennypost.play import FUNDS, PlayBook, PlayWallet
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.errors import (
    AlreadyPaid,
    InvalidWalletLink,
    InvoiceMismatch,
    NoWallet,
    OfferExpired,
    PaymentFailed,
    PaymentUnknown,
    PennypostError,
    WalletError,
    WalletRefuses,
)
from pennypost.transport import NetworkTransport

Make = Callable[..., AsyncClient]
K, SECOND = secrets.token_bytes(32), secrets.token_bytes(32)
LINK = "nostr+walletconnect://" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
SECRET = "1" * 64


@pytest.fixture
def book() -> PlayBook:
    return PlayBook()


async def paid(wallet: PlayWallet, made: Made, **options: Any) -> bytes:
    return (await wallet.pay(made.request, max_fee_msat=0, **options)).preimage


async def test_play_money_moves_to_the_msat(book: PlayBook) -> None:
    alice, bob = book.wallet(), book.wallet("bob")
    made = await bob.make_invoice(12_345, description="tea")
    invoice = parse_invoice(made.request)
    assert (invoice.amount_msat, invoice.description, invoice.network) == (12_345, "tea", "bcrt")
    assert await bob.invoice(made.payment_hash) == (Stage.OPEN, 0)
    assert sha256(await paid(alice, made)).digest() == made.payment_hash
    assert (await alice.balance(), await bob.balance()) == (FUNDS - 12_345, FUNDS + 12_345)
    assert await bob.invoice(made.payment_hash) == (Stage.SETTLED, 12_345)
    with pytest.raises(PaymentFailed):
        await paid(alice, made)
    found = await alice.payment(made.payment_hash)
    assert found is not None and found.preimage == made.preimage
    assert await bob.payment(made.payment_hash) is None


async def test_a_preset_preimage_is_what_the_payer_gets(book: PlayBook) -> None:
    alice, bob = book.wallet(), book.wallet()
    made = await bob.make_invoice(1_000, description_hash=b"\6" * 32, preimage=K)
    assert made.payment_hash == sha256(K).digest() and not made.hold
    assert parse_invoice(made.request).description_hash == b"\6" * 32
    assert await paid(alice, made) == K
    with pytest.raises(WalletRefuses):
        await bob.make_invoice(1_000, preimage=K)


@pytest.mark.parametrize("end", ["settled", "given back"])
async def test_a_hold_invoice_waits_for_its_receiver(book: PlayBook, end: str) -> None:
    alice, bob = book.wallet(), book.wallet()
    made = await bob.make_invoice(1_000, preimage=K, hold=True)
    with pytest.raises(WalletRefuses):
        await bob.settle(K)
    paying = asyncio.ensure_future(paid(alice, made))
    async with asyncio.timeout(30):
        while (await bob.invoice(made.payment_hash))[0] is not Stage.HELD:
            await asyncio.sleep(0)
    assert (await alice.balance(), await bob.balance()) == (FUNDS - 1_000, FUNDS)
    with pytest.raises(PaymentUnknown):
        await alice.payment(made.payment_hash)
    if end == "settled":
        await bob.settle(K)
        await bob.settle(K)
        assert await paying == K
        assert await bob.balance() == FUNDS + 1_000
    else:
        await bob.cancel(made.payment_hash)
        with pytest.raises(PaymentFailed):
            await paying
        assert (await alice.balance(), await bob.balance()) == (FUNDS, FUNDS)
        assert await alice.payment(made.payment_hash) is None


async def test_more_than_there_is_cannot_be_paid(book: PlayBook) -> None:
    alice, bob = book.wallet(), book.wallet()
    with pytest.raises(PaymentFailed):
        await paid(alice, await bob.make_invoice(FUNDS + 1))
    assert await alice.balance() == FUNDS


async def test_keysend_carries_records(book: PlayBook) -> None:
    alice, bob = book.wallet(), book.wallet()
    heard = bob.received()
    waiting = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(0)
    done = await alice.keysend(bob.node, 10_000, {34349334: b"hello"}, bytes([7]) * 32)
    received = await asyncio.wait_for(waiting, 30)
    assert (received.msat, received.records) == (10_000, {34349334: b"hello"})
    assert received.payment_hash == sha256(done.preimage).digest()
    with pytest.raises(PaymentFailed):
        await alice.keysend(b"\2" * 33, 1, {}, bytes([7]) * 32)
    await heard.aclose()  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_file_is_shared_by_programs(tmp_path: Path) -> None:
    transport = NetworkTransport()
    alice = open_wallet(f"play:{tmp_path / 'book'}?alice", transport)
    bob = open_wallet(f"play:{tmp_path / 'book'}?bob", transport)
    await alice.pay((await bob.make_invoice(5_000)).request, max_fee_msat=0)
    again = open_wallet(f"play:{tmp_path / 'book'}?bob", transport)
    assert await again.balance() == FUNDS + 5_000


async def test_links(tmp_path: Path) -> None:
    (tmp_path / "macaroon").write_bytes(b"m")
    transport = NetworkTransport()
    assert isinstance(open_wallet(f"{LINK}?relay=wss://r.example&secret={SECRET}", transport), NwcWallet)
    assert isinstance(open_wallet(f"lnd+https://localhost:1?macaroon={tmp_path / 'macaroon'}", transport), LndWallet)


@pytest.mark.parametrize(
    "link",
    [
        "",
        "x" * 5_000,
        "play:",
        "play:/nowhere/at/all?alice",
        "play:file?",
        "lnd+https://host:1",
        "lnd+https://host:1?macaroon=/nowhere",
        "lnd+https://u:secretword@host?macaroon=/etc/hostname",
        "lnd+https://host?macaroon=/etc/hostname&secretword=1",
        "lnd+https://host:99999?macaroon=/etc/hostname",
        f"{LINK}?relay=wss://r.example&secret=secretword",
    ],
)
def test_links_that_are_none_are_not_repeated(link: str) -> None:
    with pytest.raises(InvalidWalletLink) as found:
        open_wallet(link, NetworkTransport())
    assert "secretword" not in str(found.value)


def test_where_the_link_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENNYPOST_WALLET", "PENNYPOST_WALLET_FILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "wallet.link"
    file.write_text("play:book?file\n")
    assert read_link() is None
    assert read_link("play:book?given") == "play:book?given"
    assert read_link(str(file)) == "play:book?file"
    monkeypatch.setenv("PENNYPOST_WALLET_FILE", str(file))
    assert read_link() == "play:book?file"
    monkeypatch.setenv("PENNYPOST_WALLET", "play:book?environment")
    assert read_link() == "play:book?environment"
    with pytest.raises(InvalidWalletLink):
        read_link("no such file")


def test_fee_limit() -> None:
    assert [fee_limit(msat) for msat in (1_000, 1_000_000, 5_000_000)] == [10_000, 10_000, 50_000]


def test_what_a_wallet_makes_is_held_against_the_order() -> None:
    payment_hash = sha256(K).digest()
    request = write_invoice(b"\7" * 32, 1_000, payment_hash, b"\1" * 32, b"\2" * 32, int(time.time()), 60)
    check_made(request, 1_000, payment_hash, b"\2" * 32)
    for wrong in [(1_001, payment_hash, None), (1_000, b"\1" * 32, None), (1_000, None, b"\3" * 32)]:
        with pytest.raises(WalletError):
            check_made(request, *wrong)
    with pytest.raises(WalletError):
        check_made("lnbc1", 1_000, None, None)


# The journal


class Purse:
    """A wallet that does what a test says, and counts what it is told to pay."""

    def __init__(self, inner: PlayWallet) -> None:
        self.inner, self.told, self.late = inner, 0, 0
        self.fails: list[Exception] = []
        self.forgets = False

    async def pay(self, request: str, **options: Any) -> Any:
        self.told += 1
        if self.fails and isinstance(self.fails[0], PaymentUnknown):
            await self.inner.pay(request, **options)
        if self.fails:
            raise self.fails.pop(0)
        return await self.inner.pay(request, **options)

    async def keysend(self, *order: Any) -> Any:
        self.told += 1
        if self.fails and isinstance(self.fails[0], PaymentUnknown):
            await self.inner.keysend(*order)
        if self.fails:
            raise self.fails.pop(0)
        return await self.inner.keysend(*order)

    async def payment(self, payment_hash: bytes) -> Any:
        return None if self.forgets else await self.inner.payment(payment_hash)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_the_same_invoice_is_paid_once(client: Make, office: Sandbox) -> None:
    purse, bob = Purse(office.wallet()), office.wallet()  # pyright: ignore[reportArgumentType]
    alice = client(lightning=purse)
    made = await bob.make_invoice(7_000)
    first, second = await alice.payments.pay(made.request, 7_000), await alice.payments.pay(made.request, 7_000)
    assert (first, purse.told) == (second, 1)
    assert await bob.balance() == FUNDS + 7_000


async def test_after_silence_the_wallet_is_asked_not_told(client: Make, office: Sandbox, tmp_path: Path) -> None:
    purse, bob = Purse(office.wallet()), office.wallet()  # pyright: ignore[reportArgumentType]
    made = await bob.make_invoice(7_000)
    purse.fails = [PaymentUnknown()]
    with pytest.raises(PaymentUnknown):
        await client(tmp_path, lightning=purse).payments.pay(made.request, 7_000)
    again = client(tmp_path, lightning=purse)
    assert (await again.payments.pay(made.request, 7_000)).preimage == made.preimage
    assert purse.told == 1
    assert await bob.balance() == FUNDS + 7_000


async def test_what_the_wallet_forgot_is_not_tried_again_while_it_may_still_arrive(
    client: Make, office: Sandbox, tmp_path: Path
) -> None:
    now = [time.time()]
    purse, bob = Purse(office.wallet()), office.wallet()  # pyright: ignore[reportArgumentType]
    alice = client(tmp_path, lightning=purse, clock=lambda: now[0])
    made = await bob.make_invoice(7_000)
    purse.fails, purse.forgets, purse.late = [WalletError()], True, 900
    for _ in range(3):
        with pytest.raises(PaymentUnknown):
            await alice.payments.pay(made.request, 7_000)
    assert purse.told == 1
    now[0] += 901
    assert (await alice.payments.pay(made.request, 7_000)).preimage == made.preimage
    assert purse.told == 2 and await bob.balance() == FUNDS + 7_000


@pytest.mark.parametrize("error", [PaymentFailed(), WalletRefuses()])
async def test_after_a_refusal_the_same_invoice_may_be_tried_and_no_other(
    client: Make, office: Sandbox, error: PennypostError
) -> None:
    purse, bob = Purse(office.wallet()), office.wallet()  # pyright: ignore[reportArgumentType]
    alice = client(lightning=purse)
    preimage = secrets.token_bytes(32)
    made = await bob.make_invoice(7_000, preimage=preimage)
    purse.fails = [error]
    with pytest.raises(type(error)):
        await alice.payments.pay(made.request, 7_000)
    other = write_invoice(b"\7" * 32, 7_000, made.payment_hash, b"\1" * 32, "", int(time.time()), 600)
    with pytest.raises(AlreadyPaid):
        await alice.payments.pay(other, 7_000)
    assert (await alice.payments.pay(made.request, 7_000)).preimage == preimage
    with pytest.raises(AlreadyPaid):
        await alice.payments.pay(other, 7_000)
    assert purse.told == 2


async def test_an_unexplained_error_is_no_permission_to_pay_again(client: Make, office: Sandbox) -> None:
    purse = Purse(office.wallet())  # pyright: ignore[reportArgumentType]
    alice = client(lightning=purse)
    made = await office.wallet().make_invoice(7_000)
    purse.fails, purse.late = [WalletError()], 900
    for _ in range(2):
        with pytest.raises(PaymentUnknown):
            await alice.payments.pay(made.request, 7_000)
    assert purse.told == 1


async def test_nothing_is_paid_for_another_amount_or_too_late_or_without_a_wallet(
    client: Make, office: Sandbox
) -> None:
    purse = Purse(office.wallet())  # pyright: ignore[reportArgumentType]
    alice = client(lightning=purse)
    made = await office.wallet().make_invoice(7_000)
    with pytest.raises(InvoiceMismatch):
        await alice.payments.pay(made.request, 7_001)
    late = write_invoice(b"\7" * 32, 7_000, b"\1" * 32, b"\1" * 32, "", int(time.time()) - 600, 60)
    with pytest.raises(OfferExpired):
        await alice.payments.pay(late, 7_000)
    alice._lightning = None
    with pytest.raises(NoWallet):
        await alice.payments.pay(made.request, 7_000)
    assert purse.told == 0


async def test_outcome_of_an_earlier_run(client: Make, office: Sandbox) -> None:
    purse, bob = Purse(office.wallet()), office.wallet()  # pyright: ignore[reportArgumentType]
    alice = client(lightning=purse)
    made = await bob.make_invoice(7_000)
    assert await alice.payments.outcome(made.payment_hash) is None
    purse.fails = [PaymentUnknown()]
    with pytest.raises(PaymentUnknown):
        await alice.payments.pay(made.request, 7_000)
    found = await alice.payments.outcome(made.payment_hash)
    assert found is not None and found.preimage == made.preimage
    assert await alice.payments.outcome(made.payment_hash) == found


async def test_a_keysend_is_sent_once(client: Make, office: Sandbox, tmp_path: Path) -> None:
    """Killed between sending and noting, the next run asks the wallet, and does not tell it to pay again."""
    purse, bob = Purse(office.wallet()), office.wallet()
    assert isinstance(bob, PlayWallet)
    order = (bob.node, 7_000, {34349334: b"hello"}, K)
    purse.fails = [PaymentUnknown()]
    with pytest.raises(PaymentUnknown):
        await client(tmp_path, lightning=purse).payments.keysend(*order)
    again = client(tmp_path, lightning=purse)
    for _ in range(2):
        done = await again.payments.keysend(*order)
        assert (done.preimage, done.msat, purse.told) == (K, 7_000, 1)
    assert await bob.balance() == FUNDS + 7_000
    for other in ((b"\2" * 33, *order[1:]), (bob.node, 8_000, *order[2:]), (*order[:2], {1: b"hello"}, K)):
        with pytest.raises(AlreadyPaid):
            await again.payments.keysend(*other)
    assert purse.told == 1


async def test_a_keysend_that_failed_may_be_tried_again(client: Make, office: Sandbox) -> None:
    purse, bob = Purse(office.wallet()), office.wallet()
    assert isinstance(bob, PlayWallet)
    alice = client(lightning=purse)
    purse.fails = [PaymentFailed()]
    with pytest.raises(PaymentFailed):
        await alice.payments.keysend(bob.node, 7_000, {}, SECOND)
    await alice.payments.keysend(bob.node, 7_000, {}, SECOND)
    assert purse.told == 2 and await bob.balance() == FUNDS + 7_000
