"""The largest things that strangers send, at their own size, to an office with limits as wide as they can be set."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from websockets.asyncio.client import connect

from pennypost.protocol.token import Proof
from pennypost_mint.runtime.limits import KIB, MAX_FILTER_VALUES, MOST_EVENT
from tests.postoffice.house import Author, House, wrap
from tests.support.relay import plain

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * KIB
PATIENCE = 60


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared_house: House) -> AsyncIterator[House]:
    def reload(**limits: Any) -> None:
        shared_house.service.load = lambda: shared_house.settings.model_copy(update=limits)
        shared_house.service.reload()

    reload(max_message=MIB, max_event=MOST_EVENT)
    yield shared_house
    reload()


def _deletion(author: Author, mine: str) -> list[Any]:
    names = [["e", mine], *(["e", f"{number:064x}"] for number in range(75_000))]
    # its signature is over fewer: our own signer makes no such event
    return [plain(author.sign(5, names[0])) | {"tags": names}]


def _tag(author: Author, _mine: str) -> list[Any]:
    return [plain(author.sign(1, ["t", "x" * MIB]))]


def _token(author: Author, _mine: str) -> list[Any]:
    return [plain(author.sign(1)), "cashuB" + "A" * MIB]


TOO_LARGE: dict[str, Callable[[Author, str], list[Any]]] = {
    "a deletion of 75,000 ids": _deletion,
    "a tag of 1 MiB": _tag,
    "a token of 1 MiB": _token,
}


@pytest.mark.parametrize("case", TOO_LARGE)
async def test_past_every_setting(house: House, case: str) -> None:
    """The connection ends (1009), HTTP says 413, nothing is deleted or stored, and everyone else is served."""
    author = Author()
    mine = author.sign(1)
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        await house.pay(relay, [mine])
        frame = json.dumps(["EVENT", *TOO_LARGE[case](author, mine.id)])
        assert len(frame) > MIB
        async with connect(house.websocket_url, proxy=None, max_size=None, compression=None) as cut:
            await cut.recv()
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await cut.send(frame)
                await asyncio.wait_for(cut.recv(), PATIENCE)
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009
        answer = await http.post("/v1/events", content=frame)
        assert answer.status_code == 413
        assert await relay.fetch({"authors": [author.pubkey]}) == [plain(mine)]
        await house.pay(relay, [wrap()])


@pytest.mark.parametrize(("count", "taken"), [(MAX_FILTER_VALUES, True), (MAX_FILTER_VALUES + 1, False)])
async def test_five_thousand_authors(house: House, count: int, taken: bool) -> None:
    author = Author()
    mine = author.sign(1)
    authors = [author.pubkey, *(secrets.token_hex(32) for _ in range(count - 1))]
    async with house.relay() as relay:
        await house.pay(relay, [mine])
        await relay.send(["REQ", "x", {"authors": authors}])
        # behind the AUTH that every connection begins with
        frames = [await asyncio.wait_for(relay.frames.get(), PATIENCE) for _ in range(2 + taken)][1:]
        if taken:
            assert frames == [["EVENT", "x", plain(mine)], ["EOSE", "x"]]
        else:
            assert frames[0][:2] == ["CLOSED", "x"] and frames[0][2].endswith("[filter]")


def _proofs(house: House) -> str:
    good = house.purse.proof()
    return house.purse.token(good, *(Proof(1, good.id, f"{number:x}", good.C) for number in range(9_999)))


STAMPS: dict[str, Callable[[House], str]] = {
    "10,000 proofs": _proofs,
    "a token as long as a message may be": lambda house: "cashuB" + "A" * (MIB - 2 * KIB),
    "the same in the older form": lambda house: "cashuA" + "A" * (MIB - 2 * KIB),
}


@pytest.mark.parametrize("case", STAMPS)
async def test_large_stamps(house: House, case: str) -> None:
    """Refused at once; the event is not stored, and is taken with a good stamp afterwards."""
    event, token = wrap(), STAMPS[case](house)
    assert 256 * KIB < len(token) < MIB
    async with house.relay() as relay:
        answer = await relay.post(event, token)
        assert (answer.accepted, answer.code) == (False, "stamp-malformed")
        assert await relay.fetch({"ids": [event.id]}) == []
        assert (await relay.post(event, house.purse.token())).accepted


async def test_the_largest_event(house: House) -> None:
    """As large as PENNYPOST_MAX_EVENT can be it is stored byte for byte."""
    event = Author().sign(1, ["t", "x" * (MOST_EVENT - KIB)])
    async with house.relay() as relay:
        await house.pay(relay, [event])
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]
