"""Limits: what one source may ask for, whose word counts for a source, and how many invoices may wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost_mint import invoices
from pennypost_mint.quotes import count_open_on, credit_on
from pennypost_mint.tables import mint_quotes
from tests.mint.desk import MINT, QUOTE, SWAP, Body, Desk, open_desk, settings_for
from tests.support.stamps import output

STRANGER, NEIGHBOUR, PROXY = "198.51.100.1", "198.51.100.2", "192.0.2.7"
ONE_SAT = {"amount": 1, "unit": "sat"}


def client(desk: Desk, peer: str, forwarded: str = "") -> httpx.AsyncClient:
    """A wallet at the mint's routes that connects from `peer`."""
    app = desk.http._transport.app  # type: ignore[attr-defined]  # pyright: ignore
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(peer, 50_000)), base_url="http://mint", headers=headers
    )


async def statuses(http: httpx.AsyncClient, count: int) -> list[int]:
    """Of so many requests for a quote."""
    return [(await http.post(QUOTE, json=ONE_SAT)).status_code for _ in range(count)]


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Desk]:
    """A mint whose sources may spend 60 units of a kind, and no more for hours."""
    settings = settings_for(tmp_path, rate_limit=0.001, rate_burst=60, trusted_proxies=PROXY)
    async with open_desk(settings) as desk:
        yield desk


async def test_a_source_that_asks_too_much_is_told_when_to_come_back(strict: Desk) -> None:
    async with client(strict, STRANGER) as http:
        assert await statuses(http, 2) == [200, 200]
        response = await http.post(QUOTE, json=ONE_SAT)
        assert response.status_code == 429
        assert set(response.json()) == {"detail", "code"}
        assert response.json()["detail"].endswith("[rate-limited]")
        assert 10_000 < int(response.headers["retry-after"]) <= 15_000
        assert response.headers["access-control-allow-origin"] == "*"
        assert STRANGER not in response.text


async def test_a_limit_is_for_one_source_and_one_kind_of_request(strict: Desk) -> None:
    async with client(strict, STRANGER) as http, client(strict, NEIGHBOUR) as other:
        assert await statuses(http, 3) == [200, 200, 429]
        assert await statuses(other, 3) == [200, 200, 429]
        assert (await http.post(SWAP, json={"inputs": [], "outputs": []})).json()["code"] == 11005
        assert (await http.get("/v1/info")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (QUOTE, ONE_SAT),
        (f"{QUOTE}/check", {"quotes": []}),
        (MINT, {"quote": "ab" * 16, "outputs": []}),
        (f"{MINT}/batch", {"quotes": ["ab" * 16], "outputs": []}),
        (SWAP, {"inputs": [], "outputs": []}),
        ("/v1/checkstate", {"Ys": []}),
        ("/v1/restore", {"outputs": []}),
    ],
)
async def test_every_kind_of_request_is_limited(strict: Desk, path: str, body: Body) -> None:
    async with client(strict, STRANGER) as http:
        found = [(await http.post(path, json=body)).status_code for _ in range(61)]
        assert found[0] != 429
        assert found[-1] == 429


async def test_asking_for_a_quote_is_limited(strict: Desk) -> None:
    async with client(strict, STRANGER) as http:
        found = [(await http.get(f"{QUOTE}/{'ab' * 16}")).status_code for _ in range(61)]
        assert found == [400] * 60 + [429]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_costs_more(strict: Desk, chunked: bool) -> None:
    body = json.dumps({"inputs": [], "outputs": [], "x": "x" * 30 * 1_024}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    async with client(strict, STRANGER) as http:
        content: Any = pieces if chunked else lambda: body
        found = [(await http.post(SWAP, content=content())).status_code for _ in range(3)]
    assert found == [400, 429, 429]


async def test_a_strangers_forwarded_header_is_not_believed(strict: Desk) -> None:
    found: list[int] = []
    for number in range(4):
        async with client(strict, STRANGER, forwarded=f"203.0.113.{number}") as http:
            found += await statuses(http, 1)
    assert found == [200, 200, 429, 429]


async def test_a_trusted_proxys_is(strict: Desk) -> None:
    async with client(strict, PROXY, forwarded=STRANGER) as http:
        assert await statuses(http, 3) == [200, 200, 429]
    async with client(strict, PROXY, forwarded=NEIGHBOUR) as http:
        assert await statuses(http, 3) == [200, 200, 429]
    async with client(strict, STRANGER) as http:
        assert await statuses(http, 1) == [429]
    async with client(strict, PROXY, forwarded=f"203.0.113.9, {STRANGER}") as http:
        assert await statuses(http, 1) == [429]


async def test_the_defaults_do_not_hurt_many_behind_one_address(tmp_path: Path) -> None:
    """300 purchases at once from one address, each asked about ten times."""
    async with open_desk(settings_for(tmp_path)) as desk, client(desk, STRANGER) as http:
        assert set(await statuses(http, 300)) == {200}
        asked = [(await http.get(f"{QUOTE}/{'ab' * 16}")).status_code for _ in range(3_000)]
        assert set(asked) == {400}


async def test_no_limit_when_the_operator_says_so(tmp_path: Path) -> None:
    async with open_desk(settings_for(tmp_path, rate_limit=0, rate_burst=1)) as desk, client(desk, STRANGER) as http:
        assert await statuses(http, 20) == [200] * 20


async def test_so_many_invoices_wait_and_no_more(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk(settings_for(tmp_path, database_url, max_open_invoices=3)) as desk:
        quotes = [await desk.quote(1) for _ in range(3)]
        response = await desk.http.post(QUOTE, json=ONE_SAT)
        assert (response.status_code, response.headers["retry-after"]) == (503, "60")
        assert response.json()["detail"].endswith("[invoices]")

        # What is paid makes room, what is bought and issued meanwhile is not held up.
        monkeypatch.setattr(invoices, "COUNT_AGAIN", 0)
        await desk.database.write(_settle, quotes[0])
        body = {"quote": quotes[0]["quote"], "outputs": desk.messages([output(1)])}
        await desk.done(MINT, body)
        await desk.quote(1)
        assert (await desk.http.post(QUOTE, json=ONE_SAT)).status_code == 503


async def test_the_bound_holds_for_those_who_ask_at_once_and_counts_no_refused_request(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a count in their midst would miss those that are not stored yet
    monkeypatch.setattr(invoices, "COUNT_AGAIN", 3_600)
    async with open_desk(settings_for(tmp_path, database_url, max_open_invoices=3)) as desk:
        for _ in range(4):
            assert (await desk.http.post(QUOTE, json=ONE_SAT | {"unit": "usd"})).status_code == 400
        answers = await asyncio.gather(*(desk.http.post(QUOTE, json=ONE_SAT) for _ in range(9)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 6


async def test_an_invoice_that_expired_does_not_wait(tmp_path: Path, database_url: str) -> None:
    async with open_desk(settings_for(tmp_path, database_url)) as desk:
        first, last = (await desk.quote(1))["expiry"], (await desk.quote(1))["expiry"]
        for now, most, waiting in ((0, 10, 2), (0, 1, 1), (first - 1, 10, 2), (last, 10, 0)):
            assert await desk.database.read(count_open_on, now, most) == waiting


def _settle(connection: Any, quote: Body) -> None:
    found = connection.execute(mint_quotes.select().where(mint_quotes.c.id == quote["quote"])).one()
    assert credit_on(connection, found.payment_hash, 1_000, 1) == 1
