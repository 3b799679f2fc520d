"""An operator in a real browser: in by a link, a price changed and charged, and what must not work."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect
from sqlalchemy import update

from pennypost.protocol import nip19
from pennypost_mint.operate.promotions import issue
from pennypost_mint.runtime.database import Database, open_database
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.bans import Ban, ban_on
from pennypost_postoffice.pages.operator.routes import PAGES
from pennypost_postoffice.pages.operator.sign_in import make_link_on
from pennypost_postoffice.pages.operator.view import SHOWN
from pennypost_postoffice.tables import sign_ins
from tests.pages.browser import Watch, overflows, serious_faults
from tests.pages.operator_pictures import fill
from tests.pages.test_look import AXE
from tests.postoffice.house import Author
from tests.support.relay import Relay
from tests.support.require import require
from tests.support.server import Server
from tests.support.stamps import MintClient, token_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

OPERATOR = Author()
PRICE = "[[rule]]\nbase = {}\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An office that asks three stamps an event."""
    folder = tmp_path_factory.mktemp("operated")
    (folder / "prices.toml").write_text(PRICE.format(3))
    settings = {"PRICE_FILE": str(folder / "prices.toml"), "OPERATORS": OPERATOR.pubkey, "NAME": "Penny Post Office"}
    with Server(folder, settings=settings) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def context(chromium: Browser, served: Server) -> AsyncIterator[BrowserContext]:
    """A browser of its own; at the end none of its pages may have complained."""
    opened = await chromium.new_context()
    opened.set_default_timeout(30_000)
    watch = Watch(opened, served.url, f"http://localhost:{served.port}")
    yield opened
    await opened.close()
    assert not watch.complaints


async def link(server: Server) -> str:
    """As `pennypost office login` makes it."""
    opened = database(server)
    secret = await opened.write(make_link_on, int(time.time()))
    await opened.close()
    return f"{server.url}/operator/login?link={secret}"


def printed_link(server: Server) -> str:
    """What `pennypost office login` prints."""
    command = [Path(sys.executable).with_name("pennypost"), "office", "login", "--json"]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["url"]


async def sign_in(context: BrowserContext, server: Server, url: str = "") -> Page:
    page = await context.new_page()
    await page.goto(url or await link(server))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Money")).to_be_visible()
    return page


def database(server: Server) -> Database:
    return open_database("", Path(server.environment["PENNYPOST_DATA_DIR"]))


async def post(server: Server, stamps: int, author: Author | None = None) -> Any:
    """The answer to an event with a token of so many stamps."""
    opened = database(server)
    token, _ = await issue(opened, load_settings(server.environment), stamps, secrets.token_hex(8))
    await opened.close()
    async with Relay(server.websocket_url) as relay:
        return await relay.post((author or Author()).sign(), token)


async def test_an_operator_edits_a_price_and_the_next_event_is_charged_so(
    context: BrowserContext, served: Server
) -> None:
    page = await sign_in(context, served, printed_link(served))
    assert "[stamp-too-little]" in (await post(served, 1)).message
    await page.get_by_role("link", name="Prices").click()
    await page.get_by_label("Another list").fill(PRICE.format(1))
    await page.get_by_role("button", name="Preview").click()
    preview = page.get_by_role("region", name="Preview")
    await expect(preview.get_by_role("row", name="Letter, 1 KiB")).to_contain_text("cheaper")
    assert "[stamp-too-little]" in (await post(served, 1)).message, "a preview changes nothing"
    await page.get_by_role("button", name="Ask these prices").click()
    await expect(page.get_by_role("status")).to_be_visible()
    assert (await post(served, 1)).accepted
    await page.get_by_role("button", name="Back to the price file").click()
    await expect(page.get_by_role("status")).to_be_visible()
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        fees = (await http.get(served.url, headers={"accept": "application/nostr+json"})).json()["fees"]
    assert fees["publication"][0]["amount"] == 3


async def test_an_operator_bans_an_author(context: BrowserContext, served: Server) -> None:
    author = Author()
    page = await sign_in(context, served)
    await page.get_by_role("link", name="Bans").click()
    assert (await post(served, 3, author)).accepted
    form = page.locator("form", has=page.get_by_role("button", name="Ban", exact=True))
    await form.get_by_label("What").select_option("pubkey")
    await form.get_by_label("Key, id or number").fill(nip19.encode_npub(bytes.fromhex(author.pubkey)))
    await form.get_by_label("Reason").fill("<i>spam</i>")
    await form.get_by_role("button").click()
    await expect(page.get_by_role("status")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="<i>spam</i>")
    await expect(row).to_contain_text(author.pubkey[:12])
    assert "[banned]" in (await post(served, 3, author)).message
    assert (await post(served, 3)).accepted, "others are not"
    await row.get_by_role("button").click()
    await expect(row).to_have_count(0)
    assert (await post(served, 3, author)).accepted


