"""Nostr Wallet Connect: a wallet and a relay that do what a test says. `test_tills` has a wallet of somebody else."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost.protocol.event import Event, verify_event
from pennypost.protocol.nip47 import encode_link
from pennypost_mint.lightning import Progress, lookout, wallet_line
from pennypost_mint.lightning.bolt11 import encode_invoice
from pennypost_mint.lightning.nwc import NwcNode
from tests.support.ports import free_port
from tests.support.relay import plain
from tests.support.scripted_wallet import ScriptedWallet, condition


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet_line, "BACK_OFF", (0.01, 0.05))
    # no time limit ends what fails at once, however busy the machine is
    monkeypatch.setattr(wallet_line, "OPEN_SECONDS", 600.0)
    monkeypatch.setattr(wallet_line, "ANSWER_SECONDS", 600.0)


@pytest.fixture
async def wallet() -> AsyncIterator[ScriptedWallet]:
    opened = ScriptedWallet()
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
async def node(wallet: ScriptedWallet) -> AsyncIterator[NwcNode]:
    opened = NwcNode.open(wallet.uri)
    yield opened
    await opened.close()


async def listening(node: NwcNode) -> tuple[Any, asyncio.Future[Any]]:
    """The stream and its next receipt; returns when the wallet's notices would be heard."""
    stream = node.settled(None)
    waiting = asyncio.ensure_future(anext(stream))
    await condition(lambda: node._line._connection is not None and node._line._connection.listeners)
    return stream, waiting


async def test_an_invoice_is_made_looked_up_and_paid(node: NwcNode, wallet: ScriptedWallet) -> None:
    asked = int(time.time())
    invoice = await node.create_invoice(10, "stamps\nfor Bob", 600)
    assert asked + 600 <= invoice.expiry <= time.time() + 600
    assert wallet.requests == [("make_invoice", {"amount": 10_000, "description": "stamps for Bob", "expiry": 600})]
    assert (await node.look_up(invoice.payment_hash)).progress is Progress.OPEN
    wallet.pay(invoice.payment_hash, 10_500)
    assert await node.look_up(invoice.payment_hash) == (invoice.payment_hash, Progress.SETTLED, 10_500, None)
    assert (await node.look_up(bytes(32))).progress is Progress.LOST
    await node.check()
    assert set(wallet.encryptions) == {"nip44_v2"}
    assert wallet.opened == 1


async def test_the_wallet_tells_of_payments(node: NwcNode, wallet: ScriptedWallet) -> None:
    invoice = await node.create_invoice(10, "", 600)
    stream, waiting = await listening(node)
    await wallet.tell({"type": "outgoing", "payment_hash": "11" * 32, "amount": 5})
    await wallet.tell({"type": "incoming", "amount": 5})
    await wallet.tell({"type": "incoming", "payment_hash": "22" * 32, "amount": 5}, name="payment_sent")
    await wallet.tell(wallet.pay(invoice.payment_hash, 12_000))
    assert await waiting == (invoice.payment_hash, Progress.SETTLED, 12_000, None)
    # a notice without an amount is asked about
    waiting = asyncio.ensure_future(anext(stream))
    await wallet.tell({"type": "incoming", "payment_hash": invoice.payment_hash.hex()})
    assert await waiting == (invoice.payment_hash, Progress.SETTLED, 12_000, None)
    await stream.aclose()


ENCRYPTIONS = [
    ("NIP-44 announced", [["encryption", "nip44_v2"]], "nip44_v2"),
    ("both announced", [["encryption", "nip04 nip44_v2"]], "nip44_v2"),
    ("no info event", None, "nip44_v2"),
    ("NIP-04 announced", [["encryption", "nip04"]], "nip04"),
    ("nothing announced", [], "nip04"),
]


