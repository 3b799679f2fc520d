"""Pictures of all pages for the docs, in both schemes: `python -m tests.pages.pictures`."""

from __future__ import annotations

import asyncio
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from tests.pages.browser import ARGUMENTS, program
from tests.pages.till import expire, order, pay_play, shown_token
from tests.support.server import Server

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
VIEWS: tuple[tuple[str, Literal["light", "dark"], int], ...] = (
    ("light", "light", 1_000),
    ("dark", "dark", 1_000),
    ("phone", "light", 390),
)
"""How a picture's name ends, the scheme, and the width in pixels."""

SMALLER = """async data => {
    const picture = new Image();
    picture.src = data;
    await picture.decode();
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [picture.width, picture.height];
    canvas.getContext('2d').drawImage(picture, 0, 0);
    return canvas.toDataURL('image/webp', 0.82).split(',')[1];
}"""


async def picture(page: Page, name: str) -> None:
    """Takes the whole page as `docs/pictures/<name>.webp`."""
    await page.evaluate("document.activeElement.blur()")
    await page.mouse.move(0, 0)
    taken = await page.screenshot(full_page=True, animations="disabled")
    blank = await page.context.new_page()
    small = await blank.evaluate(SMALLER, f"data:image/png;base64,{b64encode(taken).decode()}")
    await blank.close()
    (FOLDER / f"{name}.webp").write_bytes(b64decode(small))


async def buying(page: Page, server: Server, name: str) -> None:
    """Every step of a purchase that goes well, and the check of what was bought."""
    await page.goto(f"{server.url}/buy")
    await page.wait_for_selector("#choose:visible")
    await picture(page, f"buy-{name}")
    invoice = await order(page, server, 100)
    await page.wait_for_selector("#qr svg")
    await picture(page, f"pay-{name}")
    await pay_play(server, invoice)
    token = await shown_token(page)
    await page.wait_for_selector("#token-qr svg")
    await picture(page, f"stamps-{name}")
    await page.goto(f"{server.url}/buy/check")
    await page.fill("#tokens", token)
    await page.click("#go")
    await page.wait_for_selector("#found:visible")
    await picture(page, f"check-{name}")
    await page.click("#merge")
    await page.wait_for_selector("#done:visible #token-qr svg")
    await picture(page, f"merged-{name}")


async def going_wrong(page: Page, server: Server, name: str) -> None:
    """The two ends that are none, and the page that finds kept purchases again."""
    invoice = await order(page, server, 1_000)
    await expire(server, invoice)
    await page.reload()
    await page.wait_for_selector("#over:visible")
    await picture(page, f"over-{name}")
    invoice = await order(page, server, 10)
    await page.route("**/v1/mint/bolt11", lambda route: route.abort())
    await pay_play(server, invoice)
    await page.wait_for_selector("#trouble:visible")
    await picture(page, f"trouble-{name}")
    await page.goto(f"{server.url}/buy/check")
    await page.goto(f"{server.url}/buy")
    await page.wait_for_selector("#kept:visible")
    await picture(page, f"kept-{name}")
    await page.unroute_all()


async def by_connected_wallet(page: Page, server: Server, name: str) -> None:
    """The page that pays from a connected wallet: asked for the string, ready, and warning."""
    await order(page, server, 100)
    address = server.url + (await page.get_attribute("#nwc", "href") or "")
    await page.goto(address)
    await page.wait_for_selector("#connect:visible")
    await picture(page, f"wallet-{name}")
    await page.fill("#string", f"nostr+walletconnect://{'ab' * 32}?relay=wss://relay.example&secret={'11' * 32}")
    await page.click("#use")
    await page.wait_for_selector("#ready:visible")
    await picture(page, f"wallet-ready-{name}")
    await page.evaluate("document.getElementById('stranger').hidden = false")
    await page.click("#pay")
    await picture(page, f"wallet-stranger-{name}")


async def buyers_pages(browser: Browser, server: Server) -> None:
    """All of them, in both schemes and on a phone."""
    for name, scheme, width in VIEWS:
        context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 700})
        page = await context.new_page()
        for step in (buying, going_wrong, by_connected_wallet):
            await step(page, server, name)
        await context.close()


async def main() -> None:
    """All pictures."""
    FOLDER.mkdir(exist_ok=True)
    settings = {"PLAY_SETTLE_AFTER": "never", "NAME": "Penny Post Office"}
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), settings=settings) as server:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
            await buyers_pages(browser, server)
            await browser.close()


if __name__ == "__main__":
    from tests.pages.operator_pictures import operators_pages

    asyncio.run(main())
    asyncio.run(operators_pages())
