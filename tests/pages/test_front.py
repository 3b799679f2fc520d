"""The front page: by Accept NIP-11, HTML or text; what it says is what holds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pennypost.protocol.price import parse_prices
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.app import Service
from tests.postoffice.house import House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCEPTS = [
    ("application/nostr+json", "application/nostr+json"),
    ("application/nostr+json, text/html", "application/nostr+json"),
    ("application/json", "application/nostr+json"),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
    ("text/plain", "text/plain; charset=utf-8"),
    ("*/*", "text/plain; charset=utf-8"),
    ("", "text/plain; charset=utf-8"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(
        tmp_path_factory.mktemp("office"), name="<b>Penny</b>", contact="post@office.example"
    ) as opened:
        yield opened


async def _page(house: House, accept: str = "text/html") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(house.url + "/", headers={"accept": accept})


@pytest.mark.parametrize(("accept", "kind"), ACCEPTS)
async def test_what_is_asked_for_is_answered(house: House, accept: str, kind: str) -> None:
    answer = await _page(house, accept)
    assert answer.status_code == 200 and answer.headers["content-type"] == kind
    assert "accept" in {word.strip().lower() for word in answer.headers["vary"].split(",")}


async def test_the_page_says_what_holds(house: House) -> None:
    answer = await _page(house)
    text = answer.text
    assert "PLAY MONEY" in text and "PLAY MONEY" in (await _page(house, "text/plain")).text
    assert "<b>Penny" not in text and "&lt;b&gt;Penny" in text
    assert "post@office.example" in text and house.url in text and house.url.replace("http", "ws") in text
    assert 'href="/buy"' in text and "Keychat" in text and "10002" in text
    assert f"{house.settings.max_event // 1024} KiB" in text and "30 days" in text
    assert "set-cookie" not in answer.headers and "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?! type)|<style| style=|javascript:", text)


async def test_prices_are_those_that_are_asked(house: House) -> None:
    before = house.office.policy.prices
    house.office.policy.prices = parse_prices("[[rule]]\nkinds = [1059]\nbase = 4321\nwork = 17\nttl_default = 7200\n")
    text = (await _page(house)).text
    assert "kinds 1059" in text and "4,321 stamps" in text and "17 bits of work" in text and "2 hours" in text
    house.office.policy.prices = before


async def test_real_money_is_not_called_play_money(house: House) -> None:
    before = house.service.settings
    house.office.settings = before.model_copy(update={"lightning": "lnd"})
    assert "PLAY MONEY" not in (await _page(house)).text
    house.office.settings = before


async def test_a_mint_alone_has_a_page_too(tmp_path: Path) -> None:
    service = await Service.open(load_settings({}, data_dir=tmp_path, role="mint"), in_process=True)
    transport: Any = httpx.ASGITransport(service.asgi)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        page = await http.get("/", headers={"accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html") and "PLAY MONEY" in page.text
        assert (await http.get("/")).headers["content-type"].startswith("text/plain")
        assert (await http.get("/operator/login")).status_code == 200
    await service.close()
