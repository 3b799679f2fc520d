"""Lightning notices through a real office: told by a comment, by keysend, by hand; decided before anything is asked.

The LNURL server here does what a test says; one of somebody else, and real keysend: tests/interop/test_notices.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pennypost import AsyncClient, Sandbox, ledger, lnurl
from pennypost.lightning import Received
from pennypost.play import FUNDS, PlayWallet
from pennypost.protocol import bech32
from pennypost.protocol.errors import (
    AmountTooHigh,
    CommentTooShort,
    InvalidInput,
    InvalidNotice,
    InvoiceMismatch,
    NotEnoughStamps,
    NotFound,
    NoWallet,
    OfficeMisbehaves,
    OfficeUnreachable,
    OnceUsed,
    PaymentFailed,
    PaymentUnknown,
    PennypostError,
    PriceTooHigh,
    WalletRefuses,
)
from pennypost.protocol.notice import SHORTEST
from pennypost.transport import NetworkTransport
from tests.sdk.deaths import WAYS, Killed, dies
from tests.sdk.meddler import Meddler
from tests.sdk.test_mail import texts
from tests.sdk.test_offers import funds
from tests.support.http import HttpServer, Request
from tests.support.server import Server

Make = Callable[..., AsyncClient]


METADATA = '[["text/plain", "pay bob"]]'


class PayService:
    """An LNURL-pay service before a wallet of play money; `said` are the comments that came."""

    def __init__(self, wallet: PlayWallet) -> None:
        self.wallet, self.said, self.asked = wallet, list[str](), list[str]()
        self.point: dict[str, Any] = {}
        self.invoice: dict[str, Any] = {}
        self.server = HttpServer(self.answer)

    async def answer(self, request: Request) -> tuple[int, Any]:
        parts = urlsplit(request.path)
        self.asked.append(parts.path)
        if parts.path.startswith("/.well-known/lnurlp/"):
            point = {"tag": "payRequest", "callback": f"{self.server.url}/pay?x=1", "metadata": METADATA}
            return 200, point | {"minSendable": 1_000, "maxSendable": 10**8, "commentAllowed": 255} | self.point
        given = parse_qs(parts.query)
        self.said += given.get("comment", [])
        made = await self.wallet.make_invoice(int(given["amount"][0]))
        return 200, {"pr": made.request, "routes": []} | self.invoice

    @property
    def address(self) -> str:
        return f"bob@127.0.0.1:{self.server.port}"


@pytest.fixture
async def bob(client: Make) -> AsyncClient:
    return client()


@pytest.fixture
async def service(bob: AsyncClient) -> AsyncIterator[PayService]:
    wallet: Any = bob.payments.wallet
    made = PayService(wallet)
    await made.server.start()
    yield made
    await made.server.stop()


@pytest.fixture
async def alice(client: Make) -> AsyncClient:
    made = client()
    await made.stamps.buy(5)
    return made


async def test_told_by_a_comment(alice: AsyncClient, bob: AsyncClient, service: PayService) -> None:
    done = await alice.notices.send(bob.npub, "hello Bob", pay=service.address, sat=21)
    assert (done.carrier, done.signed, done.msat) == ("comment", True, 21_000)
    assert service.said == [done.notice] and len(done.notice) <= 255
    assert await funds(alice) == FUNDS - 21_000
    announced = bob.notices.read(f"a payment says: {service.said[0]}", msat=21_000)
    assert (announced.sender, announced.where) == (alice.npub, "http://pennypost.sandbox")
    mail = await bob.notices.fetch(announced.notice)
    assert (mail.text, mail.sender) == ("hello Bob", alice.npub)
    assert await texts(bob) == ["hello Bob"], "found by scanning too"


@pytest.mark.parametrize(
    ("room", "length", "signed", "where"),
    [
        (255, 235, True, True),
        (235, 235, True, True),
        (234, 203, True, False),
        (202, 107, False, True),
        (106, SHORTEST, False, False),
        (SHORTEST, SHORTEST, False, False),
    ],
)
async def test_the_comment_that_is_allowed_is_obeyed(
    alice: AsyncClient, bob: AsyncClient, service: PayService, room: int, length: int, signed: bool, where: bool
) -> None:
    service.point = {"commentAllowed": room}
    done = await alice.notices.send(bob.npub, "hello", pay=service.address)
    assert (len(done.notice), done.signed) == (length, signed)
    announced = bob.notices.read(service.said[0])
    assert (announced.sender is not None, bool(announced.where)) == (signed, where)
    assert (await bob.notices.fetch(announced.notice)).text == "hello"


@pytest.mark.parametrize("allowed", [{"commentAllowed": SHORTEST - 1}, {"commentAllowed": 0}, {"commentAllowed": None}])
async def test_no_room_is_said_before_anything_happens(
    alice: AsyncClient, bob: AsyncClient, service: PayService, allowed: dict[str, Any]
) -> None:
    service.point = allowed
    with pytest.raises(CommentTooShort):
        await alice.notices.send(bob.npub, "hello", pay=service.address)
    assert (await alice.stamps.balance(), await funds(alice), service.said) == (5, FUNDS, [])


@pytest.mark.parametrize(
    ("point", "invoice", "error"),
    [
        ({"status": "ERROR", "reason": "secret words"}, {}, WalletRefuses),
        ({"tag": "withdrawRequest"}, {}, OfficeMisbehaves),
        ({"minSendable": 0}, {}, OfficeMisbehaves),
        ({"minSendable": 10, "maxSendable": 9}, {}, OfficeMisbehaves),
        ({"minSendable": "1"}, {}, OfficeMisbehaves),
        ({"minSendable": 50_000}, {}, InvalidInput),
        ({"maxSendable": 1 << 63}, {}, OfficeMisbehaves),
        ({"maxSendable": 1 << 70}, {}, OfficeMisbehaves),
        ({"metadata": None}, {}, OfficeMisbehaves),
        ({"metadata": ""}, {}, OfficeMisbehaves),
        ({"metadata": "[]"}, {}, OfficeMisbehaves),
        ({"metadata": [["text/plain", "x"]]}, {}, OfficeMisbehaves),
        ({"metadata": '[["text/plain", 1]]'}, {}, OfficeMisbehaves),
        ({"metadata": '[["text/plain", "a"], ["text/plain", "b"]]'}, {}, OfficeMisbehaves),
        ({"metadata": "[" * 10_000}, {}, OfficeMisbehaves),
        ({"callback": "http://10.0.0.1/pay"}, {}, InvalidInput),
        ({"callback": "https://169.254.169.254/pay"}, {}, InvalidInput),
        ({"callback": "https://[::1]/pay"}, {}, None),
        ({"callback": "https://[fd00::1]/pay"}, {}, InvalidInput),
        ({"callback": "http://example.com/pay"}, {}, InvalidInput),
        ({"callback": "file:///etc/passwd"}, {}, InvalidInput),
        ({"callback": "https://u:p@example.com/"}, {}, InvalidInput),
        ({"callback": ""}, {}, InvalidInput),
        ({}, {"status": "ERROR"}, WalletRefuses),
        ({}, {"pr": ""}, InvoiceMismatch),
        ({}, {"pr": "lnbcrt1garbage"}, InvoiceMismatch),
    ],
)
async def test_services_that_are_broken_or_hostile_get_nothing(
    alice: AsyncClient,
    bob: AsyncClient,
    service: PayService,
    point: dict[str, Any],
    invoice: dict[str, Any],
    error: type[PennypostError] | None,
) -> None:
    service.point, service.invoice = point, invoice
    with pytest.raises(error or OfficeUnreachable) as found:
        await alice.notices.send(bob.npub, "hello", pay=service.address, sat=21)
    assert "secret" not in str(found.value)
    assert await funds(alice) == FUNDS


async def test_what_the_invoice_is_for_is_held_against_what_the_address_says(
    alice: AsyncClient, bob: AsyncClient, service: PayService
) -> None:
    """LUD-06: an invoice with the hash of other metadata is not paid; the right one is, however it is written."""
    service.point = {"metadata": METADATA.replace(" ", "")}
    other = sha256(METADATA.encode()).digest()
    service.invoice = {"pr": (await service.wallet.make_invoice(21_000, description_hash=other)).request}
    with pytest.raises(InvoiceMismatch) as refused:
        await alice.notices.send(bob.npub, "hello", pay=service.address, sat=21)
    assert refused.value.code == "invoice-mismatch" and await funds(alice) == FUNDS
    service.point = {}
    assert (await alice.notices.send(bob.npub, "hello", pay=service.address, sat=21)).msat == 21_000


async def test_an_invoice_over_more_is_not_paid(alice: AsyncClient, bob: AsyncClient, service: PayService) -> None:
    service.invoice = {"pr": (await service.wallet.make_invoice(22_000)).request}
    with pytest.raises(InvoiceMismatch):
        await alice.notices.send(bob.npub, "hello", pay=service.address, sat=21)
    assert await funds(alice) == FUNDS


@pytest.mark.parametrize("body", [b"", b"[]", b"x" * 100_000, b"[" * 10_000, b'{"tag":"payRequest"}'])
async def test_answers_that_cannot_be_read(alice: AsyncClient, bob: AsyncClient, body: bytes) -> None:
    async def answer(request: Request) -> tuple[int, Any]:
        return 200, body

    server = HttpServer(answer)
    await server.start()
    with pytest.raises(OfficeMisbehaves):
        await alice.notices.send(bob.npub, "hello", pay=f"bob@127.0.0.1:{server.port}")
    await server.stop()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bob",
        "bob@",
        "@x",
        "bob@10.0.0.1",
        "bob@192.168.1.1:8080",
        "bob@[::1]",
        "lnurl1qqqq",
        "lnurlp://",
        "http://x",
        "lnurlp://u@example.com",
        "x" * 3_000,
        "bob@169.254.169.254",
        "bob@0.0.0.0",
    ],
)
async def test_addresses_that_are_not_dialled(alice: AsyncClient, bob: AsyncClient, address: str) -> None:
    with pytest.raises(InvalidInput):
        await alice.notices.send(bob.npub, "hello", pay=address)
    assert await alice.stamps.balance() == 5


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("Bob@Wallet.example", "https://wallet.example/.well-known/lnurlp/bob"),
        ("lightning:bob@wallet.example", "https://wallet.example/.well-known/lnurlp/bob"),
        ("bob@abc.onion", "http://abc.onion/.well-known/lnurlp/bob"),
        ("lnurlp://wallet.example/pay/1", "https://wallet.example/pay/1"),
    ],
)
def test_what_an_address_stands_for(address: str, url: str) -> None:
    assert lnurl.parse_lnurl(address) == url
    encoded = bech32.encode("lnurl", bech32.regroup(url.encode(), 8, 5))
    assert lnurl.parse_lnurl(encoded.upper()) == url


async def test_a_name_that_leads_into_a_private_net(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    async def resolve(host: str, port: int, **options: Any) -> list[Any]:
        return [(0, 0, 0, "", ("93.184.216.34", 443)), (0, 0, 0, "", ("10.1.2.3", 443))]

    monkeypatch.setattr(lnurl, "getproxies", dict)
    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    with pytest.raises(InvalidInput):
        await lnurl.look_up("bob@evil.example", NetworkTransport())


async def test_told_by_keysend_and_heard_by_the_wallet(alice: AsyncClient, bob: AsyncClient) -> None:
    watching = bob.notices.watch()
    waiting = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    wallet: Any = bob.payments.wallet
    await alice.payments.wallet.keysend(wallet.node, 1_000, {34349334: b"chat of somebody else"}, bytes([7]) * 32)
    await alice.payments.wallet.keysend(wallet.node, 1_000, {34349334: b"\xff\xfe"}, bytes([8]) * 32)
    done = await alice.notices.send(bob.npub, "hello Bob", pay=wallet.node.hex(), sat=5)
    announced = await asyncio.wait_for(waiting, 10)
    await watching.aclose()
    assert (announced.notice, announced.sender, announced.msat) == (done.notice, alice.npub, 5_000)
    assert (await bob.notices.fetch(announced.notice)).text == "hello Bob"


async def test_nothing_is_asked_before_the_decision(
    client: Make, alice: AsyncClient, office: Sandbox, meddler: Meddler
) -> None:
    bob = client(transport=meddler)
    wallet: Any = bob.payments.wallet

    async def received() -> AsyncIterator[Received]:
        yield Received(bytes(32), 1_000, "thanks for all the fish")
        yield Received(bytes(32), 1_000, f"see {done.notice}")

    done = await alice.notices.send(bob.npub, "hello Bob")
    assert done.carrier == "hand" and done.msat == 0
    wallet.received = received
    (announced,) = [each async for each in bob.notices.watch()]
    assert announced.sender == alice.npub
    assert meddler.asked == []
    assert (await bob.notices.fetch(announced.notice)).text == "hello Bob"
    assert meddler.asked


async def test_anonymous(alice: AsyncClient, bob: AsyncClient) -> None:
    done = await alice.notices.send(bob.npub, "hello", anonymous=True, where="")
    assert len(done.notice) == SHORTEST and bob.notices.read(done.notice).sender is None
    assert (await bob.notices.fetch(done.notice)).sender == alice.npub, "the letter itself is signed, inside"


async def test_the_notice_of_another_letter(alice: AsyncClient, bob: AsyncClient, client: Make) -> None:
    """Somebody else's letter under the key of a notice: its seal does not open; no letter: not found."""
    first = await alice.notices.send(bob.npub, "one")
    assert (await bob.notices.fetch(first.notice)).text == "one"
    new, _ = alice.notices._fit(bob.identity.pub, False, None, (), 3_600, None)
    with pytest.raises(NotFound):
        await bob.notices.fetch(new.text)
    letter = alice.notices._desk.letter(bob.identity.pub, "unsigned", one_time=new.author_secret)
    await alice.notices._desk.post(letter.event)
    with pytest.raises(NotFound):
        await bob.notices.fetch(new.text)
    for text in ("", "ppn1", "hello", done_for(await alice.notices.send(client().npub, "x"))):
        with pytest.raises(InvalidNotice):
            bob.notices.read(text)