async def test_an_operator_rotates_the_keyset(context: BrowserContext, served: Server) -> None:
    async with MintClient(served.url) as wallet, Relay(served.websocket_url) as relay:
        before = await wallet.buy(3)
        page = await sign_in(context, served)
        await page.get_by_role("link", name="Keysets").click()
        await page.get_by_role("button", name="Preview").click()
        coming = await page.locator(".preview code").inner_text()
        assert wallet.active == (await _active(served)) != coming, "a preview changes nothing"
        await page.get_by_role("button", name="Sign with this keyset").click()
        await expect(page.get_by_role("status")).to_be_visible()
        assert await _active(served) == coming
        # sent again by the browser's way back, it is not done again
        await page.reload()
        assert await _active(served) == coming
        token = token_of(*before)
        assert (await relay.post(Author().sign(), token)).accepted, "stamps of the old keyset stay good"
    async with MintClient(served.url) as wallet:
        assert [stamp.proof.id for stamp in await wallet.buy(1)] == [coming]


async def _active(server: Server) -> str:
    """The id of the keyset that signs, as wallets are told."""
    async with httpx.AsyncClient(timeout=60, trust_env=False, base_url=server.url) as http:
        (found,) = [each["id"] for each in (await http.get("/v1/keysets")).json()["keysets"] if each["active"]]
        return found


async def test_a_link_that_was_used_signs_nobody_in(chromium: Browser, served: Server) -> None:
    url = await link(served)
    for number in range(2):
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(url)
        await page.get_by_role("button", name="Sign in").click()
        if number == 0:
            await expect(page.get_by_role("heading", name="Money")).to_be_visible()
        else:
            await expect(page.locator(".notice[role=alert]")).to_be_visible()
            assert not await context.cookies()
        await context.close()


async def test_no_script_and_no_other_site_can_use_the_session(context: BrowserContext, served: Server) -> None:
    page = await sign_in(context, served)
    assert await page.evaluate("document.cookie") == ""
    # a page of another origin sends a form here, as a click of the operator's there would
    evil = f"http://localhost:{served.port}/healthz"
    other = await context.new_page()
    await other.goto(evil)
    async with other.expect_response(f"{served.url}/operator/keysets") as answered:
        await other.evaluate(
            """url => {
                const form = document.createElement('form');
                form.method = 'post';
                form.action = url;
                document.body.append(form);
                form.submit();
            }""",
            f"{served.url}/operator/keysets",
        )
    assert (await answered.value).status in (401, 403)
    # the same form of ours without the session's key
    await page.goto(f"{served.url}/operator/keysets")
    await page.get_by_role("button", name="Stop selling").click()
    await expect(page.get_by_role("button", name="Stop selling now")).to_be_visible()
    await page.evaluate("document.querySelectorAll('[name=key]').forEach(field => field.remove())")
    await page.get_by_role("button", name="Stop selling now").click()
    await expect(page.get_by_role("heading", name="Not done")).to_be_visible()
    async with httpx.AsyncClient(timeout=60, trust_env=False, base_url=served.url) as http:
        assert (await http.get("/v1/info")).json()["nuts"]["4"]["disabled"] is False


async def test_a_session_that_is_over(context: BrowserContext, served: Server) -> None:
    page = await sign_in(context, served)
    opened = database(served)
    await opened.write(lambda connection: connection.execute(update(sign_ins).values(until=int(time.time()))))
    await opened.close()
    await page.get_by_role("link", name="Health").click()
    await expect(page.get_by_role("heading", name="For the operator")).to_be_visible()
    page = await sign_in(context, served)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="For the operator")).to_be_visible()
    assert not await context.cookies()


