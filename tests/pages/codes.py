"""QR codes as a scanner sees them: the page's drawing read by the `qr` package, moving ones also by bc-ur."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from tests.support.require import require
from tests.support.wallets import PROGRAM

PAGES = Path(__file__).parents[2] / "postoffice" / "pages"
DRAWN = """selector => {
    const drawing = document.querySelector(selector);
    const size = Number(drawing.getAttribute('viewBox').split(' ')[2]);
    return {size, path: drawing.querySelector('path').getAttribute('d')};
}"""


async def drawn(page: Page, selector: str) -> dict[str, Any]:
    """The code that is drawn there now."""
    await page.wait_for_selector(f"{selector} path")
    return await page.evaluate(DRAWN, f"{selector} svg")


def decoded(codes: list[dict[str, Any]]) -> tuple[list[str], str | None]:
    """What each code says, and what they say together as parts of an animated one (NUT-16)."""
    require((PAGES / "node_modules" / "qr").exists(), "the pages' packages are not installed (make node)")
    done = subprocess.run(
        [PROGRAM, "test/decode.mjs"], cwd=PAGES, input=json.dumps(codes), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["texts"], found["whole"]