def done_for(receipt: Any) -> str:
    return receipt.notice


@pytest.mark.parametrize("where", ["10.0.0.1", "127.0.0.1:1", "http://192.168.0.1", "[::1]:9", "bad host", "x y z"])
async def test_relays_of_a_stranger_in_our_own_net_are_not_asked(
    alice: AsyncClient, bob: AsyncClient, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lnurl, "getproxies", dict)
    new, _ = alice.notices._fit(bob.identity.pub, False, where, (), 3_600, None)
    assert await bob.notices._named(bob.notices._open(new.text)[1]) == []


async def test_to_many_relays_with_the_whole_price_first(
    alice: AsyncClient, bob: AsyncClient, server: Server, office: Sandbox
) -> None:
    """The other relay takes stamps of another mint: it is left out. One that is free takes the letter."""
    free = await _free_relay()
    prices = await alice.notices.prices("hello", [server.url, free.url, "http://127.0.0.1:1"])
    assert [(each.relay, each.sat) for each in prices] == [
        (office.url, 1),
        (server.url, None),
        (free.url, 0),
        ("http://127.0.0.1:1", None),
    ]
    with pytest.raises(PriceTooHigh):
        await alice.notices.send(bob.npub, "hello", relays=[free.url], max_stamps=0)
    done = await alice.notices.send(
        bob.npub, "hello", relays=[server.url, free.url, "http://127.0.0.1:1"], max_stamps=1
    )
    assert bob.notices.read(done.notice).where == "blastr"
    assert [receipt.office for receipt in done.receipts] == [office.url, free.url]
    assert done.receipts[0].accepted and await alice.stamps.balance() == 4
    await free.stop()


