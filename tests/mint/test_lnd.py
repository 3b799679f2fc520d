"""LND: two real nodes, each way a payment can reach the mint; and what a broken node could answer."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint import till as tills
from pennypost_mint.lightning import Progress, rest
from pennypost_mint.lightning import lnd as lnds
from pennypost_mint.lightning.lnd import LndNode
from pennypost_mint.runtime.settings import Settings
from tests.mint.desk import MINT, QUOTE, Desk, open_desk
from tests.support.lightning import LightningBed
from tests.support.stamps import output

real = pytest.mark.xdist_group("lightning")


@pytest.fixture
def settings(lightning_bed: LightningBed, tmp_path: Path) -> Settings:
    chosen = {name.lower(): value for name, value in lightning_bed.settings.items()}
    return Settings.model_validate({"data_dir": tmp_path} | chosen)


@pytest.fixture
async def node(settings: Settings) -> AsyncIterator[LndNode]:
    opened = LndNode.open(settings.lnd_url, settings.lnd_macaroon_file, settings.lnd_cert_file)
    yield opened
    await opened.close()


async def pay(bed: LightningBed, quote: Any) -> bool:
    return await asyncio.to_thread(bed.pay, quote["request"])


async def command(bed: LightningBed, *words: str) -> None:
    await asyncio.to_thread(bed.command, *words)


async def until_paid(desk: Desk, quote: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        for _ in iter(int, 1):
            if (await desk.state_of(quote))["state"] == "PAID":
                return
            await asyncio.sleep(0.05)


async def mint_all(desk: Desk, quote: Any) -> None:
    outputs = desk.messages([output(8), output(2)])
    await desk.done(MINT, {"quote": quote["quote"], "outputs": outputs})


def deaf(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wallets' questions no longer make the mint ask the node: the stream and the rounds must do."""
    monkeypatch.setattr(tills, "ASKING", 0)


@real
async def test_bought_over_lightning(settings: Settings, lightning_bed: LightningBed) -> None:
    async with open_desk(settings, listening=True) as desk:
        info = (await desk.http.get("/v1/info")).json()
        assert "play" not in info["name"]
        assert "motd" not in info
        quote = await desk.quote(10, description="stamps for Bob")
        assert quote["request"].startswith("lnbcrt100n1")
        assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(8)])}) == 20001
        assert await pay(lightning_bed, quote)
        await until_paid(desk, quote)
        await mint_all(desk, quote)
        assert not await pay(lightning_bed, quote)


