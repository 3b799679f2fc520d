"""Pictures of all pages for the docs, in both schemes: `python -m tests.pages.pictures`."""

from __future__ import annotations

import asyncio
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from tests.pages.browser import ARGUMENTS, program
from tests.pages.till import order, pay_play, shown_token
from tests.support.server import Server

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
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
    taken = await page.screenshot(full_page=True, animations="disabled")
    blank = await page.context.new_page()
    small = await blank.evaluate(SMALLER, f"data:image/png;base64,{b64encode(taken).decode()}")
    await blank.close()
    (FOLDER / f"{name}.webp").write_bytes(b64decode(small))


async def buyer(browser: Browser, server: Server, scheme: str, name: str, width: int) -> None:
    """Every step of a purchase, and the check of what was bought."""
    context = await browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 700}
    )
    page = await context.new_page()
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
    await context.close()


async def main() -> None:
    """All pictures."""
    FOLDER.mkdir(exist_ok=True)
    settings = {"PLAY_SETTLE_AFTER": "never", "NAME": "Penny Post Office"}
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), settings=settings) as server:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
            await buyer(browser, server, "light", "light", 1_000)
            await buyer(browser, server, "dark", "dark", 1_000)
            await buyer(browser, server, "light", "phone", 390)
            await browser.close()


if __name__ == "__main__":
    from tests.pages.operator_pictures import operators_pages

    asyncio.run(main())
    asyncio.run(operators_pages())