async def test_stamps_that_a_relay_did_not_take_come_back(server: Server, tmp_path: Path) -> None:
    """The same office under another name: it has the letter already, and leaves the stamp alone."""
    async with AsyncClient(server.url, tmp_path / "alice") as alice, AsyncClient(server.url, tmp_path / "bob") as bob:
        await alice.stamps.buy(5)
        other = server.url.replace("127.0.0.1", "localhost")
        assert [each.sat for each in await alice.notices.prices("hello", [other])] == [1, 1]
        with pytest.raises(PriceTooHigh):
            await alice.notices.send(bob.npub, "hello", relays=[other], max_stamps=1)
        assert await alice.stamps.balance() == 5
        done = await alice.notices.send(bob.npub, "hello", relays=[other], max_stamps=2)
        assert [(each.code, each.stamps) for each in done.receipts] == [("accepted", 1), ("duplicate", 0)]
        assert await alice.stamps.balance() == 4
        assert (await alice.stamps.check()).stamps == 4
        assert await texts(bob) == ["hello"]


async def _free_relay() -> HttpServer:
    """Its NIP-11 asks for nothing; it does not speak WebSocket, so what is posted there is refused."""

    async def answer(request: Request) -> tuple[int, Any]:
        return 200, json.loads('{"name": "free"}')

    server = HttpServer(answer)
    await server.start()
    return server


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sat": 0}, InvalidInput),
        ({"sat": 101, "pay": "bob@127.0.0.1:1"}, AmountTooHigh),
        ({"where": "x" * 40}, InvalidInput),
        ({"keep": 40 * 86_400}, InvalidInput),
    ],
)
async def test_notices_that_cannot_be_sent_cost_nothing(
    alice: AsyncClient, bob: AsyncClient, options: dict[str, Any], error: type[PennypostError]
) -> None:
    with pytest.raises(error):
        await alice.notices.send(bob.npub, "hello", **options)
    assert await alice.stamps.balance() == 5