@real
async def test_the_stream_alone_credits_and_goes_on_over_a_restart(
    settings: Settings, lightning_bed: LightningBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(settings, listening=True) as desk:
        deaf(desk, monkeypatch)
        first, second = await desk.quote(10), await desk.quote(10)
        assert await pay(lightning_bed, first)
        await until_paid(desk, first)
    assert await pay(lightning_bed, second)

    async def nothing(_self: object) -> int:
        return 0

    monkeypatch.setattr(tills.Till, "reconcile", nothing)
    async with open_desk(settings, listening=True) as desk:
        await until_paid(desk, second)
        await mint_all(desk, second)


@real
async def test_paid_while_the_mint_is_down_is_found_by_the_first_round(
    settings: Settings, lightning_bed: LightningBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(settings) as desk:
        quote = await desk.quote(10)
    assert await pay(lightning_bed, quote)
    async with open_desk(settings) as desk:
        deaf(desk, monkeypatch)
        assert await desk.mint.till.reconcile() == 1
        await mint_all(desk, quote)


@real
async def test_the_node_is_killed_before_the_payment(
    settings: Settings, lightning_bed: LightningBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "BACK_OFF", (0.2, 1.0))
    async with open_desk(settings, listening=True) as desk:
        first = await desk.quote(10)
        assert await pay(lightning_bed, first)
        await until_paid(desk, first)
        quote = await desk.quote(10)
        await command(lightning_bed, "stop-mint-node", "kill")
        status, answer = await desk.ask(QUOTE, {"amount": 1, "unit": "sat"})
        assert (status, answer["code"]) == (503, 20000)
        await command(lightning_bed, "restart-mint-node")
        assert await pay(lightning_bed, quote)
        await until_paid(desk, quote)
        await mint_all(desk, quote)


@real
async def test_a_frozen_node_is_waited_for_and_not_by_wallets(
    settings: Settings, lightning_bed: LightningBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tills, "ASK_SECONDS", 0.5)
    async with open_desk(settings, listening=True) as desk:
        quote = await desk.quote(10)
        await command(lightning_bed, "freeze", "office")
        try:
            with monkeypatch.context() as patient:
                # past the wallet's patience, so that it alone can end the wait
                patient.setattr(rest, "SECONDS", 600.0)
                async with asyncio.timeout(30):
                    assert (await desk.state_of(quote))["state"] == "UNPAID"
        finally:
            await command(lightning_bed, "thaw", "office")
        assert await pay(lightning_bed, quote)
        await until_paid(desk, quote)


@real
async def test_an_expired_invoice_lapses(settings: Settings, node: LndNode, lightning_bed: LightningBed) -> None:
    async with open_desk(settings, lightning=Short(node)) as desk:
        quote = await desk.quote(10)
        async with asyncio.timeout(60):
            while (await node.look_up(desk_hash(await stored(desk, quote)))).progress is not Progress.LOST:
                await asyncio.sleep(0.2)
        assert not await pay(lightning_bed, quote)
        assert await desk.mint.till.reconcile() == 0
        assert (await stored(desk, quote)).state == "LAPSED"


@real
async def test_an_invoice_that_the_node_never_made(node: LndNode) -> None:
    assert (await node.look_up(bytes(32))).progress is Progress.LOST
    await node.check()


@real
async def test_only_the_pinned_certificate_is_trusted(settings: Settings, node: LndNode) -> None:
    assert settings.lnd_macaroon_file
    stranger = LndNode(settings.lnd_url, settings.lnd_macaroon_file.read_bytes(), None)
    with pytest.raises(LightningUnavailable):
        await stranger.check()
    await stranger.close()


@real
async def test_a_wrong_macaroon_sells_nothing_and_tells_nothing(settings: Settings) -> None:
    assert settings.lnd_cert_file
    stranger = LndNode(settings.lnd_url, b"\x02wrong", settings.lnd_cert_file.read_bytes())
    with pytest.raises(LightningUnavailable) as refused:
        await stranger.create_invoice(1, "", 60)
    assert "macaroon" not in str(refused.value)
    with pytest.raises(LightningUnavailable):
        await anext(stranger.settled(None))
    await stranger.close()


class Short:
    """The same node with invoices that expire at once."""

    play_money = False

    def __init__(self, node: LndNode) -> None:
        self._node = node
        self.till, self.look_up, self.settled = node.till, node.look_up, node.settled
        self.check = node.check

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Any:
        return await self._node.create_invoice(amount, memo, 1)

    async def close(self) -> None:
        return None


async def stored(desk: Desk, quote: Any) -> Any:
    from pennypost_mint.quotes import quote_on

    return await desk.database.read(quote_on, quote["quote"])


def desk_hash(quote: Any) -> bytes:
    return quote.payment_hash


# What a broken or hostile node could answer. None of it may become a credit, an exception or text for a stranger.

HASH = base64.b64encode(bytes(32)).decode()
GOOD = {"r_hash": HASH, "state": "SETTLED", "amt_paid_msat": "10000", "settle_index": "3"}

BROKEN: list[tuple[str, int, Any]] = [
    ("an error", 500, {"code": 2, "message": "permission denied: secret"}),
    ("a redirect", 302, {}),
    ("no JSON", 200, b"<html>"),
    ("no UTF-8", 200, b'{"r_hash": "\xff"}'),
    ("a list", 200, []),
    ("no hash", 200, {"state": "SETTLED"}),
    ("a hash that is none", 200, GOOD | {"r_hash": "zz"}),
    ("a short hash", 200, GOOD | {"r_hash": base64.b64encode(b"x").decode()}),
    ("another invoice", 200, GOOD | {"r_hash": base64.b64encode(b"\x01" * 32).decode()}),
    ("an amount in other digits", 200, GOOD | {"amt_paid_msat": "١٠"}),
    ("an amount with a sign", 200, GOOD | {"amt_paid_msat": "-5"}),
    ("an amount with a point", 200, GOOD | {"amt_paid_msat": "1.0"}),
    ("an endless amount", 200, GOOD | {"amt_paid_msat": "9" * 5_000}),
    ("an amount that is a number", 200, GOOD | {"amt_paid_msat": 10}),
]


def scripted(status: int, body: Any) -> LndNode:
    node = LndNode("https://lnd.invalid", b"m", None)
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    node._client = httpx.AsyncClient(
        base_url="https://lnd.invalid",
        transport=httpx.MockTransport(lambda _request: httpx.Response(status, **content)),
    )
    return node


@pytest.mark.parametrize(("status", "body"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_broken_answer_is_no_answer(status: int, body: Any) -> None:
    node = scripted(status, body)
    for ask in (node.look_up(bytes(32)), node.create_invoice(1, "", 60), node.check()):
        with pytest.raises(LightningUnavailable) as failed:
            await ask
        assert "secret" not in str(failed.value)
    await node.close()


async def test_a_good_answer_is_read() -> None:
    receipt = await scripted(200, GOOD).look_up(bytes(32))
    assert receipt == (bytes(32), Progress.SETTLED, 10_000, 3)
    for state, progress in (("OPEN", Progress.OPEN), ("ACCEPTED", Progress.OPEN), ("CANCELED", Progress.LOST)):
        held = await scripted(200, GOOD | {"state": state}).look_up(bytes(32))
        assert (held.progress, held.received_msat) == (progress, 0)


async def test_a_broken_line_ends_the_stream() -> None:
    import json

    lines = b"\n".join(json.dumps({"result": each}).encode() for each in (GOOD | {"state": "OPEN"}, GOOD)) + b"\n{}\n"
    stream = scripted(200, lines).settled(2)
    assert (await anext(stream)).position == 3
    with pytest.raises(LightningUnavailable):
        await anext(stream)


async def test_a_silent_stream_ends_quietly() -> None:
    def silent(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    node = scripted(200, {})
    node._client = httpx.AsyncClient(base_url="https://lnd.invalid", transport=httpx.MockTransport(silent))
    assert [receipt async for receipt in node.settled(None)] == []


FILES = [
    ("", None, None),
    ("https://x", None, None),
    ("https://x", "absent", None),
    ("https://x", "empty", None),
    ("http://x", "macaroon", "cert"),
    ("https://x", "macaroon", "absent"),
    ("https://x", "macaroon", "macaroon"),
]


@pytest.mark.parametrize(("url", "macaroon", "certificate"), FILES)
def test_settings_that_cannot_work_refuse_to_start(
    tmp_path: Path, url: str, macaroon: str | None, certificate: str | None
) -> None:
    (tmp_path / "macaroon").write_bytes(b"m")
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationError) as refused:
        LndNode.open(url, macaroon and tmp_path / macaroon, certificate and tmp_path / certificate)
    assert "PENNYPOST_LND_" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_another_node_has_another_till() -> None:
    first, second = LndNode("https://a", b"m", None), LndNode("https://b", b"m", None)
    assert first.till != second.till
    assert len(first.till) <= 32
    assert lnds.SILENCE < 120


@real
async def test_the_balance_is_told_by_a_credential_that_may_know_it(
    settings: Settings, lightning_bed: LightningBed, node: LndNode
) -> None:
    assert await node.balance() is None, "invoices:read and invoices:write do not allow it"
    admin = LndNode.open(settings.lnd_url, lightning_bed.admin_macaroon(), settings.lnd_cert_file)
    try:
        assert (await admin.balance() or 0) > 0
    finally:
        await admin.close()
