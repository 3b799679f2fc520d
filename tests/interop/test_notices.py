"""Lightning notices over real payments: a comment at LNbits, keysend between two LND nodes, a wallet that tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pennypost import AsyncClient
from pennypost.protocol.notice import MAX_NOTICE
from tests.interop.test_wallet_payments import lnd_link
from tests.sdk.test_mail import texts
from tests.support.lightning import LightningBed
from tests.support.lnbits import Lnbits
from tests.support.server import Server
from tests.support.wallets import AlbyWallet

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.timeout(300)]


async def test_a_comment_at_lnbits(server: Server, lightning_bed: LightningBed, lnbits: Lnbits, tmp_path: Path) -> None:
    address, key = await asyncio.to_thread(lnbits.address, "bob")
    link = lnd_link(lightning_bed, "payer")
    async with (
        AsyncClient(server.url, tmp_path / "alice", lightning=link) as alice,
        AsyncClient(server.url, tmp_path / "bob") as bob,
    ):
        await alice.stamps.buy(2)
        done = await alice.notices.send(bob.npub, "hello Bob", pay=address, sat=21)
        assert (done.carrier, done.signed, done.msat) == ("comment", True, 21_000)
        async with asyncio.timeout(30):
            while not (said := await asyncio.to_thread(lnbits.comments, key)):
                await asyncio.sleep(0.1)
        assert said == [done.notice] and len(said[0]) <= MAX_NOTICE
        announced = bob.notices.read(said[0])
        assert announced.sender == alice.npub
        assert (await bob.notices.fetch(announced.notice)).text == "hello Bob"


@pytest.mark.parametrize("receiver", ["node", "wallet"])
async def test_keysend_heard_by_the_receiver(
    serve: Callable[..., Server], lightning_bed: LightningBed, tmp_path: Path, receiver: str
) -> None:
    """Heard by the receiver's own LND, and by @getalby/sdk's wallet service, which tells of TLV records."""
    server = await asyncio.to_thread(serve)
    office = lightning_bed.nodes["office"]
    alby: AlbyWallet | None = None
    link = lnd_link(lightning_bed, "office")
    if receiver == "wallet":
        alby = AlbyWallet(server.url.replace("http", "ws"), office, log=tmp_path / "alby.log")
        await asyncio.to_thread(alby.start)
        link = alby.uri
    try:
        async with (
            AsyncClient(server.url, tmp_path / "alice", lightning=lnd_link(lightning_bed, "payer")) as alice,
            AsyncClient(server.url, tmp_path / "bob", lightning=link) as bob,
        ):
            await alice.stamps.buy(9)
            watching = bob.notices.watch()
            waiting = asyncio.ensure_future(anext(watching))
            sent: list[str] = []
            async with asyncio.timeout(90):
                while not waiting.done() and len(sent) < 9:
                    # Until the stream is open, nobody is told.
                    done = await alice.notices.send(bob.npub, "hello Bob", pay=office["pubkey"], sat=3)
                    sent.append(done.notice)
                    await asyncio.wait({waiting}, timeout=2)
                announced = await waiting
            await watching.aclose()
            assert announced.notice in sent
            assert (announced.sender, announced.msat) == (alice.npub, 3_000)
            assert (await bob.notices.fetch(announced.notice)).text == "hello Bob"
            assert await texts(bob) == ["hello Bob"] * len(sent)
    finally:
        if alby is not None:
            alby.kill()
