"""A mint whose database is gone, full, read-only or slow: 503 and when to come back; nothing is half done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from pennypost_mint.runtime import database as databases
from tests.faults.conftest import Scene
from tests.faults.ways import SLOW, Crashed, FileMoved, NoPageMore
from tests.support.stamps import Output, Stamp, output

QUOTE, MINT, SWAP = "/v1/mint/quote/bolt11", "/v1/mint/bolt11", "/v1/swap"
MANY = 600
"""Outputs of a request that needs pages of its own."""

LEAKS = ("sql", "select", "insert", "postgres", "asyncpg", "traceback", "errno", "disk", "file")


def _body(scene: Scene, outputs: Sequence[Output], **more: Any) -> bytes:
    return json.dumps(more | {"outputs": [made.message(scene.mint.active) for made in outputs]}).encode()


def _swap(scene: Scene, stamps: Sequence[Stamp], outputs: Sequence[Output]) -> bytes:
    inputs = [
        {"amount": each.proof.amount, "id": each.proof.id, "secret": each.proof.secret, "C": each.proof.C}
        for each in stamps
    ]
    return _body(scene, outputs, inputs=inputs)


async def _paid_quote(scene: Scene, amount: int) -> str:
    quote = (await scene.mint.post(QUOTE, {"amount": amount, "unit": "sat"}))["quote"]
    async with asyncio.timeout(60):
        while (await scene.http.get(f"{QUOTE}/{quote}")).json()["state"] != "PAID":
            await asyncio.sleep(0.01)
    return str(quote)


async def _until_served(scene: Scene, path: str, body: bytes) -> httpx.Response:
    """As a wallet would: again while it is told to come back."""
    async with asyncio.timeout(60):
        while True:
            response = await scene.http.post(path, content=body)
            if response.status_code != 503:
                return response
            _check_refusal(response)
            await asyncio.sleep(0.05)


def _check_refusal(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert 0 < int(response.headers["retry-after"]) <= 60
    refusal = response.json()
    assert set(refusal) == {"detail", "code"} and isinstance(refusal["code"], int)
    assert not [word for word in LEAKS if word in refusal["detail"].lower().replace("database", "")]


async def test_come_back_later(scene: Scene) -> None:
    """Every request that writes is refused with 503; later the same request is served, once."""
    stamps = [Stamp(scene.house.url, scene.house.purse.proof(1024))]
    quote = await _paid_quote(scene, MANY)
    parts = [output(512), *(output() for _ in range(512))]
    bought = [output() for _ in range(MANY)]
    swap, issue = _swap(scene, stamps, parts), _body(scene, bought, quote=quote)
    ask = json.dumps({"amount": 1, "unit": "sat"}).encode()

    await scene.fault.begin()
    try:
        writes = [(SWAP, swap), (MINT, issue)] + ([] if scene.fault.small_writes else [(QUOTE, ask)])
        for response in await asyncio.gather(*(scene.http.post(path, content=body) for path, body in writes * 3)):
            _check_refusal(response)
        ys = json.dumps({"Ys": [stamp.y.hex() for stamp in stamps]}).encode()
        looks = [
            await scene.http.get(f"{QUOTE}/{quote}"),
            await scene.http.post("/v1/checkstate", content=ys),
            await scene.http.post("/v1/restore", content=_body(scene, parts)),
            await scene.http.get("/readyz"),
        ]
        for response in looks:
            if scene.fault.reads:
                assert response.status_code == 200, response.text
            else:
                _check_refusal(response)
        # what needs no database is served all the while
        assert (await scene.http.get("/v1/keys")).status_code == 200
    finally:
        await scene.fault.end()

    response = await _until_served(scene, "/v1/checkstate", ys)
    assert response.json()["states"][0]["state"] == "UNSPENT"
    assert await scene.mint.restore(parts) == [] == await scene.mint.restore(bought)
    for path, body, outputs in ((SWAP, swap, parts), (MINT, issue, bought)):
        response = await _until_served(scene, path, body)
        assert response.status_code == 200, response.text
        again = await scene.http.post(path, content=body)
        assert again.json() == response.json() and len(again.json()["signatures"]) == len(outputs)
    assert await scene.mint.states(stamps) == ["SPENT"]
    # payments are heard of again
    assert len(await scene.mint.buy(3)) == 3


@pytest.mark.parametrize("fault", SLOW, indirect=True, ids=lambda kind: kind.__name__)
async def test_slow_is_not_away(scene: Scene) -> None:
    """A database that pauses makes everyone wait and refuses nobody."""
    quotes = [await _paid_quote(scene, 2) for _ in range(5)]
    stamps = [Stamp(scene.house.url, scene.house.purse.proof()) for _ in range(20)]
    await scene.fault.begin()
    requests = [(SWAP, _swap(scene, [stamp], [output()])) for stamp in stamps]
    requests += [(MINT, _body(scene, [output(2)], quote=quote)) for quote in quotes]
    answers = await asyncio.gather(*(scene.http.post(path, content=body) for path, body in requests))
    await scene.fault.end()
    assert {answer.status_code for answer in answers} == {200}
    assert set(await scene.mint.states(stamps)) == {"SPENT"}


@pytest.mark.parametrize("fault", [FileMoved, NoPageMore, Crashed], indirect=True, ids=lambda kind: kind.__name__)
async def test_away_in_the_middle_of_it(scene: Scene) -> None:
    """Wallets that come back as they are told get everything, once, whatever was under way."""
    stamps = [Stamp(scene.house.url, scene.house.purse.proof(8)) for _ in range(200)]
    made = [[output() for _ in range(8)] for _ in stamps]
    bodies = [_swap(scene, [stamp], outputs) for stamp, outputs in zip(stamps, made, strict=True)]
    some = asyncio.Event()
    next_one = iter(bodies)
    answers: dict[bytes, httpx.Response] = {}

    async def wallet() -> None:
        for body in next_one:
            answers[body] = await _until_served(scene, SWAP, body)
            if len(answers) == 20:
                some.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(wallet())
        await some.wait()
        await scene.fault.begin()
        await asyncio.sleep(0.3)
        await scene.fault.end()
    assert {answer.status_code for answer in answers.values()} == {200} and len(answers) == len(bodies)
    for body, outputs in zip(bodies, made, strict=True):
        assert (await scene.http.post(SWAP, content=body)).json() == answers[body].json()
        assert len(await scene.mint.restore(outputs)) == len(outputs)
    assert set(await scene.mint.states(stamps)) == {"SPENT"}


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection to PostgreSQL, and a short wait for it or for SQLite's lock."""
    for name, value in (("POOL", 1), ("OVERFLOW", 0), ("POOL_SECONDS", 0.3), ("BUSY_TIMEOUT_MS", 300)):
        monkeypatch.setattr(databases, name, value)


@pytest.mark.parametrize("fault", SLOW, indirect=True, ids=lambda kind: kind.__name__)
async def test_slower_than_anyone_waits(little_patience: None, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that waited in vain for a connection or the lock are told to come back, like everyone else."""
    quote = await _paid_quote(scene, 1)
    stamps = [Stamp(scene.house.url, scene.house.purse.proof()) for _ in range(10)]
    bodies = [_swap(scene, [stamp], [output()]) for stamp in stamps]
    # it ends as soon as somebody was told so, however late the machine comes to that
    monkeypatch.setattr(scene.fault, "SECONDS", 30)
    await scene.fault.begin()
    asked = [asyncio.create_task(scene.http.post(SWAP, content=body)) for body in bodies]
    asked += [asyncio.create_task(scene.http.get(f"{QUOTE}/{quote}")) for _ in range(10)]
    for each in asyncio.as_completed(asked):
        if (await each).status_code != 200:
            break
    await scene.fault.end()
    answers = await asyncio.gather(*asked)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        _check_refusal(answer)
    for body in bodies:
        assert (await _until_served(scene, SWAP, body)).status_code == 200