async def test_without_a_wallet_nothing_is_posted(alice: AsyncClient, bob: AsyncClient, service: PayService) -> None:
    alice._lightning = None
    with pytest.raises(NoWallet):
        await alice.notices.send(bob.npub, "hello", pay=service.address)
    assert await alice.stamps.balance() == 5


async def test_a_payment_that_fails_leaves_the_letter(
    client: Make, alice: AsyncClient, bob: AsyncClient, service: PayService
) -> None:
    wallet: Any = alice.payments.wallet

    async def fail(request: str, **options: Any) -> Any:
        raise PaymentFailed

    wallet.pay = fail
    with pytest.raises(PaymentFailed):
        await alice.notices.send(bob.npub, "hello", pay=service.address)
    assert await texts(bob) == ["hello"]


# The same call again

STEPS = 60


def doomed(wallet: PlayWallet, patch: pytest.MonkeyPatch, *, paid: bool) -> None:
    """The process is gone when it pays: before the wallet has heard, or after it has paid."""
    for name in ("pay", "keysend"):
        real = getattr(wallet, name)

        async def die(*args: Any, real: Any = real, **options: Any) -> Any:
            if paid:
                await real(*args, **options)
            raise Killed

        patch.setattr(wallet, name, die)


@pytest.mark.parametrize(
    ("way", "once", "carrier"),
    [
        *((way, "n 7", "keysend") for way in (*WAYS, "unpaid", "paid")),
        *((way, "n 7", "comment") for way in (WAYS[-1], "unpaid", "paid")),
        (WAYS[-1], "n 7", "hand"),
        (WAYS[-1], None, "keysend"),
    ],
)
async def test_the_same_call_after_a_crash_at_any_step(
    office: Sandbox,
    client: Make,
    service: PayService,
    tmp_path: Path,
    way: str,
    once: str | None,
    carrier: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    pay = {"hand": None, "comment": service.address, "keysend": service.wallet.node.hex()}[carrier]
    for step in range(STEPS):
        home, bob, wallet = tmp_path / str(step), client(), office.wallet()
        await client(home).stamps.buy(4)

        async def send(alice: AsyncClient, bob: AsyncClient = bob) -> Any:
            return await alice.notices.send(bob.npub, "x", pay=pay, sat=3, once=once, patience=0)

        if way in ("unpaid", "paid"):
            with monkeypatch.context() as patch:
                doomed(wallet, patch, paid=way == "paid")  # type: ignore[arg-type]
                with pytest.raises(Killed):
                    await send(client(home, lightning=wallet))
            died = True
        else:
            died = await dies(office, home, send, way, step, monkeypatch, lightning=wallet)  # type: ignore[arg-type]
        alice = client(home, lightning=wallet)
        told = (FUNDS - await wallet.balance()) // 3_000
        done = await send(alice)
        spent, arrived, check = FUNDS - await wallet.balance(), await texts(bob), await alice.stamps.check()
        assert (check.reserved, check.lost, check.problems, len(arrived)) == (0, 0, (), 4 - check.stamps)
        assert done.carrier == carrier and bob.notices.read(done.notice).sender == alice.npub
        assert (await bob.notices.fetch(done.notice)).text == "x"
        each = 0 if carrier == "hand" else 3_000
        # Without a key nobody can tell a repeat from a second notice once the first was told.
        second = once is None and len(arrived) == 2 and (not each or told == 1)
        assert second or (len(arrived), spent, done.msat) == (1, each, each), (way, step)
        if once is not None:
            again = await send(client(home, lightning=wallet))
            assert (again.notice, again.carrier, again.msat) == (done.notice, carrier, each)
            assert [each.code for each in again.receipts] == ["duplicate"]
            assert FUNDS - await wallet.balance() == spent and await texts(bob) == []
        if not died or way in ("unpaid", "paid"):
            return
    pytest.fail("the work had no end")


async def test_one_key_is_one_notice(alice: AsyncClient, bob: AsyncClient) -> None:
    first = await alice.notices.send(bob.npub, "x", once="k")
    others: list[tuple[str, dict[str, Any]]] = [("y", {}), ("x", {"sat": 2}), ("x", {"anonymous": True})]
    for text, options in others:
        with pytest.raises(OnceUsed):
            await alice.notices.send(bob.npub, text, once="k", **options)
    assert (await alice.notices.send(bob.npub, "x", once="k")).notice == first.notice
    assert (await alice.send(bob.npub, "x", once="k")).accepted, "letters have keys of their own"
    assert await alice.stamps.balance() == 3


async def test_one_key_at_the_same_time_is_one_payment(client: Make, alice: AsyncClient, bob: AsyncClient) -> None:
    wallet: Any = bob.payments.wallet
    done = await asyncio.gather(
        *(alice.notices.send(bob.npub, "x", pay=wallet.node.hex(), sat=3, once="k") for _ in range(4)),
        return_exceptions=True,
    )
    assert len({each.notice for each in done if not isinstance(each, BaseException)}) == 1
    assert await funds(alice) == FUNDS - 3_000 and await texts(bob) == ["x"]


async def test_a_payment_that_failed_is_made_by_the_same_call_again(
    alice: AsyncClient, bob: AsyncClient, service: PayService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(request: str, **options: Any) -> Any:
        raise PaymentFailed

    with monkeypatch.context() as patch:
        patch.setattr(alice.payments.wallet, "pay", fail)
        with pytest.raises(PaymentFailed):
            await alice.notices.send(bob.npub, "x", pay=service.address)
    done = await alice.notices.send(bob.npub, "x", pay=service.address)
    assert service.said == [done.notice] and await texts(bob) == ["x"] and await alice.stamps.balance() == 4


async def test_nothing_is_paid_while_the_end_of_a_payment_is_unknown(
    alice: AsyncClient, bob: AsyncClient, service: PayService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*args: Any, **options: Any) -> Any:
        raise PaymentUnknown

    with monkeypatch.context() as patch:
        patch.setattr(alice.payments.wallet, "pay", unknown)
        patch.setattr(alice.payments.wallet, "payment", unknown)
        for _ in range(2):
            with pytest.raises(PaymentUnknown):
                await alice.notices.send(bob.npub, "x", pay=service.address)
    assert len(service.said) == 1
    assert (await alice.notices.send(bob.npub, "x", pay=service.address)).msat == 1_000
    assert len(service.said) == 1 and await texts(bob) == ["x"]


async def test_an_invoice_that_expired_unpaid_is_replaced(
    client: Make, bob: AsyncClient, service: PayService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time()]
    alice = client(tmp_path, clock=lambda: now[0])
    await alice.stamps.buy(2)
    service.invoice = {"pr": (await service.wallet.make_invoice(1_000, expiry=30)).request}
    with monkeypatch.context() as patch:
        doomed(alice.payments.wallet, patch, paid=False)  # type: ignore[arg-type]
        with pytest.raises(Killed):
            await alice.notices.send(bob.npub, "x", pay=service.address, once="k")
    service.invoice = {}
    now[0] += 60
    assert (await alice.notices.send(bob.npub, "x", pay=service.address, once="k")).msat == 1_000
    assert len(service.said) == 2 and len(set(service.said)) == 1 and await texts(bob) == ["x"]


async def test_a_key_is_free_again_when_no_letter_was_posted(client: Make, bob: AsyncClient) -> None:
    alice = client()
    with pytest.raises(NotEnoughStamps):
        await alice.notices.send(bob.npub, "x", once="k")
    await alice.stamps.buy(2)
    assert (await alice.notices.send(bob.npub, "y", once="k")).carrier == "hand"


async def test_a_notice_whose_letter_expired_untold_is_begun_anew(
    client: Make, bob: AsyncClient, service: PayService, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.time() - 58 * 60]
    alice = client(clock=lambda: now[0])
    await alice.stamps.buy(2)
    with monkeypatch.context() as patch:
        doomed(alice.payments.wallet, patch, paid=False)  # type: ignore[arg-type]
        with pytest.raises(Killed):
            await alice.notices.send(bob.npub, "x", pay=service.address, once="k", keep=3_600)
    now[0] += 61 * 60
    done = await alice.notices.send(bob.npub, "x", pay=service.address, once="k", keep=3_600)
    assert done.msat == 1_000 and len(set(service.said)) == 2