async def test_sign_in_by_an_extension(context: BrowserContext, served: Server) -> None:
    """The extension (NIP-07) signs what the page's script asks of it; here our own code does its signing."""

    def sign(draft: dict[str, Any]) -> dict[str, Any]:
        made = OPERATOR.sign(draft["kind"], *draft["tags"], content=" ", at=draft["created_at"])
        return {name: getattr(made, name) for name in ("id", "pubkey", "created_at", "kind", "tags", "content", "sig")}

    page = await context.new_page()
    await page.expose_function("signForTest", sign)
    await page.add_init_script("window.nostr = { signEvent: draft => window.signForTest(draft) }")
    await page.goto(f"{served.url}/operator/login")
    await page.get_by_role("button", name="Sign in with an extension").click()
    await expect(page.get_by_role("heading", name="Money")).to_be_visible()


BUDGET = 100_000
"""Compressed bytes of a page's first load, with all that it needs."""

LARGER = ("/operator/health?hours=48", "/operator/quotes?state=all")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy(served: Server) -> Server:
    """The office with pages that are full: purchases, bans, refusals, a treasury (`made_up.py`)."""
    await fill(served, 3)
    return served


Examined = tuple[Page, Callable[[str], Awaitable[None]]]


@pytest_asyncio.fixture(loop_scope="session")
async def examined(chromium: Browser, busy: Server) -> AsyncIterator[Examined]:
    """An operator on a phone, and what looks at the page: axe-core finds nothing serious in either scheme,
    and nothing needs scrolling sideways."""
    require(AXE.exists(), "axe-core is not installed (make node)")
    context = await chromium.new_context(
        viewport={"width": 360, "height": 740}, bypass_csp=True, reduced_motion="reduce"
    )
    page = await context.new_page()

    async def clean(step: str) -> None:
        await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        await page.add_script_tag(path=AXE)
        assert not await serious_faults(page), step
        assert not await overflows(page), step

    yield page, clean
    await context.close()


async def test_everyone_can_use_every_page(examined: Examined, busy: Server) -> None:
    page, clean = examined
    await page.goto(await link(busy))
    await clean("a link")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Money")).to_be_visible()
    for path in ("/", "/operator/login", *(f"/operator/{name}" for name in PAGES)):
        await page.goto(busy.url + path)
        await clean(path)
    for path, rows in (("quotes?state=open", 4), ("quotes?state=paid", 1), ("quotes?state=lapsed", 2), ("bans", 4)):
        await page.goto(f"{busy.url}/operator/{path}")
        assert await page.locator("tbody tr").count() >= rows
        assert not await overflows(page), path


async def test_everyone_can_use_previews_and_answers(examined: Examined, busy: Server) -> None:
    page, clean = examined
    await page.goto(await link(busy))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Money")).to_be_visible()
    await page.goto(f"{busy.url}/operator/quotes")
    await page.get_by_role("button", name="Ask the node").first.click()
    await expect(page.get_by_role("status")).to_be_visible()
    await clean("the node was asked")
    for given in ("base =", PRICE.format(2)):
        await page.goto(f"{busy.url}/operator/prices")
        await page.get_by_label("Another list").fill(given)
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator(".notice[role=alert], .preview").first).to_be_visible()
        await clean(given)
    await page.goto(f"{busy.url}/operator/keysets")
    for button in ("Preview", "Stop selling"):
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_role("heading", name="Preview")).to_be_visible()
        await clean(button)
    await page.evaluate("document.querySelectorAll('[name=key]').forEach(field => field.remove())")
    await page.get_by_role("button", name="Stop selling now").click()
    await expect(page.get_by_role("heading", name="Not done")).to_be_visible()
    await clean("not done")


async def test_the_first_load_is_small(chromium: Browser, busy: Server) -> None:
    """What goes over the line for the front page and each full page of the operator's, nothing cached."""
    opened = database(busy)
    many = [Ban("event", secrets.token_hex(32), "a reason of its own", 1_000 + at) for at in range(SHOWN)]
    await opened.write(lambda connection: [ban_on(connection, each) for each in many])
    await opened.close()
    context = await chromium.new_context()
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    await session.send("Network.enable")
    loaded: list[int] = []
    session.on("Network.loadingFinished", lambda event: loaded.append(int(event["encodedDataLength"])))
    await page.goto(await link(busy))
    await page.get_by_role("button", name="Sign in").click()
    for path in ("/", "/operator", "/operator/login", *(f"/operator/{name}" for name in PAGES), *LARGER):
        await session.send("Network.clearBrowserCache")
        loaded.clear()
        await page.goto(busy.url + path, wait_until="networkidle")
        assert 4_000 < sum(loaded) < BUDGET, path
    await context.close()
