"""The front page: by Accept NIP-11, HTML or text; what it says is what holds."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pennypost.protocol.event import event_json
from pennypost.protocol.price import parse_prices
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.app import Service
from tests.postoffice.house import Author, House, open_house
from tests.support.server import clean_environment

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
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
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


# --- what it says to do works


async def _snippets(house: House) -> list[str]:
    """The blocks of code of the page: commands, then Python."""
    found = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", (await _page(house)).text, re.S)
    return [unescape(each) for each in found]


async def _run(folder: Path, *command: str | Path) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=folder,
        env=clean_environment(PENNYPOST_HOME=str(folder / "home"), HOME=str(folder), PYTHONUTF8="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


async def test_the_commands_it_shows_work(house: House, tmp_path: Path) -> None:
    """All but the installation, to one's own address in the place of the example's."""
    commands, _ = await _snippets(house)
    install, *lines = commands.splitlines()
    assert install == "pip install pennypost"
    assert [line.split()[1] for line in lines] == ["keys", "wallet", "send", "inbox"]
    npub, told = "", ""
    for line in lines:
        words = [word.strip('"') for word in line.replace("npub1…", npub).split()]
        told = await _run(tmp_path, Path(sys.executable).with_name("pennypost"), *words[1:])
        npub = npub or re.findall(r"npub1[0-9a-z]{58}", told)[0]
    assert "hello" in told


async def test_the_program_it_shows_works(house: House, tmp_path: Path) -> None:
    _, program = await _snippets(house)
    home = tmp_path / "my-home"
    before = f"""from pennypost import Client
with Client("{house.url}", "my-home") as me: print(me.npub)"""
    npub = (await _run(tmp_path, sys.executable, "-c", before)).strip()
    assert home.is_dir() and program.count("npub1…") == 1
    told = await _run(tmp_path, sys.executable, "-c", program.replace("npub1…", npub))
    assert told.split() == [npub, "hello"]


async def test_any_client_can_post_as_it_says(house: House) -> None:
    """By the frame's third element and by the header; the mint it names sells over Lightning in sat."""
    text = re.sub(r"<[^>]+>", "", (await _page(house)).text)
    relay, address = re.findall(r"It is a relay at (\S+)\. .* header X-Cashu of POST (\S+)\.", text)[0]
    assert relay == house.websocket_url.rstrip("/")
    async with house.relay() as line:
        assert (await line.post(Author().sign(), house.purse.token())).accepted
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        headers = {"x-cashu": house.purse.token()}
        answer = await http.post(address, content=event_json(Author().sign()), headers=headers)
        assert answer.status_code == 200, answer.text
        mint = re.findall(r"Add the mint (\S+) \(unit sat\)", text)[0]
        methods = (await http.get(f"{mint}/v1/info")).json()["nuts"]["4"]["methods"]
    assert [(each["method"], each["unit"]) for each in methods] == [("bolt11", "sat")]