@pytest.mark.parametrize(("tags", "encryption"), [row[1:] for row in ENCRYPTIONS], ids=[row[0] for row in ENCRYPTIONS])
async def test_nip04_only_where_the_wallet_says_so(
    node: NwcNode, wallet: ScriptedWallet, tags: list[list[str]] | None, encryption: str
) -> None:
    wallet.info_tags = None if tags is None else [*tags, ["notifications", "payment_received"]]
    invoice = await node.create_invoice(1, "", 600)
    assert wallet.encryptions == [encryption]
    stream, waiting = await listening(node)
    paid = wallet.pay(invoice.payment_hash, 1_000)
    for kind in (23196, 23197):
        await wallet.tell(paid, kind=kind)
    assert (await waiting).received_msat == 1_000
    await stream.aclose()


async def test_a_wallet_that_learns_nip44_is_spoken_to_in_it(node: NwcNode, wallet: ScriptedWallet) -> None:
    wallet.info_tags = []
    await node.check()
    wallet.info_tags = [["encryption", "nip44_v2"]]
    info = wallet.info()
    assert info is not None
    later = wallet.event(13194, info.content, info.tags)
    await wallet.publish(later)
    await condition(lambda: node._line._connection._state.encryption == "nip44_v2")  # type: ignore[union-attr]
    await node.check()
    assert wallet.encryptions == ["nip04", "nip44_v2"]


async def test_a_wallet_that_does_not_tell_is_asked_in_turn(
    node: NwcNode, wallet: ScriptedWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "EVERY", 0.01)
    wallet.info_tags = [["encryption", "nip44_v2"]]
    invoice = await node.create_invoice(3, "", 600)
    stream = node.settled(None)
    waiting = asyncio.ensure_future(anext(stream))
    await condition(lambda: len(wallet.requests) > 3)
    wallet.pay(invoice.payment_hash, 3_000)
    assert await waiting == (invoice.payment_hash, Progress.SETTLED, 3_000, None)
    await stream.aclose()


async def test_a_relay_that_asks_who_we_are(node: NwcNode, wallet: ScriptedWallet) -> None:
    wallet.needs_auth = True
    await node.check()
    (event,) = wallet.authenticated
    verify_event(event)
    assert event.tags == [["relay", wallet.url], ["challenge", "challenge"]]
    assert event.pubkey == node._line._session.public_key


async def test_a_relay_that_refuses_us_for_good(node: NwcNode, wallet: ScriptedWallet) -> None:
    wallet.needs_auth = True
    wallet.authenticated = NeverAuthenticated()  # type: ignore[assignment]
    with pytest.raises(LightningUnavailable):
        await node.check()


class NeverAuthenticated(list[Event]):
    def __bool__(self) -> bool:
        return False


REFUSALS = [
    "mute: nobody listens",
    "blocked: not here",
    "rate-limited: slow down",
    "error: broken",
    "auth-required: you",
]


@pytest.mark.parametrize("words", REFUSALS)
async def test_a_request_that_the_relay_refuses_fails_at_once(
    node: NwcNode, wallet: ScriptedWallet, words: str
) -> None:
    wallet.refuse = words
    async with asyncio.timeout(30):
        with pytest.raises(LightningUnavailable) as refused:
            await node.create_invoice(1, "", 60)
    assert words not in str(refused.value)


GOOD = {"type": "incoming", "state": "settled", "payment_hash": "00" * 32, "amount": 1_000, "settled_at": 5}
INVOICE = encode_invoice(b"\1" * 32, 1, bytes(32), bytes(32), "", 1_700_000_000, 60)

LOOK_UPS: list[tuple[str, Any]] = [
    ("an error", {"error": {"code": "INTERNAL", "message": "secret"}}),
    ("too fast", {"error": {"code": "RATE_LIMITED", "message": "secret"}}),
    ("an error of its own", {"error": {"code": "secret words", "message": "secret"}}),
    ("nothing", {"result": None}),
    ("another invoice", GOOD | {"payment_hash": "11" * 32}),
    ("an outgoing payment", GOOD | {"type": "outgoing"}),
    ("no amount", {**GOOD, "amount": None}),
    ("a negative amount", GOOD | {"amount": -1}),
    ("an amount as text", GOOD | {"amount": "1000"}),
    ("an endless amount", GOOD | {"amount": 10**30}),
]


