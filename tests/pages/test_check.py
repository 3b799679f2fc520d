"""The check page: what is spent, what is not, and one token out of several, whatever happens on the way."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from pennypost.protocol.token import parse_token
from tests.pages.browser import lose_answer
from tests.pages.till import open_check, order, pay_play, purchases, shown_token
from tests.support.server import Server

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("pages"), pytest.mark.timeout(300)]

Contexts = Callable[..., Awaitable[BrowserContext]]

SWAP = re.compile(r"/v1/swap$")


async def bought(page: Page, office: Server, amount: int) -> str:
    await pay_play(office, await order(page, office, amount))
    return await shown_token(page)


async def check(page: Page, office: Server, text: str) -> list[str]:
    """Checks a text: the state of each token in it."""
    await open_check(page, office)
    await page.fill("#tokens", text)
    await page.click("#go")
    await expect(page.locator("#found")).to_be_visible()
    return await page.locator("#rows td:last-child").all_inner_texts()


async def test_two_tokens_into_one(page: Page, office: Server) -> None:
    tokens = [await bought(page, office, 10), await bought(page, office, 5)]
    assert await check(page, office, f"two of them: {tokens[0]}\n{tokens[1]}, {tokens[0]}") == ["Unspent."] * 2
    await expect(page.locator("#sums")).to_contain_text("15 stamps")
    await page.dblclick("#merge")
    merged = await shown_token(page)
    assert sum(proof.amount for proof in parse_token(merged).proofs) == 15
    states = await check(page, office, "\n".join([*tokens, merged]))
    assert states == ["Spent", "Spent", "Unspent."]
    # exchanged once more, the merged one is void, too
    await page.click("#merge")
    await shown_token(page)
    assert await check(page, office, merged) == ["Spent"]
    await expect(page.locator("#merging")).to_be_hidden()


async def test_a_merge_that_is_cut_off_is_finished_later(page: Page, office: Server) -> None:
    """The mint has exchanged them and the answer is lost, again and again; another page gets them."""
    token = await bought(page, office, 10)
    await check(page, office, token)
    await page.route(SWAP, lose_answer(times=100))
    await page.click("#merge")
    await expect(page.locator("#trouble")).to_be_visible()
    link = page.url
    await page.unroute(SWAP)
    await page.goto(f"{office.url}/buy")
    await page.goto(f"{office.url}/buy/check")
    merged = await shown_token(page)
    assert sum(proof.amount for proof in parse_token(merged).proofs) == 10
    assert "#m1." in link


async def test_a_merge_that_can_never_be_finished(page: Page, contexts: Contexts, office: Server) -> None:
    """Somebody else was faster with some of it: the rest is exchanged, and the page does not come back to it."""
    tokens = [await bought(page, office, 10), await bought(page, office, 5)]
    await check(page, office, " ".join(tokens))
    await page.route(SWAP, lambda route: route.abort())
    await page.click("#merge")
    await expect(page.locator("#trouble-tries")).to_be_hidden()
    await expect(page.locator("#retry")).to_be_visible()
    await page.unroute(SWAP)
    faster = await (await contexts()).new_page()
    await check(faster, office, tokens[0])
    await faster.click("#merge")
    await shown_token(faster)

    await page.goto(f"{office.url}/buy")
    await page.goto(f"{office.url}/buy/check")
    await expect(page.locator("#drop")).to_be_visible()
    await expect(page.locator("#sums")).to_contain_text("5 stamps")
    assert [each["state"] for each in await purchases(page) if "inputs" in each] == ["lost"]
    await page.click("#merge")
    assert sum(proof.amount for proof in parse_token(await shown_token(page)).proofs) == 5
    await page.goto(f"{office.url}/buy")
    await page.goto(f"{office.url}/buy/check")
    assert await check(page, office, tokens[1]) == ["Spent"]
    await expect(page.locator("#trouble")).to_be_hidden()


async def test_a_merge_that_the_mint_refuses_stands_in_nobodys_way(page: Page, office: Server) -> None:
    """The next one is finished; the refused one can be forgotten."""
    tokens = [await bought(page, office, 4), await bought(page, office, 2)]
    await page.route(SWAP, lambda route: route.abort())
    for index, token in enumerate(tokens):
        await page.goto(f"{office.url}/buy")
        await check(page, office, token)
        # the newest comes first
        await page.evaluate("ahead => { const now = Date.now; Date.now = () => now() + ahead; }", index * 60_000)
        await page.click("#merge")
        await expect(page.locator("#retry")).to_be_visible()
        await expect(page).to_have_url(re.compile(rf"#m1\.[^.]+\.{(4, 2)[index]}$"))
    await page.goto(f"{office.url}/buy")
    await page.unroute(SWAP)

    async def refuse(route: Route) -> None:
        inputs = (route.request.post_data_json or {})["inputs"]
        if sum(proof["amount"] for proof in inputs) == 2:
            await route.fulfill(status=400, json={"code": 20999, "detail": "no"})
        else:
            await route.continue_()

    await page.route(SWAP, refuse)
    await page.goto(f"{office.url}/buy/check")
    assert sum(proof.amount for proof in parse_token(await shown_token(page)).proofs) == 4
    await page.goto(f"{office.url}/buy")
    await page.goto(f"{office.url}/buy/check")
    await page.click("#drop")
    await expect(page.locator("#trouble")).to_be_hidden()
    await expect(page.locator("#check")).to_be_visible()
    assert [each["state"] for each in await purchases(page) if "inputs" in each] == ["done"]


async def test_the_link_of_a_merge_is_enough(page: Page, office: Server) -> None:
    """Where the browser keeps nothing, the mint's memory of what it signed gives the stamps back (NUT-09)."""
    token = await bought(page, office, 10)
    await page.add_init_script("Object.defineProperty(window, 'indexedDB', {value: undefined})")
    await check(page, office, token)
    await page.click("#merge")
    merged = await shown_token(page)
    await page.reload()
    assert await shown_token(page) == merged


async def test_what_cannot_be_used(page: Page, office: Server) -> None:
    token = await bought(page, office, 10)
    proofs = parse_token(token)
    assert proofs.mint == office.url
    for text in ("", "no token here", "cashu"):
        await open_check(page, office)
        await page.fill("#tokens", text)
        await page.click("#go")
        await expect(page.locator("#tokens-problem")).not_to_be_empty()
        await expect(page.locator("#tokens")).to_be_focused()
    [cut] = await check(page, office, token[:-20])
    assert cut.startswith("Not readable")
    elsewhere = (
        "cashuAeyJ0b2tlbiI6W3sibWludCI6Imh0dHBzOi8vODMzMy5zcGFjZTozMzM4IiwicHJvb2ZzIjpbeyJhbW91bnQiOjIsImlkIjoiMDA5YTFm"
        "MjkzMjUzZTQxZSIsInNlY3JldCI6IjQwNzkxNWJjMjEyYmU2MWE3N2UzZTZkMmFlYjRjNzI3OTgwYmRhNTFjZDA2YTZhZmMyOWUyODYxNzY4YT"
        "c4MzciLCJDIjoiMDJiYzkwOTc5OTdkODFhZmIyY2M3MzQ2YjVlNDM0NWE5MzQ2YmQyYTUwNmViNzk1ODU5OGE3MmYwY2Y4NTE2M2VhIn1dfV19"
    )
    [foreign] = await check(page, office, elsewhere)
    assert "https://8333.space:3338" in foreign
