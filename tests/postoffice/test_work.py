"""Proof of work at the office (NIP-13), as its price file asks for it."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from pennypost.protocol.event import Event, compute_id, sign_event
from pennypost.protocol.work import difficulty
from tests.postoffice.house import Author, House, open_house

PRICES = """
[[rule]]
kinds = [1]
work = 8

[[rule]]
kinds = [7]
work_instead = 8

[[rule]]
"""


def mined(author: Author, kind: int, bits: int, target: str | None = None) -> Event:
    """A signed event with that much work, committed to it or to another target."""
    now = int(time.time())
    for nonce in range(1_000_000):
        tags = [["nonce", str(nonce), target if target is not None else str(bits)]]
        if difficulty(compute_id(author.pubkey, now, kind, tags, "")) >= bits:
            return sign_event(
                author.secret, created_at=now, kind=kind, tags=tags, content="", aux=secrets.token_bytes(32)
            )
    raise AssertionError("no luck")


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "prices.toml").write_text(PRICES)
    async with open_house(tmp_path, price_file=str(tmp_path / "prices.toml")) as opened:
        yield opened


async def test_work_beside_the_stamp(house: House) -> None:
    """Without it: `pow:`, and the stamp is good; with it the stamp is still needed. Deletions need none."""
    author, proof = Author(), house.purse.proof()
    async with house.relay() as relay:
        for event in (author.sign(1), mined(author, 1, 8, "7"), mined(author, 1, 8, "")):
            answer = await relay.post(event, house.purse.token(proof))
            assert (answer.accepted, answer.code) == (False, "work") and answer.message.startswith("pow:")
        assert await house.spent(proof) == [False]
        worked = mined(author, 1, 8)
        assert (await relay.post(worked)).code == "stamp-required"
        assert (await relay.post(worked, house.purse.token(proof))).accepted
        assert await house.spent(proof) == [True]
        await house.pay(relay, [author.sign(4)])
        assert (await relay.post(author.sign(5, ["e", worked.id]))).accepted


async def test_work_instead_of_the_stamp(house: House) -> None:
    """The stamp, where there is one, is not touched; less work needs one."""
    author, proof = Author(), house.purse.proof()
    async with house.relay() as relay:
        assert (await relay.post(mined(author, 7, 8), house.purse.token(proof))).accepted
        assert await house.spent(proof) == [False]
        assert (await relay.post(mined(author, 7, 8, "7"))).code == "stamp-required"
        assert (await relay.post(mined(author, 4, 8))).code == "stamp-required"
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        document = (await http.get("/", headers={"accept": "application/nostr+json"})).json()
    assert 13 in document["supported_nips"] and "min_pow_difficulty" not in document["limitation"]
    assert [fee.get("work_instead") for fee in document["fees"]["stamp"]] == [None, 8, None]