@pytest.mark.parametrize("result", [row[1] for row in LOOK_UPS], ids=[row[0] for row in LOOK_UPS])
async def test_a_broken_answer_is_no_answer(node: NwcNode, wallet: ScriptedWallet, result: Any) -> None:
    wallet.results["lookup_invoice"] = result
    with pytest.raises(LightningUnavailable) as failed:
        await node.look_up(bytes(32))
    assert "secret" not in str(failed.value)


INVOICES: list[tuple[str, Any]] = [
    ("an error", {"error": {"code": "QUOTA_EXCEEDED", "message": "secret"}}),
    ("no invoice", {"payment_hash": "00" * 32}),
    ("no invoice that can be read", {"invoice": "lnbc1", "payment_hash": "00" * 32}),
    ("another amount", {"invoice": encode_invoice(b"\1" * 32, 2, bytes(32), bytes(32), "", 1, 60)}),
    ("another hash", {"invoice": INVOICE, "payment_hash": "11" * 32}),
]


@pytest.mark.parametrize("result", [row[1] for row in INVOICES], ids=[row[0] for row in INVOICES])
async def test_an_invoice_that_is_not_what_was_asked_for_is_not_sold(
    node: NwcNode, wallet: ScriptedWallet, result: Any
) -> None:
    wallet.results["make_invoice"] = result
    with pytest.raises(LightningUnavailable):
        await node.create_invoice(1, "", 60)
    wallet.results["make_invoice"] = {"invoice": INVOICE}
    assert (await node.create_invoice(1, "", 60)).expiry == 1_700_000_060


@pytest.mark.parametrize("code", ["UNAUTHORIZED", "RESTRICTED", "NOT_IMPLEMENTED"])
async def test_a_wallet_that_will_not_work_for_us_is_not_there(
    node: NwcNode, wallet: ScriptedWallet, code: str
) -> None:
    wallet.results["lookup_invoice"] = {"error": {"code": code, "message": ""}}
    with pytest.raises(LightningUnavailable):
        await node.check()
    wallet.results["lookup_invoice"] = {"error": {"code": "INTERNAL", "message": ""}}
    await node.check()


STATES = [
    ("pending", Progress.OPEN),
    ("accepted", Progress.OPEN),
    ("expired", Progress.LOST),
    ("failed", Progress.LOST),
]


@pytest.mark.parametrize(("state", "progress"), STATES)
async def test_what_is_not_settled_is_nothing_yet(
    node: NwcNode, wallet: ScriptedWallet, state: str, progress: Progress
) -> None:
    wallet.results["lookup_invoice"] = GOOD | {"state": state}
    assert await node.look_up(bytes(32)) == (bytes(32), progress, 0, None)


async def test_a_wallet_that_is_silent_keeps_nobody_waiting(
    node: NwcNode, wallet: ScriptedWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_line, "ANSWER_SECONDS", 0.1)
    wallet.silent = True
    for _ in range(wallet_line.SILENT):
        with pytest.raises(LightningUnavailable):
            await node.look_up(bytes(32))
    wallet.silent = False
    monkeypatch.setattr(wallet_line, "ANSWER_SECONDS", 600.0)
    await node.check()
    assert wallet.opened == 2, "another relay is tried after silence"


async def test_a_connection_that_breaks_is_told_and_opened_again(node: NwcNode, wallet: ScriptedWallet) -> None:
    _, waiting = await listening(node)
    wallet.silent = True
    asking = asyncio.ensure_future(node.look_up(bytes(32)))
    await condition(lambda: wallet.requests)
    await wallet.cut()
    for broken in (waiting, asking):
        with pytest.raises(LightningUnavailable):
            await broken
    wallet.silent = False
    await node.check()
    assert wallet.opened == 2


async def test_a_relay_that_is_away_is_left_in_peace(node: NwcNode, wallet: ScriptedWallet, monkeypatch: Any) -> None:
    monkeypatch.setattr(wallet_line, "BACK_OFF", (30.0, 60.0))
    node._line._pause = 30.0
    await wallet.stop()
    results = await asyncio.gather(*(node.look_up(bytes(32)) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {LightningUnavailable}
    await wallet.start()
    # less than is left of the pause
    async with asyncio.timeout(15):
        with pytest.raises(LightningUnavailable):
            await node.check()
    assert wallet.opened == 0
    node._line._not_before = 0.0
    await node.check()


async def test_the_next_relay_is_tried(wallet: ScriptedWallet) -> None:
    nowhere = f"ws://127.0.0.1:{free_port()}"
    node = NwcNode.open(encode_link(replace(wallet.link, relays=(nowhere, wallet.url))))
    with pytest.raises(LightningUnavailable):
        await node.check()
    await asyncio.sleep(0.02)
    await node.check()
    await node.close()


def forged(wallet: ScriptedWallet, **changed: Any) -> str:
    """A response that says that the invoice of 32 zero bytes is paid, to the last request, changed."""
    answer = json.dumps({"result_type": "lookup_invoice", "error": None, "result": GOOD})
    event = wallet.event(23195, wallet.encrypt(answer, "nip44_v2"), [["p", "00" * 32], ["e", "00" * 32]])
    return json.dumps(["EVENT", "answers", plain(event) | changed])


NOISE = [
    ("no JSON", "{"),
    ("no frame", "[]"),
    ("an unknown frame", '["HELLO"]'),
    ("a notice", '["NOTICE", "hello"]'),
    ("another subscription", '["EOSE", "other"]'),
    ("another subscription's end", '["CLOSED", "other", "error: x"]'),
    ("a malformed event", '["EVENT", "answers", {}]'),
    ("an OK for nothing", json.dumps(["OK", "00" * 32, False, "error: x"])),
    ("a bad signature", "forged"),
]


@pytest.mark.parametrize("noise", [row[1] for row in NOISE], ids=[row[0] for row in NOISE])
async def test_what_nobody_asked_for_is_passed_over(node: NwcNode, wallet: ScriptedWallet, noise: str) -> None:
    wallet.noise = [forged(wallet, sig="00" * 64) if noise == "forged" else noise]
    assert (await node.look_up(bytes(32))).progress is Progress.LOST
    assert wallet.opened == 1


async def test_a_stranger_cannot_say_that_something_is_paid(node: NwcNode, wallet: ScriptedWallet) -> None:
    """Notices by another key, with another's signature, or to somebody else, on our own subscription."""
    stream, waiting = await listening(node)
    invoice = await node.create_invoice(1, "", 60)
    paid = {"notification_type": "payment_received", "notification": GOOD}
    content = wallet.encrypt(json.dumps(paid), "nip44_v2")
    ours = [["p", node._line._session.public_key]]
    for event in (
        wallet.event(23197, content, ours, key=b"\7" * 32),
        wallet.event(23197, content, [["p", "00" * 32]]),
        wallet.event(23197, content, []),
        wallet.event(1, content, ours),
    ):
        await wallet.publish(event, to_all=True)
    good = wallet.event(23197, content, ours)
    for connection in wallet.connections:
        await connection.send(json.dumps(["EVENT", "answers", plain(good) | {"sig": "00" * 64}]))
        await connection.send(json.dumps(["EVENT", "answers", plain(good) | {"content": "x"}]))
    await wallet.tell(wallet.pay(invoice.payment_hash, 1_000))
    assert (await waiting).payment_hash == invoice.payment_hash
    await stream.aclose()


async def test_an_answer_that_cannot_be_read_ends_the_waiting(node: NwcNode, wallet: ScriptedWallet) -> None:
    wallet.silent = True
    asking = asyncio.ensure_future(node.look_up(bytes(32)))
    await condition(lambda: wallet.requests)
    connection: Any = node._line._connection
    (request,) = connection._waiting
    tags = [["p", node._line._session.public_key], ["e", request]]
    await wallet.publish(wallet.event(23195, "no payload", tags))
    async with asyncio.timeout(30):
        with pytest.raises(LightningUnavailable):
            await asking


async def test_a_relay_that_only_makes_noise_is_left(
    node: NwcNode, wallet: ScriptedWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_line, "NONSENSE", 20)
    _, waiting = await listening(node)
    for connection in list(wallet.connections):
        for _ in range(30):
            await connection.send('["NOTICE", "hello"]')
    with pytest.raises(LightningUnavailable):
        await waiting


async def test_a_frame_that_is_too_large_ends_the_connection(node: NwcNode, wallet: ScriptedWallet) -> None:
    _, waiting = await listening(node)
    for connection in list(wallet.connections):
        await connection.send(json.dumps(["NOTICE", "x" * wallet_line.FRAME_LIMIT]))
    with pytest.raises(LightningUnavailable):
        await waiting


async def test_notices_that_nobody_reads_are_bounded(
    node: NwcNode, wallet: ScriptedWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_line, "UNREAD", 3)
    invoice = await node.create_invoice(1, "", 60)
    stream, waiting = await listening(node)
    await wallet.tell(wallet.pay(invoice.payment_hash, 500))
    # from here on nobody reads
    assert (await waiting).received_msat == 500
    for msat in range(1_000, 9_000, 1_000):
        await wallet.tell(wallet.pay(invoice.payment_hash, msat))
    # its answer comes behind the notices
    await node.check()
    assert [(await anext(stream)).received_msat for _ in range(3)] == [6_000, 7_000, 8_000]
    await stream.aclose()


async def test_too_many_requests_at_once_are_refused(
    node: NwcNode, wallet: ScriptedWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wallet_line, "WAITING", 4)
    await node.check()
    wallet.silent = True
    asking = [asyncio.ensure_future(node.look_up(bytes(32))) for _ in range(4)]
    await condition(lambda: len(wallet.requests) == 5)
    with pytest.raises(LightningUnavailable):
        await node.look_up(bytes(32))
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    wallet.silent = False
    await node.check()


async def test_closing_while_it_opens(wallet: ScriptedWallet) -> None:
    async def nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    node = NwcNode.open(encode_link(replace(wallet.link, relays=(f"ws://127.0.0.1:{port}",))))
    asking = asyncio.ensure_future(node.check())
    await condition(lambda: node._line._opening is not None)
    await node.close()
    with pytest.raises(LightningUnavailable):
        await asking
    server.close()
    await server.wait_closed()


async def test_the_connection_string_is_in_no_log_and_no_error(
    wallet: ScriptedWallet, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    node = NwcNode.open(wallet.uri)
    await node.create_invoice(1, "", 60)
    await wallet.stop()
    with pytest.raises(LightningUnavailable) as failed:
        await node.create_invoice(1, "", 60)
    await node.close()
    said = caplog.text + "".join(capsys.readouterr()) + repr(failed.value) + repr(vars(node)) + node.till
    assert wallet.client.hex() not in said and wallet.uri not in said


def test_settings_that_cannot_work_refuse_to_start() -> None:
    secret = "07" * 32
    for uri in ("", "https://x", f"nostr+walletconnect://{'00' * 32}?secret={secret}&relay=wss://r"):
        with pytest.raises(ConfigurationError) as refused:
            NwcNode.open(uri)
        assert "PENNYPOST_NWC_URI" in str(refused.value)
        assert secret not in str(refused.value)


def test_another_connection_has_another_till(wallet: ScriptedWallet) -> None:
    first, second = NwcNode(wallet.link), NwcNode(replace(wallet.link, secret=b"\5" * 32))
    assert first.till != second.till
    assert len(first.till) <= 32


async def test_the_balance_where_the_connection_may_ask_for_it(node: NwcNode, wallet: ScriptedWallet) -> None:
    assert await node.balance() == 77
    wallet.results["get_balance"] = {"error": {"code": "RESTRICTED", "message": "secret words"}}
    assert await node.balance() is None
